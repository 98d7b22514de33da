"""ROUGE-L and CIDEr equal pycocoevalcap's, image by image."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.coco_metrics import cider, rouge_l
from captioning.ngrams import count_corpus

CAPTION = st.lists(st.sampled_from(["a", "the", "red", "dog", "dogs", "runs", "on", "grass"]), max_size=10).map(" ".join)
IMAGES = st.lists(st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=5)), min_size=1, max_size=7)


@given(IMAGES)
@settings(max_examples=150, deadline=None)
def test_rouge_l_equals_coco_caption(images):
    from pycocoevalcap.rouge.rouge import Rouge

    expected = [Rouge().calc_score([candidate], references) for candidate, references in images]
    assert np.allclose(rouge_l([c for c, _ in images], [r for _, r in images]), expected, atol=1e-12)


@given(IMAGES)
@settings(max_examples=150, deadline=None)
def test_cider_equals_coco_caption(images):
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    scorer = CiderScorer()
    for candidate, references in images:
        scorer += (candidate, references)
    scorer.compute_doc_freq()  # compute_score itself fails when all references are empty
    expected = scorer.compute_cider()
    corpus = count_corpus([c.split() for c, _ in images], [[r.split() for r in own] for _, own in images])
    assert np.allclose(cider(corpus), expected, atol=1e-9)
