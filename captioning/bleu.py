"""BLEU-1..4 from sums over images: NLTK's corpus_bleu (protocols `published` and `free`) and coco-caption's (protocol `coco`).

A corpus BLEU is no mean of captions' BLEUs. What can be summed is ten counts per candidate: matched n-grams for n = 1..4, n-grams for
n = 1..4, words, and words of the closest reference. So the rows below are what a bootstrap resamples.
The two rules differ where a candidate has fewer than n words (NLTK counts one n-gram, coco-caption none), where nothing matches
(NLTK: 0; coco-caption: nearly 0) and by coco-caption's 1e-9 in each denominator.
Needs numpy only, so training selects its checkpoint with it.
"""

from collections.abc import Sequence

import numpy as np

from captioning.ngrams import LONGEST, Corpus, count_corpus

NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")


def corpus_bleu(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> tuple[float, float, float, float]:
    """NLTK's corpus BLEU-1..4, times 100. candidates: lists of words; references: per candidate a list of lists of words."""
    rows = nltk_rows(count_corpus(candidates, references))
    return tuple(100 * float(value) for value in nltk_bleu(rows.sum(axis=0)))


def nltk_rows(corpus: Corpus) -> np.ndarray:
    """(C, 10) counts per candidate, as nltk.translate.bleu_score.corpus_bleu sums them (at least one n-gram each)."""
    return _rows(corpus, fewest_ngrams=1)


def coco_rows(corpus: Corpus) -> np.ndarray:
    """(C, 10) counts per candidate, as pycocoevalcap.bleu.bleu_scorer sums them."""
    return _rows(corpus, fewest_ngrams=0)


def nltk_bleu(sums: np.ndarray) -> np.ndarray:
    """(..., 10) summed counts -> (..., 4) BLEU-1..4 in 0..1, as NLTK without smoothing: 0 as soon as one n has no match."""
    hits, ngrams, length, reference_length = _split(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(hits / ngrams)  # -inf where nothing matches
        mean = np.cumsum(logs, axis=-1) / np.arange(1, LONGEST + 1)
        brevity = np.where(length > reference_length, 1.0, np.exp(1 - reference_length / length))
        return np.where(length > 0, np.exp(mean) * np.nan_to_num(brevity), 0.0)


def coco_bleu(sums: np.ndarray) -> np.ndarray:
    """(..., 10) summed counts -> (..., 4) BLEU-1..4 in 0..1, with coco-caption's two constants (bleu_scorer.py, compute_score)."""
    small, tiny = 1e-9, 1e-15
    hits, ngrams, length, reference_length = _split(sums)
    product = np.cumprod((hits + tiny) / (ngrams + small), axis=-1)
    ratio = (length + tiny) / (reference_length + small)
    brevity = np.exp(1 - 1 / np.minimum(ratio, 1.0))
    return product ** (1 / np.arange(1, LONGEST + 1)) * brevity


def _split(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return sums[..., :LONGEST], sums[..., LONGEST : 2 * LONGEST], sums[..., -2:-1], sums[..., -1:]


def _rows(corpus: Corpus, fewest_ngrams: int) -> np.ndarray:
    C = len(corpus.candidate_image)
    rows = np.zeros((C, 2 * LONGEST + 2))
    for n, (own, theirs) in enumerate(zip(corpus.candidates, corpus.references, strict=True), start=1):
        allowed = _most_in_one_reference(own.keys(corpus.candidate_image), theirs.keys(corpus.reference_image), theirs.count)
        rows[:, n - 1] = np.bincount(own.caption, np.minimum(own.count, allowed), minlength=C)
        rows[:, LONGEST + n - 1] = np.maximum(corpus.candidate_length - n + 1, fewest_ngrams)
    rows[:, -2] = corpus.candidate_length
    rows[:, -1] = _closest_length(corpus)
    return rows


def _most_in_one_reference(wanted: np.ndarray, keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """For each wanted (image, n-gram): how often it stands in that reference of the image that has it most often, else 0."""
    if len(keys) == 0:
        return np.zeros(len(wanted), dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    unique, first = np.unique(keys[order], return_index=True)
    most = np.maximum.reduceat(counts[order], first)
    place = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
    return np.where(unique[place] == wanted, most[place], 0)


def _closest_length(corpus: Corpus) -> np.ndarray:
    """(C,) length of the reference nearest in length to the candidate; of two as near, the shorter."""
    images, per_image = np.unique(corpus.reference_image, return_counts=True)
    column = np.arange(len(corpus.reference_image)) - np.repeat(np.cumsum(per_image) - per_image, per_image)
    lengths = np.full((len(images), per_image.max()), np.inf)  # (N, most references of an image)
    lengths[corpus.reference_image, column] = corpus.reference_length
    lengths = np.sort(lengths, axis=1)  # argmin takes the first of equals: now the shorter
    lengths = lengths[corpus.candidate_image]  # (C, most references)
    distance = np.abs(lengths - corpus.candidate_length[:, None])
    return np.take_along_axis(lengths, distance.argmin(axis=1)[:, None], axis=1)[:, 0]
