"""A bar of bytes: how far a download, a checksum or an unpacking is, and how fast. On a terminal rich's, in a pipe a plain line now and then."""

import sys
import time

from captioning.progress import PLAIN_SECONDS

GB = 1e9


def size_text(count: int) -> str:
    """12_345_678 as "12 MB"."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6)):
        if count >= bytes_each:
            return f"{count / bytes_each:.{1 if unit == 'GB' else 0}f} {unit}"
    return f"{count / 1e3:.0f} KB"


class ByteBar:
    """`with ByteBar("checking a.zip", total) as bar: bar.to(n)`: n bytes of `total` are done. total=None: not known. `start`: done before this call."""

    def __init__(self, description: str, total: int | None, start: int = 0):
        self.description, self.total, self.start = description, total, start
        self.started = self.shown = time.monotonic()
        self.bar = None

    def __enter__(self) -> "ByteBar":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.description, total=self.total, completed=self.start)
            self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.stop()

    def to(self, done: int) -> None:
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(self.task, completed=done)
        elif now - self.shown > PLAIN_SECONDS:
            self.shown = now
            print(self._line(done, now - self.started), file=sys.stderr, flush=True)

    def _line(self, done: int, seconds: float) -> str:
        speed = (done - self.start) / seconds  # bytes a second
        line = f"{self.description}: {done / GB:.2f}{'' if self.total is None else f' of {self.total / GB:.2f}'} GB, {speed / 1e6:.1f} MB/s"
        if self.total is None or speed <= 0:
            return line
        return f"{line}, {(self.total - done) / speed / 60:.1f} minutes left"
