"""Errors of captions: injected into captions of scenes whose truth is known, counted by hand, and compared with NumPy."""

import csv
import gzip
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.one_run import references_path, save_training
from captioning.bad_input import BadInput
from captioning.error_counts import causes, confusions, rates, richness, worst_images
from captioning.errors import KINDS, Error, Spoken, analyse, main
from captioning.scenes import COLOURS, SHAPES, make_scene
from captioning.training_captions import read_training, training_beside

ROOT = Path(__file__).resolve().parents[1]
# What people may call the shapes, written down here and not read from what is tested.
NOUNS = {
    "circle": ("circle", "circles", "disc", "discs"),
    "square": ("square", "squares", "box", "boxes"),
    **{shape: (shape, f"{shape}s") for shape in ("triangle", "star", "heart")},
    "cross": ("cross", "crosses"),
}
NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}
SIDES = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
IMAGES = 400


def noun_phrase(lots, shape, colour, count, size="small") -> str:
    plural = count > 1
    nouns = NOUNS[shape]
    return f"{NUMBERS[count]} {lots.choice((size, ''))} {colour} {lots.choice(nouns[plural::2])}"


def side_of(a, b):
    """Where a stands, seen from b, along the axis on which they are farther apart."""
    dx, dy = b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]
    return ("left" if dx > 0 else "right") if abs(dx) >= abs(dy) else ("above" if dy > 0 else "below")


def say(lots, scene, a, b, relation=None, colour=None, count=None, third="") -> str:
    """A caption of two groups; `relation`, `colour` and `count` (of the first) replace what is true."""
    first = noun_phrase(lots, a.shape, colour or a.colour, count or a.count, a.size)
    relation = relation or side_of(a, b)
    return " ".join(f"{first} {lots.choice(SIDES[relation])} {noun_phrase(lots, b.shape, b.colour, b.count, b.size)} {third}".split())


def injected(scene, lots):
    """(kind of the only error, or "" for none; caption; whether it ended) of captions made from the truth of a scene."""
    a, b = lots.sample(scene.groups[:2], 2)  # the two that four references of five name
    groups = scene.groups
    there = {group.shape for group in groups}
    relations = {relation for x, relation, y in scene.relations() if (groups[x], groups[y]) == (a, b)}
    stands = side_of(a, b) in relations
    true = (
        say(lots, scene, a, b)
        if stands
        else f"{noun_phrase(lots, a.shape, a.colour, a.count)} and {noun_phrase(lots, b.shape, b.colour, b.count)}"
    )
    words = true.split()
    yield "", true, True
    absent = sorted(set(SHAPES) - there)
    yield "invented-object", f"{true} and {noun_phrase(lots, lots.choice(absent), 'red', 1)}", True
    named_always = all(any(groups[g].shape == b.shape for g in mention) for mention in scene.mentions)
    if named_always and a.shape != b.shape:
        yield "missed-object", noun_phrase(lots, a.shape, a.colour, a.count), True
    alike = [group for group in groups if group.shape == a.shape]
    wrong = sorted(set(COLOURS) - {group.colour for group in alike})
    if stands and any(a.colour in caption for caption in scene.captions):
        yield "wrong-colour", say(lots, scene, a, b, colour=lots.choice(wrong)), True
        if len(alike) == 1:
            yield "wrong-count", say(lots, scene, a, b, count=lots.choice([n for n in NUMBERS if n != a.count])), True
        sides = [spelling for spellings in SIDES.values() for spelling in spellings]
        if any(side in caption for side in sides for caption in scene.captions[:2]):
            yield "wrong-relation", say(lots, scene, a, b, relation=lots.choice(sorted(SIDES.keys() - relations))), True
    again = lots.choice((f"{words[0]} {true}", f"{true} and {true}", f"{true} and {words[-1]} {words[-1]}"))
    joined = noun_phrase(random.Random(1), a.shape, a.colour, a.count)
    yield "repetition", lots.choice((again, f"{joined} and {joined} near {noun_phrase(lots, b.shape, b.colour, b.count)}")), True
    yield "unended", *lots.choice(((f"{true} and a", True), (f"{true} with", True), (true, False), (f"{true} above the", True)))
    yield "unknown-word", f"{true} near a <unk>", True


