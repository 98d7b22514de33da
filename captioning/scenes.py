"""The demo's own data: drawn scenes of coloured shapes with captions from a grammar and a mask for every object.

    from captioning.scenes import load_scenes, draw_scene, noun_masks
    data = load_scenes()                  # a CaptionData: nothing is read, nothing is written
    scene = data.images.scenes[0]         # the truth of data.examples[0]
    pixels, masks = draw_scene(scene)     # (64, 64, 3) uint8, (things, 64, 64) bool
    noun_masks(scene, "discs")            # (64, 64) bool: where a caption's noun is

A scene holds two to four groups of one to three equal shapes on a textured background. The truth (what, which colour, how many, how big, where) stays in
`Scene.groups`, the relations in `Scene.relations()`. Everything is integer arithmetic on raw PCG64 words, the one random stream that NumPy promises never to
change, so a seed gives the same bytes on every machine. `VERSION` goes up with every change that moves a pixel or a word.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from captioning.data import CaptionData, Example
from captioning.fingerprint import combine
from captioning.scene_grammar import NOUNS, describe

VERSION = 1
SIDE = 64  # pixels of a scene
SHAPES = ("circle", "square", "triangle", "cross", "star", "heart")
COLOURS = {
    "red": (205, 40, 45),
    "yellow": (230, 210, 60),
    "green": (45, 150, 70),
    "blue": (45, 85, 205),
    "purple": (140, 60, 170),
    "white": (235, 235, 235),
}
RADII = {"small": (4, 5), "big": (7, 8)}  # pixels, both ends included
TEXTURES = ("plain", "stripes", "checks", "blotches")
SPLITS = ("train", "val", "test")
ROW, COLUMN = np.mgrid[:SIDE, :SIDE].astype(np.int32)  # (64, 64) each
# Pairs that no training or validation scene shows: each shape and each colour is still seen with others.
UNSEEN = frozenset(
    {("circle", "purple"), ("square", "yellow"), ("triangle", "white"), ("cross", "red"), ("star", "blue"), ("heart", "green")}
)


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawn object: centre and radius in pixels, and the colour it is painted with (the named one, jittered)."""

    x: int
    y: int
    radius: int
    rgb: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Group:
    """One to three equal things standing together: what a noun phrase of a caption is about."""

    shape: str
    colour: str
    size: str
    things: tuple[Thing, ...]

    @property
    def count(self) -> int:
        return len(self.things)

    @property
    def centre(self) -> tuple[int, int]:
        """In sixths of a pixel, so that the mean over one, two or three things is a whole number."""
        return (6 * sum(t.x for t in self.things) // self.count, 6 * sum(t.y for t in self.things) // self.count)


@dataclass(frozen=True, slots=True)
class Background:
    corners: tuple[tuple[int, int, int], tuple[int, int, int]]
    direction: tuple[int, int]
    texture: str
    strength: int
    period: int
    grain: int


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is true of one image. `groups` stand in order of the area they cover, largest first; `mentions[i]` are the groups caption i names, in its order."""

    key: tuple[int, int, int]  # seed, split, number: names the random streams
    background: Background
    groups: tuple[Group, ...]
    captions: tuple[str, ...]
    mentions: tuple[tuple[int, ...], ...]

    @property
    def unseen(self) -> bool:
        """Whether a shape stands here in a colour that it never has in training."""
        return any((group.shape, group.colour) in UNSEEN for group in self.groups)

    def relations(self) -> frozenset[tuple[int, str, int]]:
        """(a, "above" | "below" | "left" | "right", b) for all pairs of groups: both hold where b stands diagonally from a, as long as it is `CLEAR` off."""
        found = set()
        for a, one in enumerate(self.groups):
            for b, other in enumerate(self.groups):
                dx, dy = other.centre[0] - one.centre[0], other.centre[1] - one.centre[1]
                if dx >= CLEAR:
                    found |= {(a, "left", b), (b, "right", a)}
                if dy >= CLEAR:
                    found |= {(a, "above", b), (b, "below", a)}
        return frozenset(found)


CLEAR = 6 * 6  # sixths of a pixel: nearer than this along an axis, two groups stand neither left nor right (above nor below) of each other


@dataclass(frozen=True, slots=True)
class DrawnImages:
    """The demo's ImageSource: `scenes[i]` is the truth of `examples[i]`, drawn when asked for."""

    scenes: list[Scene]

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(draw_scene(self.scenes[index])[0])


def load_scenes(train: int = 3000, val: int = 400, test: int = 400, seed: int = 0) -> CaptionData:
    """The demo's data; its `images.scenes` hold the truth of every example.

    Scene i of a split depends on (seed, split, i) alone, so more scenes never change the ones before.
    """
    examples, scenes = [], []
    for split, images in zip(SPLITS, (train, val, test), strict=True):
        for number in range(images):
            scene = make_scene(seed, split, number)
            raw = tuple(f"{caption[0].upper()}{caption[1:]}." for caption in scene.captions)
            examples.append(Example(image_id=f"scene-{len(scenes):06d}", file="", split=split, captions=scene.captions, raw=raw))
            scenes.append(scene)
    return CaptionData(
        name="demo", root=Path(), examples=examples, fingerprint=combine(examples, _hash_drawing(scenes)), images=DrawnImages(scenes)
    )


def _hash_drawing(scenes: Sequence[Scene]) -> str:
    """Hex sha256 that stands for the pictures without drawing them: the drawing's version (a test pins the pixels to it) and all that a scene is drawn from."""
    digest = hashlib.sha256(f"scenes {VERSION} {SIDE}\n".encode())
    for scene in scenes:
        digest.update(json.dumps(scene.key).encode() + b"\n")
    return digest.hexdigest()


class Stream:
    """Whole numbers from raw PCG64 words: `Generator.integers` may change with NumPy's version, the raw words may not."""

    def __init__(self, *key: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(key))
        self._words: list[int] = []

    def below(self, n: int) -> int:
        if not self._words:
            self._words = self._bits.random_raw(128).tolist()  # one call a word would cost ten times as much
        return self._words.pop() % n

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def pick(self, choices: Sequence):
        return choices[self.below(len(choices))]

    def bytes(self, n: int) -> np.ndarray:
        """(n,) int32 of 0..255, the same on machines of either byte order."""
        words = self._bits.random_raw((n + 7) // 8)  # (n / 8,)
        return (words[:, None] >> np.arange(0, 64, 8, dtype=np.uint64) & np.uint64(255)).astype(np.int32).ravel()[:n]


def make_scene(seed: int, split: str, number: int) -> Scene:
    key = (seed, SPLITS.index(split), number)
    stream = Stream(*key, 0)
    groups = None
    while groups is None:
        groups = place_groups(stream, _choose_kinds(stream, split))
    groups = tuple(sorted(groups, key=lambda g: -g.count * g.things[0].radius ** 2))
    scene = Scene(key, draw_background(stream), groups, (), ())
    captions, mentions = describe(groups, scene.relations(), stream)
    return Scene(key, scene.background, groups, captions, mentions)


def _choose_kinds(stream: Stream, split: str) -> list[tuple[str, str, str, int]]:
    """(shape, colour, size, count) of two to four groups, no two with the same shape and colour; half of the test scenes hold a pair kept from training."""
    kinds: dict[tuple[str, str], tuple[str, int]] = {}
    wanted = stream.pick((2, 2, 2, 3, 3, 4))
    if split == "test" and stream.chance(50):
        kinds[stream.pick(sorted(UNSEEN))] = _choose_size_and_count(stream)
    while len(kinds) < wanted:
        pair = (stream.pick(SHAPES), stream.pick(tuple(COLOURS)))
        if pair not in kinds and pair not in UNSEEN:
            kinds[pair] = _choose_size_and_count(stream)
    return [(*pair, *rest) for pair, rest in kinds.items()]


def _choose_size_and_count(stream: Stream) -> tuple[str, int]:
    return stream.pick(tuple(RADII)), stream.pick((1, 1, 1, 2, 2, 3))


def place_groups(stream: Stream, kinds: Sequence[tuple[str, str, str, int]]) -> list[Group] | None:
    """Groups at random places, two pixels or more apart; None where there is no room."""
    groups, taken = [], []
    for shape, colour, size, count in kinds:
        radius = stream.between(*RADII[size])
        offsets = _arrange(stream, radius, count)
        half_width = max(abs(dx) for dx, _ in offsets) + radius
        half_height = max(abs(dy) for _, dy in offsets) + radius
        if 2 * half_width + 1 > SIDE - 2 or 2 * half_height + 1 > SIDE - 2:
            return None
        for _ in range(30):
            x, y = stream.between(1 + half_width, SIDE - 2 - half_width), stream.between(1 + half_height, SIDE - 2 - half_height)
            if all(abs(x - u) > half_width + w + 2 or abs(y - v) > half_height + h + 2 for u, v, w, h in taken):
                break
        else:
            return None
        taken.append((x, y, half_width, half_height))
        things = tuple(Thing(x + dx, y + dy, radius, jitter_colour(stream, colour)) for dx, dy in offsets)
        groups.append(Group(shape, colour, size, things))
    return groups


def _arrange(stream: Stream, radius: int, count: int) -> tuple[tuple[int, int], ...]:
    """Centres of a group's things about its middle: one; two in a row or a column; three in a triangle."""
    step = radius + 1
    if count == 1:
        return ((0, 0),)
    if count == 2:
        return stream.pick((((-step, 0), (step, 0)), ((0, -step), (0, step))))
    up = stream.pick((-1, 1))
    return stream.pick(
        (((0, up * step), (-step, -up * step), (step, -up * step)), ((up * step, 0), (-up * step, -step), (-up * step, step)))
    )


def jitter_colour(stream: Stream, colour: str) -> tuple[int, int, int]:
    return tuple(min(255, max(0, channel + stream.between(-28, 28))) for channel in COLOURS[colour])


def draw_background(stream: Stream) -> Background:
    """Draw lots for a background: a gradient between two dull colours, a texture, grain."""
    corners = []
    for _ in range(2):
        grey = stream.between(45, 185)
        corners.append(tuple(grey + stream.between(-28, 28) for _ in range(3)))
    return Background(
        corners=(corners[0], corners[1]),
        direction=stream.pick(((1, 0), (0, 1), (1, 1), (1, -1))),
        texture=stream.pick(TEXTURES),
        strength=stream.between(6, 26),
        period=stream.between(3, 9),
        grain=stream.between(4, 22),
    )


def draw_scene(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The picture (64, 64, 3) uint8 and one mask per thing (things, 64, 64) bool, things in the order of the groups."""
    kinds = [(group.shape, thing) for group in scene.groups for thing in group.things]
    masks = np.stack([thing_mask(shape, thing.x, thing.y, thing.radius) for shape, thing in kinds])
    return paint(scene.background, [(mask, thing.rgb) for mask, (_, thing) in zip(masks, kinds, strict=True)], Stream(*scene.key, 1)), masks


def noun_masks(scene: Scene, word: str) -> np.ndarray:
    """(64, 64) bool: every thing that the noun (singular, plural or synonym) names; all False where there is none. KeyError for a word that is no noun."""
    shape = NOUNS[word]
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    for group in scene.groups:
        if group.shape == shape:
            for thing in group.things:
                mask |= thing_mask(shape, thing.x, thing.y, thing.radius)
    return mask


def paint(background: Background, things: Sequence[tuple[np.ndarray, tuple[int, int, int]]], stream: Stream) -> np.ndarray:
    """(64, 64, 3) uint8: background, then the things (mask, colour), then grain over all."""
    wx, wy = background.direction
    along = wx * COLUMN + wy * ROW - min(0, wy) * (SIDE - 1)  # (64, 64), from 0
    first, second = (np.array(corner, dtype=np.int32) for corner in background.corners)
    longest = (abs(wx) + abs(wy)) * (SIDE - 1)
    gradient = first + (second - first) * np.arange(longest + 1, dtype=np.int32)[:, None] // longest  # (longest + 1, 3)
    pixels = gradient[along]  # (64, 64, 3)
    if background.texture != "plain":
        pixels += (_texture(background, stream) * background.strength // 2)[..., None]
    for mask, rgb in things:
        pixels[mask] = rgb
    grains = np.arange(256, dtype=np.int32) * (2 * background.grain + 1) // 256 - background.grain
    pixels += grains[stream.bytes(SIDE * SIDE)].reshape(SIDE, SIDE, 1)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _texture(background: Background, stream: Stream) -> np.ndarray:
    """(64, 64) int32 of -1, 0, 1."""
    period = background.period
    if background.texture == "stripes":
        return (COLUMN * background.direction[1] + ROW * background.direction[0]) // period % 2 * 2 - 1
    if background.texture == "checks":
        return (COLUMN // period + ROW // period) % 2 * 2 - 1
    cells = (SIDE + period - 1) // period  # blotches
    return stream.bytes(cells * cells).reshape(cells, cells)[ROW // period, COLUMN // period] % 3 - 1


def thing_mask(shape: str, x: int, y: int, radius: int) -> np.ndarray:
    """(64, 64) bool: the pixels of one thing, cut at the picture's edge."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    stencil = shape_stencil(shape, radius)
    top, left = y - radius, x - radius
    rows = slice(max(0, top), min(SIDE, y + radius + 1))
    columns = slice(max(0, left), min(SIDE, x + radius + 1))
    mask[rows, columns] = stencil[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return mask


@functools.cache
def shape_stencil(shape: str, radius: int) -> np.ndarray:
    """(2 radius + 1, 2 radius + 1) bool: one shape in whole-number inequalities, so that no library's rounding can change it."""
    r = radius
    y, x = np.mgrid[-r : r + 1, -r : r + 1].astype(np.int64)
    across, squared = np.abs(x), x * x + y * y
    if shape == "circle":
        return squared <= r * r + r // 2
    if shape == "square":
        return np.maximum(across, np.abs(y)) * 20 <= 17 * r
    if shape == "triangle":
        return 2 * across <= y + r
    if shape == "cross":
        return (3 * across <= r + 1) | (3 * np.abs(y) <= r + 1)
    if shape == "star":
        # A pentagram is all that lies on the inner side of at least four of the five lines through its points.
        corners = ((0, -1000), (588, 809), (-951, -309), (951, -309), (-588, 809))
        inner_sides = 0
        for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
            side = (x2 - x1) * (1000 * y - r * y1) - (y2 - y1) * (1000 * x - r * x1)
            inner_sides = inner_sides + (side >= -200_000 * r // 4)
        return inner_sides >= 4
    if shape == "heart":
        lobes = (2 * across - r) ** 2 + (2 * y + r) ** 2 <= (r + 1) ** 2
        return lobes | ((2 * y >= -r) & (5 * across <= 4 * (r - y)) & (across <= r))
    raise KeyError(shape)
