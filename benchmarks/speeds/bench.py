"""Interleaved timing: what two ways of doing the same work take on this machine, one after the other, several times."""

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Size(NamedTuple):
    """How much work: as the targets say, or small for a rehearsal (`--quick`), whose ratios say nothing."""

    repeats: int
    quick: bool


@dataclass(frozen=True)
class Target:
    """What a row's value must reach (at_least) or keep under (at_most)."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"at least {self.at_least:g}" if self.at_most is None else f"at most {self.at_most:g}"


@dataclass
class Measured:
    """One row: `values` of each turn, of which the median, the lowest and the highest are reported.

    unit: what a value is. ours, peer: the seconds that they come from, empty where there are none. more: facts that stand beside them (sizes,
    rates, peaks of memory), JSON.
    """

    what: str
    unit: str
    values: list[float]
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    more: dict = field(default_factory=dict)

    @property
    def value(self) -> float:
        return statistics.median(self.values)


def interleave(ours: Callable[[], object], peer: Callable[[], object], repeats: int, wait: Callable[[], object] = lambda: None):
    """Seconds of each, (repeats,) and (repeats,): both once to warm up, then by turns, so that a machine that slows down slows both."""
    ours(), peer(), wait()
    found: tuple[list[float], list[float]] = ([], [])
    for k in range(repeats):
        for which in (0, 1) if k % 2 == 0 else (1, 0):
            begun = time.perf_counter()
            (ours, peer)[which]()
            wait()
            found[which].append(time.perf_counter() - begun)
    return found


def ratios(ours: list[float], peer: list[float], per_ours: float = 1.0, per_peer: float = 1.0) -> list[float]:
    """The peer's time over ours, turn by turn. per_ours, per_peer: units of work that each did in a turn."""
    return [(b / per_peer) / (a / per_ours) for a, b in zip(ours, peer, strict=True)]


def gflop_of(work: Callable[[], object]) -> float:
    """Multiplications and additions of its matrix products, in 1e9, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def waiter(device) -> Callable[[], object]:
    """Waits until the device has done what it was given."""
    import torch

    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


class Peak:
    """`with Peak(device) as peak: ...`, then `peak.mb`: the most memory held within, on a GPU of its own, else this process's anonymous memory as looked
    at two hundred times a second; None where unknown."""

    def __init__(self, device):
        self.device, self.mb = device, None
        self.ended = threading.Event()

    def __enter__(self) -> "Peak":
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self.watcher = threading.Thread(target=self._watch)
            self.watcher.start()
        return self

    def __exit__(self, *_) -> None:
        if self.device.type == "cuda":
            import torch

            self.mb = round(torch.cuda.max_memory_allocated(self.device) / 1e6)
            return
        self.ended.set()
        self.watcher.join()

    def _watch(self) -> None:
        while True:
            now = status_mb("RssAnon")
            self.mb = now if self.mb is None or now is None else max(self.mb, now)
            if now is None or self.ended.wait(0.005):
                return


def status_mb(name: str, process: int | str = "self") -> int | None:
    """A line of /proc/PID/status in MB; None where there is none."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((round(int(line.split()[1]) * 1024 / 1e6) for line in lines if line.startswith(f"{name}:")), None)
