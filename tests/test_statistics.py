"""The bootstrap: by hand on two images, against a resample written out, paired, and equal to what is reported when nothing is resampled."""

import numpy as np
import pytest

from captioning import bleu
from captioning.ngrams import count_corpus
from captioning.statistics import DRAWS, Statistic, image_counts, interval, mean_of, ratio_of, resample


def test_two_images_by_hand():
    """Two images with values 10 and 30: a resample is 10, 20 or 30, with chances 1/4, 1/2, 1/4."""
    metric = mean_of("m", np.array([10.0, 30.0]))
    assert metric.values() == {"m": 20.0}
    values = resample([metric])["m"]
    shares = [float(np.mean(values == v)) for v in (10, 20, 30)]
    assert sum(shares) == 1 and np.allclose(shares, [0.25, 0.5, 0.25], atol=0.02)
    assert interval(values) == (10, 30)
    # A ratio of sums is no mean of ratios: 1/2 and 9/10 give 1/2, 10/12 or 9/10.
    ratio = ratio_of("r", np.array([1, 9]), np.array([2, 10]))
    assert ratio.values()["r"] == pytest.approx(10 / 12)
    assert set(np.round(resample([ratio], 100)["r"], 12)) == {0.5, round(10 / 12, 12), 0.9}


def test_a_resample_is_the_score_of_the_drawn_images():
    from nltk.translate.bleu_score import corpus_bleu

    generator = np.random.default_rng(0)
    captions = [[list(generator.choice(list("abcd"), 8)) for _ in range(4)] for _ in range(9)]
    candidates, references = [c[0] for c in captions], [c[1:] for c in captions]
    statistic = Statistic(bleu.NAMES, bleu.nltk_rows(count_corpus(candidates, references)), bleu.nltk_bleu)
    values = resample([statistic], draws=20, seed=5)["BLEU-4"]
    counts = np.concatenate(list(image_counts(9, 20, 5))).astype(int)
    for value, count in zip(values, counts, strict=True):
        drawn = np.repeat(np.arange(9), count)
        assert value == pytest.approx(corpus_bleu([references[i] for i in drawn], [candidates[i] for i in drawn]), abs=1e-9)


def test_every_draw_has_as_many_images_and_blocks_do_not_matter(monkeypatch):
    whole = np.concatenate(list(image_counts(30, 50, 1)))
    assert whole.shape == (50, 30) and (whole.sum(axis=1) == 30).all()
    monkeypatch.setattr("captioning.statistics._CELLS", 90)
    assert np.array_equal(np.concatenate(list(image_counts(30, 50, 1))), whole)


def test_interval_holds_the_value_and_shrinks_with_images():
    generator = np.random.default_rng(1)
    widths = []
    for images in (100, 1600):
        metric = mean_of("m", generator.normal(50, 10, images))
        low, high = interval(resample([metric], 4000)["m"])
        assert low < metric.values()["m"] < high
        assert high - low == pytest.approx(2 * 1.96 * 10 / images**0.5, rel=0.15)  # the textbook's interval of a mean
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.2)


def test_one_image_and_no_draws():
    metric = mean_of("m", np.array([7.0]))
    assert set(resample([metric], 10)["m"]) == {7.0}
    assert resample([metric], 0) == {} and resample([], DRAWS) == {}
