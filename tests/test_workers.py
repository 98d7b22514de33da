"""How many threads a run gets beside others. That images come back in order and a killed worker is said: test_pixels.py."""

import pytest

from captioning import workers


@pytest.mark.parametrize(
    ("asked", "side_by_side", "threads"),
    [(None, 1, 8), (None, 3, 2), (None, 20, 1), ("1", 1, 1), ("5", 4, 5), ("0", 2, 4), ("", 2, 4), ("4,2", 2, 4)],
)
def test_threads_of_runs_side_by_side(asked, side_by_side, threads, monkeypatch):
    monkeypatch.setattr(workers, "core_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert workers.threads_each(side_by_side) == threads
