"""Corpus scores from per-image rows, and what chance alone does to them: a bootstrap over images.

A metric's corpus value is a function of sums of rows over images (BLEU: counts; METEOR: match counts; CIDEr, ROUGE-L: the mean). A
resample draws N images with replacement, so its value is the same function of weighted sums: `counts @ rows`, a matrix product.
The draws depend only on the seed and on N: two systems scored on the same images in the same order are resampled alike (paired).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
SEED = 20240119
LEVEL = 95  # percent of the draws between an interval's ends
_CELLS = 4_000_000  # counts held at once: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """One or more metrics that come out of the same sums.

    rows: (N, K), a row per image; finish: summed rows (..., K) -> values (..., M), in the unit they are reported in; names: M of them.
    """

    names: tuple[str, ...]
    rows: np.ndarray
    finish: Callable[[np.ndarray], np.ndarray]

    def values(self) -> dict[str, float]:
        """The corpus values: what is reported, and what a bootstrap of every image once gives."""
        return dict(zip(self.names, self.finish(self.rows.sum(axis=0)).tolist(), strict=True))

    def per_image(self) -> dict[str, np.ndarray]:
        """Each image's own value, (N,) per metric: the corpus formula on that image alone."""
        return dict(zip(self.names, self.finish(self.rows).T, strict=True))


def mean_of(name: str, values: np.ndarray, scale: float = 1.0) -> Statistic:
    """A metric whose corpus value is the mean of its images' values, times `scale`."""
    return ratio_of(name, values, np.ones(len(values)), scale)


def ratio_of(name: str, numerators: np.ndarray, denominators: np.ndarray, scale: float = 1.0) -> Statistic:
    """A metric whose corpus value is sum(numerators) / sum(denominators), times `scale`; 0 / 0 is 0."""

    def finish(sums: np.ndarray) -> np.ndarray:
        return scale * sums[..., :1] / np.where(sums[..., 1:] == 0, 1, sums[..., 1:])

    return Statistic((name,), np.stack([numerators, denominators], axis=1).astype(float), finish)


def resample(statistics: Sequence[Statistic], draws: int = DRAWS, seed: int = SEED) -> dict[str, np.ndarray]:
    """(draws,) values of every metric over resampled images. All statistics have the same N images in the same order."""
    if not statistics or draws == 0:
        return {}
    rows = np.concatenate([statistic.rows for statistic in statistics], axis=1)  # (N, all K)
    sums = np.concatenate([counts @ rows for counts in image_counts(len(rows), draws, seed)])  # (draws, all K)
    values, start = {}, 0
    for statistic in statistics:
        end = start + statistic.rows.shape[1]
        values.update(zip(statistic.names, statistic.finish(sums[:, start:end]).T, strict=True))
        start = end
    return values


def image_counts(images: int, draws: int = DRAWS, seed: int = SEED) -> Iterator[np.ndarray]:
    """Blocks (B, N) of how often each image is drawn when N images are drawn from N, `draws` rows in all; the same for the same seed."""
    blocks = _kept_counts(images, draws, seed) if images * draws <= _CELLS else _draw_counts(images, draws, seed)
    return (block.astype(float) for block in blocks)


@functools.lru_cache(maxsize=4)
def _kept_counts(images: int, draws: int, seed: int) -> tuple[np.ndarray, ...]:
    """Of a small set, which one process scores many times over."""
    return tuple(_draw_counts(images, draws, seed))


def _draw_counts(images: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    block = max(1, _CELLS // images)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = generator.integers(images, size=(size, images), dtype=np.int32)
        drawn += (np.arange(size, dtype=np.int32) * images)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images)
        yield counts.astype(np.min_scalar_type(images))


def interval(values: np.ndarray) -> tuple[float, float]:
    """The two ends between which the middle 95 % of the resampled values lie (percentile bootstrap)."""
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