def test_errors_injected_into_captions_of_known_scenes_are_found_and_no_others():
    lots, captions, references, ended, truth = random.Random(7), {}, {}, {}, {}
    for number in range(IMAGES):
        scene = make_scene(0, "test", number)
        for k, (kind, caption, whole) in enumerate(injected(scene, lots)):
            name = f"{number}-{k}"
            captions[name], references[name], ended[name], truth[name] = caption, list(scene.captions), whole, kind
    general = {f"general-{k}": "a small red circle left of a blue square" for k in range(100)}  # a caption for 100 of about 3,000 images
    captions |= general
    references |= {name: ["a small red circle to the left of a blue square"] * 5 for name in general}
    truth |= dict.fromkeys(general, "too-general")
    found = analyse(captions, references, ended=ended)
    for kind in KINDS:
        told = {name for name, errors in found.items() if any(error.kind == kind for error in errors)}
        true = {name for name in captions if truth[name] == kind}
        assert len(true) > 80, kind
        precision, recall = len(told & true) / max(1, len(told)), len(told & true) / len(true)
        assert precision >= 0.95 and recall >= 0.95, (kind, precision, recall)


REFERENCES = {
    "a": [
        "a brown dog runs on the grass",
        "a dog running through grass",
        "the brown dog is on a lawn",
        "a puppy in the grass",
        "brown dog outside on grass",
    ],
    "c": [
        "a boy without a shirt stands with fifteen dogs",
        "a 12 year old boy with no shirt on and 15 dogs",
        "a shirtless boy and fifteen dogs",
    ],
    "b": [
        "two boys play with a ball",
        "two kids in red shirts play ball",
        "two children with a ball",
        "two boys and a ball",
        "boys throw a red ball",
    ],
}
# The image, a caption and the errors that a reader finds by the definitions.
READ = [
    ("a", "a puppy is on the grass", []),
    ("a", "an animal on the ground", []),
    ("a", "a cat on the grass", [("invented-object", "cat", "dog"), ("missed-object", "dog", "dog")]),
    ("a", "a white dog on grass", [("wrong-colour", "white dog", "brown")]),
    ("a", "two dogs run on grass", [("wrong-count", "two dogs", "1")]),
    ("a", "a dog under the grass", []),  # "in" is said too, and a dog in the grass may be under it
    ("b", "two boys and a ball", []),
    ("b", "two people throw a ball", []),
    ("b", "a girl and a boy with a ball", [("invented-object", "girl", "")]),  # together two, as "two kids" are
    ("b", "a boy and another kid with a ball", []),  # together two
    ("b", "two boys in blue shirts with a ball", [("wrong-colour", "blue shirts", "red")]),
    ("b", "two boys with a ball in the park", [("invented-object", "park", "")]),
    ("b", "two boys with a ball on a", [("unended", "a", "")]),
    ("b", "two boys boys with a <unk> ball", [("repetition", "boys boys", ""), ("unknown-word", "<unk>", "")]),
    ("b", "two boys without a ball", [("missed-object", "ball", "ball")]),
    ("b", "two boys with a ball and no hats", []),
    ("c", "a boy in a shirt with dogs", [("invented-object", "shirt", "")]),
    ("c", "a boy not wearing a shirt with fifteen dogs", []),
    ("c", "a boy with no shirt on and 20 dogs", [("wrong-count", "20 dogs", "15")]),
    ("c", "a ten year old boy and twenty two dogs", [("wrong-count", "twenty two dogs", "15")]),
    (
        "c",
        "two dogs and a boy with his shirt off because",
        [
            ("invented-object", "shirt", ""),
            ("wrong-count", "two dogs", "15"),
            ("unended", "because", ""),
        ],
    ),
    ("c", "dogs and a boy with no shirt on", []),
    ("c", "a boy with dogs and my", [("unended", "my", "")]),
    ("c", "a boy with dogs that he walks through", []),
    ("c", "dogs with a boy through", [("unended", "through", "")]),
    ("b", "", [("missed-object", "ball", "ball"), ("missed-object", "boy", "boy")]),
]


