"""What run_all.py shows while runs are at work: one table on a terminal (rich), a line for each event in a pipe; the verdict table at the end."""

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan import Run

REFRESH_SECONDS = 1.0
FRAME_LINES = 9  # of the live table: title, rules, heading and what stands below
PIPE_WIDTH = 120


@dataclass
class Row:
    """Where a run is. `state`: waiting, running, done, failed."""

    run: Run
    state: str = "waiting"
    began: float = 0.0
    ended: float = 0.0
    text: str = ""


class Board:
    """The runs of this call and where each is: on a terminal a live table, which `refresh` draws anew; in a pipe a line for each event."""

    def __init__(self, runs: list[Run], terminal: bool | None = None):
        self.rows = {run.run_id: Row(run) for run in runs}
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self.began = time.monotonic()
        self.drawn = 0.0
        self.live = None

    @contextmanager
    def shown(self):
        """The live table stands on the terminal within this; afterwards, every run that was begun."""
        if not self.terminal:
            yield self
            return
        from rich.console import Console
        from rich.live import Live

        console = Console()
        # Runs are forked from this process. A lock that a thread of rich's holds at that moment would stay held in the child, and rich's stand-ins for
        # stdout and stderr would draw the table into the child's log: so no thread, and no stand-ins.
        quiet = {"auto_refresh": False, "redirect_stdout": False, "redirect_stderr": False, "transient": True}
        try:
            with Live(get_renderable=lambda: self.table(*console.size), console=console, **quiet) as self.live:
                yield self
        finally:
            self.live = None
            console.print(self.all_begun())

    def refresh(self) -> None:
        """Draw the live table anew, once a second at most."""
        if self.live is not None and time.monotonic() - self.drawn >= REFRESH_SECONDS:
            self.drawn = time.monotonic()
            self.live.refresh()

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
        line = f"{_name(run)}: {text}"
        if self.live is not None and sys.stderr.isatty():
            self.live.console.print(_cell(line), soft_wrap=True)  # above the table
        else:
            print(line, file=sys.stderr, flush=True)

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

    def table(self, width: int = 80, height: int = 24):
        """The rich table for a terminal of so many columns and lines: what runs, then what failed, a line each; the others are counted."""
        running = sorted((row for row in self.rows.values() if row.state == "running"), key=lambda row: row.began)
        ended = sorted((row for row in self.rows.values() if row.ended), key=lambda row: -row.ended)
        these = running + [row for row in ended if row.state == "failed"]
        shown = these[: max(1, height - FRAME_LINES)]
        table = self._table(shown, width - 3)  # where a terminal shows Ctrl-C as ^C, that must not begin a new line
        states = [row.state for row in self.rows.values()]
        counts = [f"{states.count('done')} done", f"{states.count('waiting')} more wait"]
        counts += [f"{len(these) - len(shown)} of those above not shown"] if len(these) > len(shown) else []
        last = next((row for row in ended if row.state == "done"), None)
        table.caption = _cell(", ".join(counts) + (f"\nlast done: {_name(last.run)}: {last.text}" if last else ""))
        return table

    def all_begun(self):
        """The rich table of every run that was begun, in the plan's order."""
        return self._table([row for row in self.rows.values() if row.state != "waiting"])

    def _table(self, rows: list[Row], width: int | None = None):
        """width: a line for each row, cut to so many columns."""
        from rich.table import Table

        table = Table(title=self.summary(), title_justify="left", caption_justify="left", width=width)
        overflow = {"overflow": "fold"} if width is None else {"overflow": "ellipsis", "no_wrap": True}
        table.add_column("run", ratio=3, **overflow)
        for column in ("seed", "state", "minutes"):
            table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
        table.add_column("", ratio=4, **overflow)
        styles = {"running": "bold", "done": "green", "failed": "red"}
        for row in rows:
            minutes = ((row.ended or time.monotonic()) - row.began) / 60
            cells = (row.run.label, str(row.run.config.seed), row.state, f"{minutes:.1f}", row.text)
            table.add_row(*(_cell(" ".join(cell.split())) for cell in cells), style=styles[row.state])
        return table


def _name(run: Run) -> str:
    return f"{run.label} (seed {run.config.seed})"


def _cell(text: str):
    """Text that rich prints as it is: a label or a reason may hold what rich takes for markup."""
    from rich.text import Text

    return Text(text)


def print_verdicts(claims_file: Path) -> None:
    """The verdict table of a report, from the claims.json beside it; nothing where there is none."""
    try:
        claims = json.loads(claims_file.read_text(encoding="utf-8"))["claims"]
    except (OSError, ValueError, KeyError):
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What held", title_justify="left", show_lines=True)
    for column in ("claim", "scale", "finding", "published", "measured (95 % interval)"):
        table.add_column(column, overflow="fold", no_wrap=column == "published")
    for claim in claims:
        also = claim["metric"] != claim["published_metric"]
        cells = (
            claim["sentence"] + (f", judged on {claim['metric']}" if also else ""),
            claim["scale"]["text"],
            claim["finding"],
            _published(claim),
            _measured(claim),
        )
        table.add_row(*map(_cell, cells))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _published(claim: dict) -> str:
    from reports.verdicts import is_value

    if is_value(claim):
        return f"{claim['metric']} {claim['published_value']:g}"
    return "no size" if claim["published_difference"] is None else f"{claim['published_difference']:+.2f} %"


def _measured(claim: dict) -> str:
    """The difference that decides, or the value, with its interval; the reason where nothing was judged."""
    from captioning.claims import NOT_RUN
    from reports.verdicts import deciding_part, is_value

    part = deciding_part(claim)
    if part is None or claim["finding"] == NOT_RUN:
        return claim["reason"] or "a condition was not run"
    low, high = part["interval"]
    if is_value(claim):
        return f"{part['value']:.1f} ({low:.1f} to {high:.1f})"
    measured = f"{part['relative_difference']:+.1f} % ({low:+.1f} to {high:+.1f})"
    pairs = len(claim["parts"])
    return measured if pairs == 1 else f"{measured}: {part['better']} against {part['worse']}, which decides of {pairs} pairs"
