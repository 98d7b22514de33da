"""Progress of a long loop: a bar on a terminal (rich), a plain line now and then in a pipe or a log."""

import sys
import time
from collections.abc import Sequence

PLAIN_SECONDS = 20.0


class track:
    """Iterate `items` and show how far it is. `say(text)` sets what stands behind the count."""

    def __init__(self, items: Sequence, description: str, quiet: bool = False, units: str = ""):
        self.items, self.description, self.quiet, self.units = items, description, quiet, units
        self.text = ""

    def say(self, text: str) -> None:
        self.text = text

    def __iter__(self):
        if self.quiet:
            return iter(self.items)
        return self._on_terminal() if sys.stderr.isatty() else self._in_pipe()

    def _on_terminal(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(self.description, total=len(self.items), text="")
            for item in self.items:
                yield item
                bar.update(task, advance=1, text=self.text)

    def _in_pipe(self):
        started = shown = time.monotonic()
        for done, item in enumerate(self.items, 1):
            yield item
            now = time.monotonic()
            if now - shown > PLAIN_SECONDS:
                shown = now
                left = (now - started) / done * (len(self.items) - done)
                behind = f", {self.text}" if self.text else ""
                print(
                    f"{self.description}: {done}/{len(self.items)} {self.units}{behind}, {left / 60:.1f} minutes left",
                    file=sys.stderr,
                    flush=True,
                )
