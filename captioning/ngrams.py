"""Count the n-grams of candidates and references once, for BLEU and CIDEr.

Everything is arrays: words and n-grams become integers, and one `np.unique` per n counts the n-grams of all captions together
(5,000 images with 5 references: 0.3 s; a Counter per caption takes 2 s).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LONGEST = 4  # BLEU-4 and CIDEr both stop at 4-grams


@dataclass(frozen=True, slots=True)
class NgramCounts:
    """How often each n-gram of one length stands in each caption; one entry per different (caption, n-gram), sorted by both."""

    caption: np.ndarray  # (E,) index of the caption
    gram: np.ndarray  # (E,) number of the n-gram, 0 .. kinds-1, the same in candidates and references
    count: np.ndarray  # (E,)
    kinds: int

    def keys(self, group: np.ndarray) -> np.ndarray:
        """(E,) one integer per (group of the caption, n-gram); `group` maps a caption to its group."""
        return group[self.caption] * self.kinds + self.gram


@dataclass(frozen=True, slots=True)
class Corpus:
    """Candidates and references of N images. A candidate belongs to one image; an image has at least one reference."""

    n_images: int
    candidate_image: np.ndarray  # (C,)
    candidate_length: np.ndarray  # (C,) words
    candidates: list[NgramCounts]  # one per n
    reference_image: np.ndarray  # (R,)
    reference_length: np.ndarray  # (R,)
    references: list[NgramCounts]  # one per n


def count_corpus(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], candidate_image: Sequence[int] | None = None
) -> Corpus:
    """Count n-grams. candidates: C lists of words; references: per image a list of captions, each a list of words.

    `candidate_image` says to which image each candidate belongs (default: candidate i to image i). Raises ValueError for an image
    without references or a candidate without an image.
    """
    if candidate_image is None:
        candidate_image = range(len(candidates))
    image = np.fromiter(candidate_image, dtype=np.int64, count=len(candidates))
    per_image = np.array([len(captions) for captions in references], dtype=np.int64)
    if len(per_image) == 0 or per_image.min() == 0:
        raise ValueError("every image needs at least one reference")
    if len(image) and not 0 <= image.min() <= image.max() < len(per_image):
        raise ValueError("a candidate names an image that has no references")
    flat = [words for captions in references for words in captions]
    tables, lengths = _count([*candidates, *flat])
    C = len(candidates)
    return Corpus(
        n_images=len(per_image),
        candidate_image=image,
        candidate_length=lengths[:C],
        candidates=[_part(table, 0, C) for table in tables],
        reference_image=np.repeat(np.arange(len(per_image)), per_image),
        reference_length=lengths[C:],
        references=[_part(table, C, len(lengths)) for table in tables],
    )


def _count(captions: Sequence[Sequence[str]]) -> tuple[list[NgramCounts], np.ndarray]:
    numbers: dict[str, int] = {}
    word = np.array([numbers.setdefault(w, len(numbers)) for words in captions for w in words], dtype=np.int64)  # (T,)
    lengths = np.array([len(words) for words in captions], dtype=np.int64)
    owner = np.repeat(np.arange(len(captions)), lengths)  # (T,) caption of each word
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(word))  # (T,) words from here to the caption's end
    gram = word.copy()  # (T,) number of the n-gram that starts here
    tables = []
    for n in range(1, LONGEST + 1):
        starts = np.flatnonzero(left >= n)
        if n > 1:  # an n-gram is an (n-1)-gram and one more word; renumbering keeps the numbers far below 2^63
            pair = gram[starts] * max(len(numbers), 1) + word[starts + n - 1]
            gram[starts] = np.unique(pair, return_inverse=True)[1]
        kinds = int(gram[starts].max()) + 1 if len(starts) else 1
        key, count = np.unique(owner[starts] * kinds + gram[starts], return_counts=True)
        tables.append(NgramCounts(key // kinds, key % kinds, count, kinds))
    return tables, lengths


def _part(table: NgramCounts, first: int, end: int) -> NgramCounts:
    low, high = np.searchsorted(table.caption, [first, end])
    return NgramCounts(table.caption[low:high] - first, table.gram[low:high], table.count[low:high], table.kinds)
