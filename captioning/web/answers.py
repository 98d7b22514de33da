"""What a captioner answers to one photo, small enough to be kept while a page is open."""

import functools
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import Image

from captioning.attention_strip import concentration, draw_strip, draw_tiles
from captioning.captioner import Caption, Captioner
from captioning.config import Decode
from captioning.systems import MAP_KINDS

SIDE = 640  # pixels of the picture that is kept, on its longer side


@dataclass(frozen=True)
class Answer:
    """captions: of the search, best first; the first has a map a word (T,h,w) where the system has maps. map_kind: a key of MAP_KINDS.

    photo: the picture that the maps lie over, as a file's bytes without anything but pixels.
    """

    captions: list[Caption]
    map_kind: str
    photo: bytes

    @property
    def best(self) -> Caption:
        return self.captions[0]

    @property
    def steps(self) -> int:
        """Words that can be stepped through: those that have a map."""
        return 0 if self.best.attention is None else len(self.best.words)

    def picture(self) -> Image.Image:
        return Image.open(BytesIO(self.photo)).convert("RGB")

    def word_picture(self, word: int) -> Image.Image:
        """The photo lit where the captioner looked at word 0, 1, ..."""
        return draw_tiles(self.picture(), self.best.attention[word : word + 1], SIDE)[0]

    def where(self, word: int) -> str:
        """A word's map in words: its strongest place and how much stronger than an even share it is."""
        weights = np.asarray(self.best.attention[word], dtype=np.float64)  # (h, w)
        if np.ptp(weights) <= 1e-6 * weights.max():
            return "evenly over the whole photo"
        row, column = np.unravel_index(weights.argmax(), weights.shape)
        vertical = ("top", "middle", "bottom")[int(3 * (row + 0.5) / weights.shape[0])]
        horizontal = ("left", "centre", "right")[int(3 * (column + 0.5) / weights.shape[1])]
        return f"most at the {vertical} {horizontal}, {concentration(weights):.1f} times an even share"

    @functools.cached_property
    def strip(self) -> bytes:
        """The word-by-word strip as a PNG file."""
        file = BytesIO()
        draw_strip(self.picture(), self.best.words, self.best.attention, MAP_KINDS[self.map_kind]).save(file, "PNG")
        return file.getvalue()


def say(captioner: Captioner, photo: Image.Image, decode: Decode) -> Caption:
    """The caption alone, as `caption.py` gives it. photo: upright RGB. A longest caption above what the decoder has positions for is cut to that.
    Raises BadInput: a search that this model can't do."""
    return captioner.caption([photo], _fit(captioner, decode))[0]


def answer(captioner: Captioner, photo: Image.Image, decode: Decode) -> Answer:
    """The same caption, with what else there is to see of it."""
    decode = _fit(captioner, decode)
    (best,) = captioner.caption([photo], decode, attend=captioner.map_kind != "even")
    if captioner.map_kind == "even" or not best.words:
        best = replace(best, attention=None)
    others = []
    if decode.beam > 1 and not decode.sample:
        # The search above ends as soon as nothing can beat its best; this one goes on until the beam is full of captions to choose from.
        found = captioner.alternatives(photo, replace(decode, stop="full"))
        others = [replace(other, attention=None) for other in found if other.words != best.words]
    return Answer([best, *others], captioner.map_kind, _kept(captioner, photo))


def _fit(captioner: Captioner, decode: Decode) -> Decode:
    return replace(decode, max_words=captioner.most_words(decode.max_words))


def _kept(captioner: Captioner, photo: Image.Image) -> bytes:
    """In the photo's own shape; what a central crop leaves out is left out here too, so that maps lie where they belong."""
    if captioner.model.encoder.preprocessing.resize == "crop":
        W, H = photo.size
        side = min(W, H)
        left, top = (W - side) // 2, (H - side) // 2
        photo = photo.crop((left, top, left + side, top + side))
    small = photo.copy()
    small.thumbnail((SIDE, SIDE))
    file = BytesIO()
    if max(small.size) <= 128:  # a drawn scene: every pixel counts, and it is small anyhow
        small.save(file, "PNG")
    else:
        small.save(file, "JPEG", quality=90)
    return file.getvalue()
