"""ROUGE-L and CIDEr as coco-caption computes them (pycocoevalcap.rouge, pycocoevalcap.cider): one value per image, the corpus value is their mean.

CIDEr here is what coco-caption calls CIDEr: CIDEr-D's clipping and length penalty with sigma 6. Its document frequencies come from the
references of all images scored together and stay fixed when images are resampled.
"""

from collections.abc import Sequence

import numpy as np

from captioning.ngrams import LONGEST, Corpus

_BETA = 1.2  # pycocoevalcap/rouge/rouge.py
_SIGMA = 6.0  # pycocoevalcap/cider/cider.py


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(N,) ROUGE-L in 0..1. candidates: tokens joined by one space; references: per image a list of such strings."""
    return np.array([_rouge_l(candidate, captions) for candidate, captions in zip(candidates, references, strict=True)])


def _rouge_l(candidate: str, references: Sequence[str]) -> float:
    words = candidate.split(" ")  # "" gives one empty word: an empty candidate matches an empty reference, as in coco-caption
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        reference_words = reference.split(" ")
        common = _longest_common_subsequence(places, len(words), reference_words)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(reference_words))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common_subsequence(places: dict[str, int], length: int, words: Sequence[str]) -> int:
    """Length of the longest common subsequence; `places` has a bit for every place of a word in the other sequence (Hyyrö 2004)."""
    mask = (1 << length) - 1
    row = mask
    for word in words:
        match = row & places.get(word, 0)
        row = (row + match | row - match) & mask
    return length - row.bit_count()


def cider(corpus: Corpus) -> np.ndarray:
    """(N,) CIDEr of image i's one candidate, in 0..10. `corpus` has exactly one candidate per image, in the images' order."""
    N = corpus.n_images
    if not np.array_equal(corpus.candidate_image, np.arange(N)):
        raise ValueError("CIDEr takes one candidate per image")
    total = np.zeros(len(corpus.reference_image))  # (R,) similarity to each reference, summed over n
    for own, theirs in zip(corpus.candidates, corpus.references, strict=True):
        total += _similarity(own, theirs, corpus)
    # A caption's length is its number of bigrams (cider_scorer.py, counts2vec).
    length = np.maximum(corpus.candidate_length - 1, 0)[corpus.reference_image]
    difference = length - np.maximum(corpus.reference_length - 1, 0)
    total *= np.exp(-(difference**2) / (2 * _SIGMA**2))
    per_image = np.bincount(corpus.reference_image, minlength=N)
    return 10 * np.bincount(corpus.reference_image, total, minlength=N) / per_image / LONGEST


def _similarity(own, theirs, corpus: Corpus) -> np.ndarray:
    """(R,) clipped cosine of the tf-idf vectors of n-grams of one length, between each reference and its image's candidate."""
    N, R = corpus.n_images, len(corpus.reference_image)
    reference_keys = theirs.keys(corpus.reference_image)
    documents = np.bincount(np.unique(reference_keys) % theirs.kinds, minlength=theirs.kinds)  # images whose references have it
    idf = np.log(N) - np.log(np.maximum(documents, 1))
    candidate_weight = own.count * idf[own.gram]
    reference_weight = theirs.count * idf[theirs.gram]
    norm = np.sqrt(np.bincount(own.caption, candidate_weight**2, minlength=N))[corpus.reference_image]
    norm *= np.sqrt(np.bincount(theirs.caption, reference_weight**2, minlength=R))
    if len(own.caption) == 0:
        return np.zeros(R)
    candidate_keys = own.keys(corpus.candidate_image)  # sorted: one candidate per image, in order
    place = np.minimum(np.searchsorted(candidate_keys, reference_keys), len(candidate_keys) - 1)
    shared = np.where(candidate_keys[place] == reference_keys, np.minimum(candidate_weight[place], reference_weight), 0)
    dot = np.bincount(theirs.caption, shared * reference_weight, minlength=R)
    return np.divide(dot, norm, out=np.zeros(R), where=norm > 0)