@pytest.mark.parametrize(("image", "caption", "expected"), READ)
def test_errors_are_those_that_a_reader_finds(image, caption, expected):
    assert [tuple(error) for error in analyse({image: caption}, REFERENCES)[image]] == expected


def test_a_caption_is_too_general_above_one_percent_of_at_least_100_images():
    references = {str(k): ["a dog"] for k in range(200)}
    captions = {str(k): "A dog." if k < 3 else f"a dog of {k} years" for k in range(200)}
    captions["3"], captions["4"] = "the dog", "the dog"  # two of 200: not more than 1 %
    general = {image for image, errors in analyse(captions, references).items() if any(error.kind == "too-general" for error in errors)}
    assert general == {"0", "1", "2"}
    few = {image: captions[image] for image in list(captions)[:99]}
    assert not any(error.kind == "too-general" for errors in analyse(few, references).values() for error in errors)


def hash_of(words: str) -> str:
    """By the layout of results/README.md, of words in lower case with a space between."""
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def made_up_errors(pattern: str, kind="unknown-word"):
    return {str(k): [Error(kind, "x", "")] * int(mark) for k, mark in enumerate(pattern)}


def test_shares_and_paired_differences_are_means_with_percentile_intervals_over_images():
    a, b = made_up_errors("0120011001" * 6), made_up_errors("1000010001" * 6)
    first, second = (found["unknown-word"] for found in rates([a, b], ["unknown-word"], draws=4000))
    has, other = (np.array([bool(errors) for errors in one.values()], dtype=float) for one in (a, b))
    drawn = np.random.default_rng(1).integers(60, size=(4000, 60))
    assert first.value == pytest.approx(100 * has.mean())
    assert first.ends() == pytest.approx(tuple(np.percentile(100 * has[drawn].mean(axis=1), [2.5, 97.5])), abs=2)
    difference = first.minus(second)
    assert difference.value == pytest.approx(100 * (has - other).mean())
    assert difference.ends() == pytest.approx(tuple(np.percentile(100 * (has - other)[drawn].mean(axis=1), [2.5, 97.5])), abs=2)


def test_causes_confusions_worst_images_and_words_are_counted():
    cat, bus = Error("invented-object", "cat", "dog"), Error("invented-object", "bus", "")
    errors = {"1": [cat, bus], "2": [cat], "3": [bus], "4": [cat, cat], "5": []}
    assert causes(errors, "invented-object") == [("cat", 3), ("bus", 2)]
    assert confusions(errors) == [("cat", "dog", 3)]
    assert worst_images(errors, "invented-object", most=2) == [("1", 2), ("4", 2)]
    said = richness(["a dog runs", "A dog runs.", "a <unk> cat"], ("<pad>", "<unk>", "a", "dog", "runs", "cow"), {hash_of("a dog runs")})
    assert said == {"captions": 3, "distinct": 2, "words_used": 3, "words_known": 4, "copied": 2}


