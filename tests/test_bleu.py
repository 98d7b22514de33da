"""BLEU equals NLTK's corpus_bleu and coco-caption's BleuScorer, on any words; its counts can be summed."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning import bleu
from captioning.ngrams import count_corpus

WORDS = st.lists(st.sampled_from(["a", "the", "dog", "dogs", "runs", "<unk>", "<end>"]), max_size=9)
IMAGES = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=5)), min_size=1, max_size=6)


def nltk_values(references, candidates):
    from nltk.translate.bleu_score import corpus_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return corpus_bleu(references, candidates, weights=[(1,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4])


@given(IMAGES)
@settings(max_examples=150, deadline=None)
def test_equals_nltk(images):
    candidates, references = [c for c, _ in images], [r for _, r in images]
    expected = nltk_values(references, candidates)
    assert np.allclose(bleu.corpus_bleu(candidates, references), np.multiply(expected, 100), atol=1e-9)


@given(IMAGES)
@settings(max_examples=150, deadline=None)
def test_equals_coco_caption(images):
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for candidate, references in images:
        scorer += (" ".join(candidate), [" ".join(reference) for reference in references])
    expected, expected_per_image = scorer.compute_score(option="closest")
    rows = bleu.coco_rows(count_corpus([c for c, _ in images], [r for _, r in images]))
    assert np.allclose(bleu.coco_bleu(rows.sum(axis=0)), expected, atol=1e-12)
    assert np.allclose(bleu.coco_bleu(rows).T, expected_per_image, atol=1e-12)


@given(st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, min_size=1, max_size=4)), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_several_candidates_of_an_image_are_rows_of_their_own(images):
    """The published protocol: each caption is a hypothesis against all references of its image."""
    image = [number for number, (candidates, _) in enumerate(images) for _ in candidates]
    candidates = [candidate for own, _ in images for candidate in own]
    rows = bleu.nltk_rows(count_corpus(candidates, [references for _, references in images], image))
    expected = nltk_values([images[number][1] for number in image], candidates)
    assert np.allclose(bleu.nltk_bleu(rows.sum(axis=0)), expected, atol=1e-11)


def test_nothing_matches_or_nothing_said_is_zero():
    assert bleu.corpus_bleu([["x"]], [[["a"]]]) == (0, 0, 0, 0)
    assert bleu.corpus_bleu([[]], [[["a"]]]) == (0, 0, 0, 0)
    assert bleu.corpus_bleu([["a", "b"]], [[["a", "b"]]])[:2] == pytest.approx((100, 100))  # and no 3-gram: NLTK says 0
    assert bleu.corpus_bleu([["a", "b"]], [[["a", "b"]]])[2:] == (0, 0)


def test_images_without_references_are_refused():
    with pytest.raises(ValueError, match="at least one reference"):
        count_corpus([["a"]], [[]])
    with pytest.raises(ValueError, match="names an image"):
        count_corpus([["a"], ["b"]], [[["a"]]])
