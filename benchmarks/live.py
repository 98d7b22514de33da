"""What run_all.py shows while runs are at work: one table on a terminal (rich), a line for each event in a pipe; the verdict table at the end."""

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan import Run

REFRESH_SECONDS = 1.0


@dataclass
class Row:
    """Where a run is. `state`: waiting, running, done, failed."""

    run: Run
    state: str = "waiting"
    began: float = 0.0
    ended: float = 0.0
    text: str = ""


class Board:
    """The runs of this call and where each is. `seconds_left`: what the plan thinks that the rest will take, or None."""

    def __init__(self, runs: list[Run], terminal: bool | None = None):
        self.rows = {run.run_id: Row(run) for run in runs}
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self.began = time.monotonic()
        self.live = None

    @contextmanager
    def shown(self):
        """The live table stands on the terminal within this."""
        if not self.terminal:
            yield self
            return
        from rich.live import Live

        with Live(get_renderable=self.table, refresh_per_second=1 / REFRESH_SECONDS, transient=False) as self.live:
            yield self
        self.live = None

    def started(self, run: Run) -> None:
        row = self.rows[run.run_id]
        row.state, row.began = "running", time.monotonic()
        self._line(run, "started")

    def progress(self, run: Run, text: str) -> None:
        self.rows[run.run_id].text = text
        self._line(run, text)

    def done(self, run: Run, text: str) -> None:
        self._end(run, "done", text)
        self._line(run, f"done in {self._minutes(run):.1f} minutes")

    def failed(self, run: Run, reason: str, log: Path) -> None:
        text = f"failed: {reason} (log: {log})"
        self._end(run, "failed", text)
        print(f"{_name(run)}: {text}", file=sys.stderr, flush=True)

    def _end(self, run: Run, state: str, text: str) -> None:
        row = self.rows[run.run_id]
        row.state, row.ended, row.text = state, time.monotonic(), text

    def _minutes(self, run: Run) -> float:
        row = self.rows[run.run_id]
        return (row.ended - row.began) / 60

    def _line(self, run: Run, text: str) -> None:
        if not self.terminal:
            print(f"{_name(run)}: {text}", flush=True)

    def summary(self) -> str:
        """Counts, minutes so far, and minutes left as the runs that ended here took them."""
        states = [row.state for row in self.rows.values()]
        ended, minutes = states.count("done") + states.count("failed"), (time.monotonic() - self.began) / 60
        left = f", about {minutes / ended * (len(states) - ended):.0f} left" if ended and ended < len(states) else ""
        failed = f", {states.count('failed')} failed" if "failed" in states else ""
        return f"{ended} of {len(states)} runs ended{failed}; {minutes:.1f} minutes{left}"

    def table(self):
        """The rich table: what runs, what ended, how many wait."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=self.summary(), title_justify="left", expand=False)
        for column, how in (("run", "left"), ("seed", "right"), ("state", "left"), ("minutes", "right"), ("", "left")):
            table.add_column(column, justify=how, overflow="fold")
        styles = {"running": "bold", "done": "green", "failed": "red"}
        for row in self.rows.values():
            if row.state != "waiting":
                minutes = ((row.ended or time.monotonic()) - row.began) / 60
                cells = (escape(row.run.label), str(row.run.config.seed), row.state, f"{minutes:.1f}", escape(row.text))
                table.add_row(*cells, style=styles[row.state])
        waiting = sum(row.state == "waiting" for row in self.rows.values())
        if waiting:
            table.caption = f"{waiting} more wait"
        return table


def _name(run: Run) -> str:
    return f"{run.label} (seed {run.config.seed})"


def print_verdicts(claims_file: Path) -> None:
    """The verdict table of a report, from the claims.json beside it; nothing where there is none."""
    try:
        claims = json.loads(claims_file.read_text(encoding="utf-8"))["claims"]
    except (OSError, ValueError, KeyError):
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What held", title_justify="left")
    for column in ("claim", "finding", "published", "measured, 95 % interval"):
        table.add_column(column, overflow="fold")
    for claim in claims:
        published = claim["published_difference"]
        table.add_row(claim["sentence"], claim["finding"], "" if published is None else f"{published:+.2f} %", _measured(claim))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _measured(claim: dict) -> str:
    parts = [(part["relative_difference"], part["interval"]) for part in claim["parts"]]
    if len(parts) == 1:
        value, (low, high) = parts[0]
        return f"{value:+.1f} % ({low:+.1f} to {high:+.1f})"
    if parts:
        values = [value for value, _ in parts]
        return f"{len(parts)} pairs, {min(values):+.1f} to {max(values):+.1f} %"
    return claim["reason"]