def test_the_command_reads_files_and_writes_a_row_per_caption(tmp_path, capsys):
    references, mine, theirs = tmp_path / "refs.json", tmp_path / "mine.json", tmp_path / "theirs.json"
    references.write_text(json.dumps(REFERENCES))
    mine.write_text(json.dumps({"a": "a cat on the grass", "b": "two boys and a ball"}))
    theirs.write_text(json.dumps([{"image_id": "a", "caption": "a dog on grass"}, {"image_id": "b", "caption": "two boys and a ball"}]))
    main(
        [str(mine), "--references", str(references), "--compare", str(theirs), "--csv", str(tmp_path / "e.csv"), "--json", "--draws", "200"]
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["kinds"]["invented-object"]["share"] == printed["differences"]["invented-object"]["difference"] == 50
    assert printed["confusions"] == [["cat", "dog", 1]]
    rows = list(csv.DictReader((tmp_path / "e.csv").open(encoding="utf-8")))
    assert [(row["system"], row["id"], row["errors"], row["invented-object"], row["missed-object"]) for row in rows] == [
        (str(mine), "a", "2", "cat (dog)", "dog"),
        (str(mine), "b", "0", "", ""),
        (str(theirs), "a", "0", "", ""),
        (str(theirs), "b", "0", "", ""),
    ]
    main([str(mine), "--references", str(references), "--draws", "200"])
    assert "worst images, invented object: a (1)\n" in capsys.readouterr().out
    with pytest.raises(BadInput, match="--references"):
        main([str(mine)])
    for beam in ("0", "-1", "3"):  # captions have no beams
        with pytest.raises(BadInput, match=f"--beam {beam}: "):
            main([str(mine), "--references", str(references), "--beam", beam])
    mine.write_text(json.dumps({"z": "a dog"}))
    with pytest.raises(BadInput, match="image z is not among the references"):
        main([str(mine), "--references", str(references)])


def test_ids_that_no_file_can_hold_are_written_without_what_it_cannot(tmp_path, capsys):
    references, mine = tmp_path / "refs.json", tmp_path / "mine.json"
    references.write_text(json.dumps({"\ud800a": ["a dog"]}))
    mine.write_text(json.dumps({"\ud800a": "a cat \udfff"}))
    main([str(mine), "--references", str(references), "--csv", str(tmp_path / "e.csv"), "--draws", "10"])
    (row,) = csv.DictReader((tmp_path / "e.csv").open(encoding="utf-8"))
    assert (row["id"], row["caption"]) == ("?a", "a cat ?") and "invented object: ?a (1)\n" in capsys.readouterr().out


class Photos:
    """What `save_training` asks of a data set."""

    def __init__(self, captions, fingerprint="0123456789abcdef" * 4):
        self.fingerprint = fingerprint
        self.examples = [SimpleNamespace(captions=(one.lower().strip(" ."),), raw=(one,)) for one in captions]

    def split(self, name):
        return {"train": range(len(self.examples))}[name]


def test_training_captions_are_kept_once_as_sorted_hashes(tmp_path):
    path = training_beside(references_path(Photos([]), tmp_path))
    assert path.name == "training-0123456789abcdef.txt.gz"
    save_training(Photos(["A dog runs.", "two cats", "a dog runs"]), tmp_path)
    first = path.read_bytes()
    lines = gzip.decompress(first).decode().split("\n")
    assert lines == [*sorted((hash_of("a dog runs"), hash_of("two cats"))), ""]
    path.unlink()
    save_training(Photos(["two cats", "A dog runs."]), tmp_path)
    assert path.read_bytes() == first
    save_training(Photos(["something else"]), tmp_path)  # it is there: nothing to do
    assert path.read_bytes() == first
    for damaged in (first[:-9], b"text", gzip.compress(b"a dog runs\n")):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=path.name):
            read_training(path)


