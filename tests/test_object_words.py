"""The lexicon and the reading of captions: against COCO's own class names, sentences read by hand."""

import importlib.util
import json
import runpy
from pathlib import Path

import pytest

from captioning.error_counts import coverage
from captioning.noun_phrases import read_caption, tokenize
from captioning.object_words import LEXICON, load_lexicon, plural_of


def test_every_class_of_coco_is_an_object_found_by_its_name():
    # Read, not imported: torchvision takes seconds.
    listed = Path(importlib.util.find_spec("torchvision").origin).with_name("models") / "_meta.py"
    names = set(runpy.run_path(str(listed))["_COCO_CATEGORIES"]) - {"__background__", "N/A"}
    lexicon = load_lexicon()
    assert set(lexicon.coco) == names and len(names) == 80
    for name, target in lexicon.coco.items():
        sentence = f"eating an {name}" if name == "orange" else f"a {name}"  # the colour comes first otherwise
        (phrase,) = [phrase for phrase in read_caption(sentence).phrases if phrase.whole]
        assert not lexicon.reach((target,)).isdisjoint(phrase.objects), name


def test_the_lexicon_names_only_objects_that_it_has_and_no_object_is_above_itself():
    nouns = json.loads((LEXICON / "objects.json").read_text(encoding="utf-8"))
    lexicon, objects = load_lexicon(), set(nouns["objects"])
    mentioned = {name for entry in nouns["objects"].values() for name in entry.get("is", ())}
    mentioned |= {name for names in nouns["implied"].values() for name in names} | set(nouns["coco"].values())
    mentioned |= {name for kind in ("mass", "parts", "loose", "broad") for name in nouns[kind]}
    assert mentioned <= objects
    assert not [name for name in objects if name in lexicon.ancestors[name]]
    assert lexicon.is_a("boy", "child") and lexicon.is_a("boy", "person") and lexicon.is_a("dog", "animal")
    about = json.loads((LEXICON / "attributes.json").read_text(encoding="utf-8"))
    assert {name for pair in about["near_colours"] for name in pair} <= set(about["colours"])
    assert {name for pair in about["near_relations"] for name in pair} <= set(about["relations"])


PLURALS = {"dog": "dogs", "bench": "benches", "puppy": "puppies", "toy": "toys", "box": "boxes", "tennis ball": "tennis balls"}


@pytest.mark.parametrize("word", PLURALS)
def test_plurals(word):
    assert plural_of(word, {}) == PLURALS[word]
    assert plural_of("old man", {"man": "men"}) == "old men"


# Captions, and what a reader finds in them: object, colours, count.
CAPTIONS = {
    "A black and white dog runs through the tall grass.": [("dog", "black white", 1), ("grass", "", None)],
    "two boys in orange jackets sit on top of a hill": [("boy", "", 2), ("jacket", "orange", "plural"), ("hill", "", 1)],
    "a girl in a pink top eats an orange": [("girl", "", 1), ("top", "pink", 1), ("orange", "", 1)],
    "a man's light brown hair": [("man", "", 1), ("hair", "brown", None)],
    "a person watches a woman with a watch and glasses": [("person", "", 1), ("woman", "", 1), ("watch", "", 1), ("glasses", "", None)],
    "a glass of water in a park": [("glass", "", 1), ("park", "", 1)],
    "people parked in front of a red car": [("person", "", "plural"), ("car", "red", 1)],
    "a group of people wave at the camera": [("person", "", "many")],
    "a surfer riding a large wave": [("person", "", 1), ("wave", "", 1)],
    "a hot dog beside a tennis ball in a swimming pool": [("hot dog", "", 1), ("tennis ball", "", 1), ("pool", "", 1)],
    "a soccer player kicks the ball during a football game": [("person", "", 1), ("ball", "", "single")],
    "a couple of dogs leave while leaves fall on the boy": [("dog", "", 2), ("leaf", "", "plural"), ("boy", "", "single")],
    "a black and a white dog": [("dog", "black", 1), ("dog", "white", 1)],
    "a brown dog chases a white one": [("dog", "brown", 1), ("dog", "white", 1)],
    "twenty dogs and 15 cats": [("dog", "", 20), ("cat", "", 15)],
    "a herd of thirty-five sheep and two dozen goats": [("sheep", "", 35), ("goat", "", 24)],
    "two 15 year old boys in number 12 jerseys": [("boy", "", 2), ("jersey", "", "plural")],
    "a two story house beside a 6 seat car": [("house", "", 1), ("car", "", 1)],
    "a man without a red shirt or shoes and a dog": [("man", "", 1), ("dog", "", 1)],
    "a girl who doesn't have a hat hangs from a no skiing sign": [("girl", "", 1), ("sign", "", "single")],
    "a dog jumps without touching the fence": [("dog", "", 1), ("fence", "", "single")],
    "the horse is brown": [("horse", "brown", "single")],
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_the_things_of_a_caption_with_their_colours_and_counts(caption):
    found = [
        (p.objects[0], " ".join(sorted(p.colours)), p.count) for p in read_caption(caption).phrases if p.whole and p.objects[0] != "water"
    ]
    assert found == CAPTIONS[caption]


RELATIONS = {
    "a dog lies under a table next to a chair": [("dog", "under", "table"), ("table", "next to", "chair")],
    "two boys in red shirts are standing in front of a house": [("boy", "in front of", "house")],
    "a red circle to the left of two blue squares": [("circle", "left", "square")],
    "a man with a hat is sitting on a bench": [("man", "on", "bench")],
    "a man and a dog": [],
}


@pytest.mark.parametrize("caption", RELATIONS)
def test_the_relations_that_a_caption_states(caption):
    assert [(s.subject.objects[0], s.relation, s.other.objects[0]) for s in read_caption(caption).statements] == RELATIONS[caption]


def test_case_and_punctuation_say_nothing_and_unk_stays_whole():
    assert tokenize("A man’s T-shirt, <unk>.") == ("a", "man", "'s", "t", "shirt", "<unk>")


def test_coverage_counts_the_places_of_nouns():
    found = coverage({"1": ["a dog does a trick with a zorblax", "two cats on the mat"], "2": ["a dog"]})
    assert (found["places"], found["unknown"]) == (6, [("zorblax", 1)])
    assert found["objects"] == pytest.approx(400 / 6) and found["captions"] == pytest.approx(200 / 3)
