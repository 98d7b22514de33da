"""How time and memory grow with the work: straight lines in time, memory flat in the number of images."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.speeds.bench import Measured, Peak, Size, waiter
from benchmarks.speeds.work import V

R, D, AT_ONCE = 16, 64, 250


class Line(NamedTuple):
    """seconds = start + slope * size, least squares on relative errors; residual: the worst one, relative to the line."""

    start: float
    slope: float
    residual: float


def fit(sizes: list[float], seconds: list[float]) -> Line:
    """Relative errors, so that the small sizes count as much as the large."""
    x, y = np.array(sizes, dtype=float), np.array(seconds)
    rows = np.stack([np.ones_like(x), x], axis=1)
    start, slope = np.linalg.lstsq(rows / y[:, None], np.ones_like(y), rcond=None)[0]
    expected = start + slope * x
    return Line(float(start), float(slope), float(np.max(np.abs(y - expected) / np.maximum(expected, 1e-12))))


def _measure(what: str, sizes: list[int], work_of: Callable[[int], Callable[[], object]], size: Size, device) -> Measured:
    """The best of a few turns for each size, the sizes by turns."""
    works, wait = [work_of(n) for n in sizes], waiter(device)
    best, peaks = [np.inf] * len(sizes), [None] * len(sizes)
    works[0](), wait()
    for _ in range(max(1, size.repeats // 2)):
        for k, work in enumerate(works):
            with Peak(device) as peak:
                begun = time.perf_counter()
                work()
                wait()
                best[k] = min(best[k], time.perf_counter() - begun)
            peaks[k] = peaks[k] or peak.mb  # of the first turn, which goes from small to large: what is freed stays with the process
    line = fit(sizes, best)
    more = {"sizes": sizes, "best_seconds": best, "peak_mb": peaks, **line._asdict()}
    return Measured(what, "worst distance from a straight line", [line.residual], [], [], more)


def _decoder(vocabulary: int, device):
    import torch

    from captioning.config import RunConfig
    from captioning.vocabulary import END
    from models import AttendDecoder

    torch.manual_seed(0)
    decoder = AttendDecoder(D, vocabulary, RunConfig(embed_dim=128, hidden_dim=128, attention_dim=128)).to(device).eval()
    with torch.no_grad():
        decoder.project.bias[END] = -100.0  # nothing ends early, so the work is known
    return decoder


def images(size: Size, device) -> Measured:
    """Captions from regions in a memory map, greedy, 250 images at once."""
    import torch

    from captioning.config import Decode
    from captioning.decoding import search

    most = 2 if size.quick else 5
    sizes = [10**k for k in range(2, most + 1)]
    decoder, decode = _decoder(1000, device), Decode(1, max_words=8)
    with tempfile.TemporaryDirectory() as folder:
        regions = np.lib.format.open_memmap(Path(folder) / "regions.npy", mode="w+", dtype=np.float16, shape=(sizes[-1], R, D))

        def work_of(n: int):
            def work() -> None:
                for k in range(0, n, AT_ONCE):
                    search(decoder, torch.from_numpy(regions[k : min(k + AT_ONCE, n)]).to(device).float(), decode)

            return work

        return _measure("captions against images, from a memory map", sizes, work_of, size, device)


def lengths(size: Size, device) -> Measured:
    """Beam 5, 20 images, captions of a fixed length."""
    return _searches("beam search against words", [5, 10, 20, 30, 40, 50], lambda n: (V, 5, n), size, device)


def beams(size: Size, device) -> Measured:
    """20 images, 20 words, wider and wider beams."""
    return _searches("beam search against width", [1, 2, 4, 8, 16], lambda n: (V, n, 20), size, device)


def vocabularies(size: Size, device) -> Measured:
    """20 images, beam 5, 20 words, more and more words to choose from."""
    return _searches("beam search against vocabulary", [2000, 5000, 10_000, 20_000, 50_000], lambda n: (n, 5, 20), size, device)


def _searches(what: str, sizes: list[int], settings: Callable[[int], tuple[int, int, int]], size: Size, device) -> Measured:
    """settings: of a size, vocabulary, beam and words."""
    import torch

    from captioning.config import Decode
    from captioning.decoding import search

    noise = torch.randn(4 if size.quick else 20, R, D, device=device)
    decoders = {vocabulary: _decoder(vocabulary, device) for vocabulary in {settings(n)[0] for n in sizes}}

    def work_of(n: int):
        vocabulary, beam, words = settings(n)
        return lambda: search(decoders[vocabulary], noise, Decode(beam, max_words=words))

    return _measure(what, sizes, work_of, size, device)