def test_captions_copied_from_training_are_counted_where_their_hashes_lie_beside_the_references(tmp_path, capsys):
    from made_up_records import make_results

    from reports.errors import analyse_profile, error_tables
    from reports.profile import load_profile

    (record,) = make_results(tmp_path / "results", "flickr8k", names=("resnet",), images=40)
    home = tmp_path / "results/flickr8k"
    path = str(home / "runs" / f"{record['run_id']}.json")

    def row_of_report():
        analysis = analyse_profile(load_profile(home), "5")
        (words,) = [table for table in error_tables(load_profile(home), analysis, None, "5")["further"] if table.slug == "errors-words"]
        return next(csv.DictReader(words.as_csv().splitlines())), analysis

    row, analysis = row_of_report()
    assert row["Copied from training, %"] == "" and "not saved" in row["missing"] and not analysis.problems
    main([path, "--json", "--draws", "10"])
    assert json.loads(capsys.readouterr().out)["words"]["copied"] is None
    said = analysis.said[record["run_id"]].captions
    known = sorted(said.values())[:7]
    save_training(Photos([one.capitalize() + "." for one in known]), home / "captions")
    copied = sum(caption in known for caption in said.values())
    assert 7 <= copied < len(said) == 20
    row, _ = row_of_report()
    assert float(row["Copied from training, %"]) == 100 * copied / 20
    main([path, "--json", "--draws", "10"])
    assert json.loads(capsys.readouterr().out)["words"]["copied"] == copied
    next(home.glob("captions/training-*")).write_bytes(b"damaged")
    row, analysis = row_of_report()
    assert row["Copied from training, %"] == "" and "training-0123456789abcdef.txt.gz" in analysis.problems[0]


def test_a_record_stays_a_record_beside_other_references(tmp_path, capsys):
    from made_up_records import make_results

    (record,) = make_results(tmp_path / "results", "flickr8k", names=("resnet",), images=10)
    path = tmp_path / f"results/flickr8k/runs/{record['run_id']}.json"
    references = tmp_path / "refs.json"
    main([str(path), "--csv", str(tmp_path / "e.csv"), "--draws", "10"])
    said = {row["id"]: row["caption"] for row in csv.DictReader((tmp_path / "e.csv").open(encoding="utf-8"))}
    references.write_text(json.dumps({image: ["a zebra"] for image in said}))
    capsys.readouterr()
    main([str(path), "--references", str(references), "--json", "--draws", "10"])
    kinds = json.loads(capsys.readouterr().out)["kinds"]
    assert kinds["missed-object"]["share"] == 100 and kinds["missed-object"]["causes"] == [["zebra", 5]]
    with pytest.raises(BadInput, match="--beam 0: "):
        main([str(path), "--beam", "0"])
    elsewhere = tmp_path / "record.json"
    elsewhere.write_text(path.read_text())
    with pytest.raises(BadInput, match="a record is read where its run wrote it"):
        main([str(elsewhere), "--references", str(references)])


def test_a_person_and_a_system_are_judged_by_the_same_references_in_turn():
    from reports.errors import _people

    references = {"1": ["a dog", "a dog", "a cat"], "2": ["a dog"] * 3}
    said = Spoken({"1": "a cat", "2": "a cat"}, references, {"1": True, "2": False})
    (person, system), _ = _people(said, "Mine")
    assert [row[0].label for row in (person, system)] == [
        "A person: each reference in turn, judged by the other two",
        "Mine, by the same two",
    ]
    # By hand: the cat of image 1 is made up where its own reference is the one left out, in one turn of three; that of image 2 always.
    made_up, unended = 1 + list(KINDS).index("invented-object"), 1 + list(KINDS).index("unended")
    assert person[made_up].value == pytest.approx(100 * (1 / 3 + 0) / 2) and person[unended].value == 0
    assert system[made_up].value == pytest.approx(100 * (1 / 3 + 1) / 2) and system[unended].value == 50


