"""The demo's scenes: the same bytes everywhere, true captions, masks that are where the things are."""

import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from captioning import scene_grammar, scenes
from captioning.data import load_data
from captioning.scenes import (
    COLOURS,
    RADII,
    SHAPES,
    SIDE,
    SPLITS,
    UNSEEN,
    draw_scene,
    load_scenes,
    make_scene,
    noun_masks,
    shape_stencil,
    thing_mask,
)

ROOT = Path(__file__).parent.parent
COUNT_WORDS = {"a": 1, "an": 1, "two": 2, "three": 3}
SIZE_WORDS = {"big": "big", "large": "big", "small": "small", "little": "small"}
RELATION_WORDS = {"above": "above", "over": "above", "below": "below", "under": "below", "left": "left", "right": "right"}
PHRASE = re.compile(rf"(a|an|two|three)((?: {'| '.join(SIZE_WORDS)})?)((?: {'| '.join(COLOURS)})?) ({'|'.join(scene_grammar.NOUNS)})\b")

any_scene = st.builds(make_scene, st.integers(0, 2**32), st.sampled_from(SPLITS), st.integers(0, 2**31))


@pytest.fixture(scope="module")
def data():
    return load_scenes(train=300, val=60, test=100)


def test_pixels_and_captions_are_those_of_the_version():
    """A change of a pixel or a word must raise scenes.VERSION, or old records would count as done: raise it, then pin the new hashes here."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for number in range(12):
            pixels, masks = draw_scene(make_scene(0, split, number))
            digest.update(pixels.tobytes() + np.packbits(masks).tobytes())
    assert (scenes.VERSION, digest.hexdigest()[:16]) == (1, "0559e3415df9b114")
    assert load_scenes(train=20, val=10, test=10).fingerprint[:16] == "32f3531eb2feaee2"


def test_another_process_draws_the_same_bytes():
    code = (
        "import hashlib; from captioning.scenes import *; s = make_scene(3, 'test', 7); "
        "print(hashlib.sha256(draw_scene(s)[0].tobytes()).hexdigest(), *s.captions)"
    )
    scene = make_scene(3, "test", 7)
    here = " ".join([hashlib.sha256(draw_scene(scene)[0].tobytes()).hexdigest(), *scene.captions])
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == here


def test_more_scenes_leave_the_others_alone(data):
    fewer = load_scenes(train=5, val=3, test=4)
    for split in SPLITS:
        ours = [fewer.images.scenes[i] for i in fewer.split(split)]
        assert ours == [data.images.scenes[i] for i in data.split(split)[: len(ours)]]


def test_fingerprint_follows_seed_and_sizes_without_drawing(monkeypatch):
    monkeypatch.setattr(scenes, "paint", lambda *_: pytest.fail("drawn for a fingerprint"))
    found = [load_scenes(train, val, 4, seed).fingerprint for train, val, seed in ((6, 4, 0), (6, 4, 1), (7, 4, 0), (6, 5, 0))]
    assert len(set(found)) == 4
    assert load_scenes(6, 4, 4, 0).fingerprint == found[0]


def test_demo_is_a_data_set():
    data = load_data("demo")
    assert data.name == "demo" and len(data.split("train")) >= 2000 and min(len(data.split("val")), len(data.split("test"))) >= 400
    assert len({example.image_id for example in data.examples}) == len(data)
    image = data.open_image(3)
    assert image.mode == "RGB" and image.size == (SIDE, SIDE)
    assert np.array_equal(np.asarray(image), draw_scene(data.images.scenes[3])[0])
    example = data.examples[3]
    assert example.raw[0][0].isupper() and example.raw[0].endswith(".") and example.raw[0][:-1].lower() == example.captions[0]


def test_unseen_pairs_are_kept_from_training(data):
    shown = {split: {(g.shape, g.colour) for i in data.split(split) for g in data.images.scenes[i].groups} for split in SPLITS}
    assert not (shown["train"] | shown["val"]) & UNSEEN
    assert shown["test"] >= UNSEEN
    # Every single shape and colour is known from training: only the pair is new.
    assert {shape for shape, _ in shown["train"]} == set(SHAPES) and {colour for _, colour in shown["train"]} == set(COLOURS)
    flagged = [data.images.scenes[i].unseen for i in data.split("test")]
    assert 0.3 < np.mean(flagged) < 0.7


@settings(max_examples=40, deadline=None)
@given(any_scene)
def test_masks_are_things_apart_and_have_the_named_colour(scene):
    pixels, masks = draw_scene(scene)
    things = [(group, thing) for group in scene.groups for thing in group.things]
    assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8
    assert masks.shape == (len(things), SIDE, SIDE) and masks.dtype == bool
    assert masks.sum(0).max() == 1, "things overlap"
    assert 2 <= len(scene.groups) <= 4 and all(1 <= group.count <= 3 for group in scene.groups)
    for mask, (group, thing) in zip(masks, things, strict=True):
        assert mask.sum() == shape_stencil(group.shape, thing.radius).sum(), "a thing is cut at the edge"
        # A thing's own colour lies up to 28 from the named one, and grain moves the mean of its pixels a little.
        assert np.abs(pixels[mask].mean(0) - COLOURS[group.colour]).max() <= 28 + 10
        assert RADII[group.size][0] <= thing.radius <= RADII[group.size][1]


@settings(max_examples=60, deadline=None)
@given(any_scene)
def test_every_caption_is_true(scene):
    """Read the captions with a grammar written here, and check each against the masks alone."""
    _, masks = draw_scene(scene)
    owners = [index for index, group in enumerate(scene.groups) for _ in group.things]
    centres = [np.argwhere(masks[[o == index for o in owners]].any(0)).mean(0) for index in range(len(scene.groups))]
    assert len(set(scene.captions)) == len(scene.captions) == scene_grammar.CAPTIONS
    for caption, named in zip(scene.captions, scene.mentions, strict=True):
        phrases = list(PHRASE.finditer(caption))
        assert len(phrases) == len(named) >= 2
        for phrase, index in zip(phrases, named, strict=True):
            count, size, colour, noun = (part.strip() for part in phrase.groups())
            group = scene.groups[index]
            assert (
                COUNT_WORDS[count] == group.count
                and SIZE_WORDS.get(size, group.size) == group.size
                and (colour or group.colour) == group.colour
            )
            assert scene_grammar.NOUNS[noun] == group.shape
            assert noun_masks(scene, noun)[masks[owners.index(index)]].all()
        rest = PHRASE.sub("", caption).split()
        assert set(rest) <= {"there", "is", "are", "and", "with", "to", "the", "of", *RELATION_WORDS}
        for word in set(rest) & set(RELATION_WORDS):
            relation = RELATION_WORDS[word]
            axis, sign = {"above": (0, 1), "below": (0, -1), "left": (1, 1), "right": (1, -1)}[relation]
            for other in named[1:]:
                assert (named[0], relation, other) in scene.relations()
                assert sign * (centres[other][axis] - centres[named[0]][axis]) > 2


def test_noun_masks_join_all_things_of_a_noun(data):
    for scene in data.images.scenes[:40]:
        _, masks = draw_scene(scene)
        owners = [group.shape for group in scene.groups for _ in group.things]
        for word, shape in scene_grammar.NOUNS.items():
            assert np.array_equal(noun_masks(scene, word), masks[[owner == shape for owner in owners]].any(0))
    with pytest.raises(KeyError):
        noun_masks(scene, "red")


def _pillow_outline(shape: str, radius: int) -> np.ndarray:
    """(2 radius + 1, 2 radius + 1) bool: the shape as Pillow draws it at eight times the size, brought down."""
    r = (radius + 0.5) * 8
    image = Image.new("L", (int(2 * r), int(2 * r)))
    star = zip(np.deg2rad(-90 + 36 * np.arange(10)), [1, 0.45] * 5, strict=True)
    turn = np.linspace(0, 2 * np.pi, 100)
    heart_y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn) + 2.5) / 14.5
    outlines = {
        "circle": [(np.cos(angle), np.sin(angle)) for angle in turn],
        "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
        "triangle": [(0, -1), (1, 1), (-1, 1)],
        "star": [(size * np.cos(angle), size * np.sin(angle)) for angle, size in star],
        "cross": [
            (x / 5, y / 5)
            for x, y in ((-2, -5), (2, -5), (2, -2), (5, -2), (5, 2), (2, 2), (2, 5), (-2, 5), (-2, 2), (-5, 2), (-5, -2), (-2, -2))
        ],
        "heart": list(zip(np.sin(turn) ** 3, heart_y, strict=True)),
    }
    ImageDraw.Draw(image).polygon([(r + r * x, r + r * y) for x, y in outlines[shape]], fill=255)
    return np.asarray(image.resize((2 * radius + 1, 2 * radius + 1), Image.Resampling.BOX)) > 127


@pytest.mark.parametrize("radius", sorted(r for radii in RADII.values() for r in radii))
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_look_most_like_what_pillow_draws_under_their_name(shape, radius):
    ours = shape_stencil(shape, radius)
    overlap = {}
    for other in SHAPES:
        drawn = _pillow_outline(other, radius)
        overlap[other] = (drawn & ours).sum() / (drawn | ours).sum()
    assert max(overlap, key=overlap.get) == shape and overlap[shape] > 0.7


def test_a_thing_at_the_edge_is_cut():
    assert 0 < thing_mask("circle", 0, 0, 5).sum() < thing_mask("circle", 20, 20, 5).sum()


def test_almost_every_thing_is_nearest_to_its_named_colour():
    """One of some thousand things drawn is not: a purple as far from its name as it may lie is nearer to blue."""
    names, values, right = list(COLOURS), np.array(list(COLOURS.values())), []
    for index in range(300):
        scene = make_scene(0, "train", index)
        pixels, masks = draw_scene(scene)
        colours = [group.colour for group in scene.groups for _ in group.things]
        right += [
            names[np.abs(values - pixels[mask].mean(0)).sum(1).argmin()] == colour for mask, colour in zip(masks, colours, strict=True)
        ]
    assert len(right) > 1000 and np.mean(right) >= 0.998


def test_drawing_takes_milliseconds():
    load_scenes(2, 1, 1)
    started = time.process_time()
    for scene in load_scenes(200, 20, 30).images.scenes:
        draw_scene(scene)
    assert time.process_time() - started < 1.25  # 250 scenes; 0.8 ms each on an idle core


def test_captions_need_no_torch():
    code = "import sys, captioning.scenes, captioning.demo_encoders; assert not {'torch', 'timm', 'nltk'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
