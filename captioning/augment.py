"""Changes to a training picture, drawn from (seed, epoch, image) alone: the same for any number of workers, order of images, or state of other generators.

`augment(pixels, seed, epoch, index, kinds)` with kinds out of KINDS. Whether a picture may be mirrored its captions say: `mentions_side(captions)`.
"""

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageEnhance

from captioning.bad_input import BadInput

CROP_AREA = (0.6, 1.0)  # share of the picture: torchvision's default of 0.08 would crop away what the caption names
CROP_RATIO = (3 / 4, 4 / 3)
CROP_TRIES = 10
# Hue stays: captions name colours.
COLOURS = ((ImageEnhance.Brightness, 0.3), (ImageEnhance.Contrast, 0.3), (ImageEnhance.Color, 0.3))

SIDES = re.compile(r"\b(left|right)(most|side|hand|hander|handed|ward|wards)?\b", re.IGNORECASE)


def mentions_side(captions: Iterable[str]) -> bool:
    """Whether a caption names left or right, which a mirrored picture would make wrong. Too careful where they mean something else ("left the room")."""
    return any(SIDES.search(caption) for caption in captions)


def augment(pixels: np.ndarray, seed: int, epoch: int, index: int, kinds: Sequence[str]) -> np.ndarray:
    """A changed copy: pixels uint8 (S, S, 3) -> uint8 (S, S, 3). Each kind has its own random stream, so one more kind does not move the others."""
    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(f"unknown augmentation {kind!r}: choose from {', '.join(KINDS)}")
    for place, (kind, change) in enumerate(KINDS.items()):
        if kind in kinds:
            pixels = change(pixels, np.random.default_rng((seed, epoch, index, place)))
    return np.array(pixels, copy=True, order="C")


def _crop(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Random resized crop as in torchvision (area, then log-uniform ratio, ten tries, else the whole picture), back to the old size."""
    S = len(pixels)  # side
    for _ in range(CROP_TRIES):
        area = random.uniform(*CROP_AREA) * S * S
        ratio = math.exp(random.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= S and 0 < height <= S:
            left, top = random.integers(0, S - width + 1), random.integers(0, S - height + 1)
            box = (int(left), int(top), int(left) + width, int(top) + height)
            return np.asarray(Image.fromarray(pixels).resize((S, S), Image.Resampling.BICUBIC, box=box))
    return pixels


def _colour(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(pixels)
    for place in random.permutation(len(COLOURS)):
        enhance, strength = COLOURS[place]
        image = enhance(image).enhance(random.uniform(1 - strength, 1 + strength))
    return np.asarray(image)


def _flip(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


KINDS = {"crop": _crop, "colour": _colour, "flip": _flip}