def test_the_command_reads_a_committed_record_and_imports_no_torch():
    records = sorted((ROOT / "results/evidence").glob("*/runs/*.json"))
    record = next(path for path in records if json.loads(path.read_text()).get("ended", {"val": {"5": 100}})["val"].get("5", 100) < 100)
    code = (
        "import json, sys; from captioning.errors import main; "
        f"main([{str(record)!r}, '--split', 'val', '--json', '--draws', '100']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found, stated = json.loads(done.stdout), json.loads(record.read_text())
    assert found["images"] == stated["data"]["images"]["val"]
    assert found["words"]["words_known"] in (None, stated["data"]["vocabulary"] - 4)
    cut = 100 - stated["ended"]["val"]["5"]
    assert cut > 0 and found["kinds"]["unended"]["share"] == pytest.approx(cut)


def test_the_tables_of_a_report_count_what_its_csv_file_lists(tmp_path):
    from made_up_records import make_results

    from reports.errors import analyse_profile, error_tables, errors_csv
    from reports.profile import load_profile

    records = make_results(tmp_path / "results", "flickr8k", names=("resnet", "vit"), images=60)
    profile = load_profile(tmp_path / "results/flickr8k")
    marked = tmp_path / "results/marked/flickr8k.json"
    marked.parent.mkdir()
    analysis = analyse_profile(profile, "5")
    run_id, errors = next(iter(analysis.errors.items()))
    # A reader who agrees but for one caption, whose errors he does not see.
    marks = [{"run_id": run_id, "id": i, "caption": analysis.said[run_id].captions[i], "errors": found} for i, found in errors.items()]
    blind = next(mark for mark in marks if any(error.kind == "wrong-colour" for error in mark["errors"]))
    marked.write_text(json.dumps({"schema": 1, "how": "by reading", "marked": [{**m, "errors": []} if m is blind else m for m in marks]}))
    made = error_tables(profile, analysis, None, "5")
    rows = list(csv.DictReader(errors_csv(analysis).splitlines()))
    table = list(csv.DictReader(made["shares"].as_csv().splitlines()))
    assert len(rows) == 60 and len(table) - 2 == len(records) == 2
    assert table[-2]["Model"].startswith("A person") and table[-1]["Model"].endswith("by the same one")
    for record, row in zip(profile.finished, table, strict=False):
        own = [line for line in rows if line["run_id"] == record["run_id"]]
        assert float(row["Test Wrong colour"]) == pytest.approx(100 * sum(bool(line["wrong-colour"]) for line in own) / 30)
        assert row["Test Too general"] == "" and "100 images" in row["missing"]
    agreement = next(table for table in made["further"] if table.slug == "errors-marked")
    assert agreement.remarks[0] == "by reading" and not any("rules" in remark for remark in agreement.remarks)  # nothing is known of these
    colours = next(row for row in csv.DictReader(agreement.as_csv().splitlines()) if row["Error"] == "Wrong colour")
    n = sum(any(error.kind == "wrong-colour" for error in found) for found in errors.values())
    assert (int(colours["Found"]), int(colours["Marked"]), float(colours["Recall, %"])) == (n, n - 1, 100)
    assert float(colours["Precision, %"]) == pytest.approx(100 * (n - 1) / n)


def test_what_became_of_the_rules_is_said_of_the_committed_marks_only():
    from captioning.error_rules import RULES_SINCE

    path = ROOT / "results/evidence/marked/flickr8k.json"
    if not path.exists():
        pytest.skip("no committed marks")
    assert RULES_SINCE.keys() == {hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest()}


def test_captions_that_would_be_dropped_or_paired_wrongly_are_refused(tmp_path):
    references = tmp_path / "r.json"
    images = [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg"}]
    references.write_text(json.dumps({"annotations": [{"image_id": 42, "id": 1, "caption": "a dog"}], "images": images}))
    captions = tmp_path / "c.json"
    captions.write_text(json.dumps({"42": "a cat", "COCO_val2014_000000000042": "a dog"}))
    with pytest.raises(BadInput, match="image 42 is there twice"):
        main([str(captions), "--references", str(references)])
    (tmp_path / "r.txt").write_text("a dog\na cat\na cow\n")
    (tmp_path / "c.txt").write_text("a cat\na cow\n")
    with pytest.raises(BadInput, match="has 2 lines, .* has 3; line i belongs to line i"):
        main([str(tmp_path / "c.txt"), "--references", str(tmp_path / "r.txt")])
