"""Keeps runs at work, each in a process of its own; a failing one is a record with its reason and never stops the rest.

On a CPU the children are forked from a parent that has imported everything and run no tensor operation; on GPUs they are spawned, one a GPU.
"""

import fcntl
import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.live import Board
from benchmarks.one_run import Place, record_failure
from benchmarks.plan import Run, is_done
from benchmarks.scorer import Scorer
from captioning.bad_input import BadInput
from captioning.config import main_beam_of
from captioning.locks import LEAVING_SECONDS
from captioning.records import list_records

TICK_SECONDS = 0.2
STOPPING = (signal.SIGTERM, signal.SIGINT)
REPORT_SHARE = 0.05  # of the time: a report after each run is of no use if runs wait for it
REASON_BYTES = 4000  # a pipe holds 64 kB: a run that tells more would wait for a reader


@dataclass
class Running:
    """A run at work. told: where it says why it failed; log_from: bytes of its log that earlier attempts wrote."""

    run: Run
    process: BaseProcess
    gpu: int
    told: Connection
    log_from: int

    def reason(self) -> str:
        """What the process, which has ended, said of why it failed; "" where it was killed before it could."""
        try:
            return self.told.recv_bytes().decode("utf-8", "replace") if self.told.poll() else ""
        except (EOFError, OSError):
            return ""


class Runner:
    """`run_missing` does the work. rebuild: makes the report; it runs in a process of its own between runs, and is called here once more by nobody.
    again: the command that goes on where this one stopped, in words."""

    def __init__(self, place: Place, data, workers: int, gpus: int, budget_minutes: float, rebuild, again: str = "the same command"):
        self.place, self.data, self.workers, self.gpus, self.rebuild, self.again = place, data, workers, gpus, rebuild, again
        # A CUDA context does not survive a fork.
        self.context = multiprocessing.get_context("spawn" if gpus else "fork")
        self.running: dict[int, Running] = {}  # by process id
        self.shown: dict[str, int] = {}
        self.deadline = time.monotonic() + 60 * budget_minutes if budget_minutes else float("inf")
        self.report = Report(self.context, rebuild)

    def run_missing(self, missing: list[Run], board: Board) -> int:
        """Run them; returns how many failed."""
        waiting, failed, stopped = list(missing), 0, 0
        before = {number: signal.signal(number, _leave) for number in STOPPING}
        scorer = None
        try:
            with _signals_held():
                scorer = Scorer(self.context, _in_child)
            self.place = replace(self.place, scorer=scorer.address)
            with board.shown():
                while waiting or self.running:
                    while waiting and len(self.running) < self.workers and time.monotonic() < self.deadline:
                        self._start(waiting.pop(0), board)
                    if time.monotonic() > self.deadline:
                        stopped = len(waiting) + len(self.running)
                        break
                    time.sleep(TICK_SECONDS)
                    self._show_progress(board)
                    failed += self._collect(board)
                    board.refresh()
        finally:
            _ignore_signals()  # a second Ctrl-C would leave processes and files behind; what follows takes a minute at most
            self._stop_children()
            self.report.stop()
            if scorer is not None:
                scorer.close()
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if stopped:
            print(f"out of budget: {stopped} runs are left; {self.again} goes on where they stopped")
        return failed

    def _start(self, run: Run, board: Board) -> None:
        taken = [one.gpu for one in self.running.values()]
        gpu = min(range(self.gpus), key=taken.count, default=0)
        log = self._log_of(run)
        log_from = log.stat().st_size if log.exists() else 0
        told, telling = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_child, args=(run, self.place, self.data, telling))
        with _signals_held(), _only_gpu(gpu if self.gpus > 1 else None):
            process.start()
            self.running[process.pid] = Running(run, process, gpu, told, log_from)
        telling.close()
        board.started(run)

    def _collect(self, board: Board) -> int:
        failed = 0
        for pid, one in list(self.running.items()):
            if one.process.is_alive():
                continue
            one.process.join()
            del self.running[pid]
            drop_failures_of(self.place.folder, one.run)
            if is_done(self.place.folder, one.run):
                board.done(one.run, headline(self.place.folder, one.run))
            else:
                failed += 1
                self._note_failure(one, board)
            one.told.close()
            self.report.outdated = True
        self.report.build_if_due()
        return failed

    def _note_failure(self, one: Running, board: Board) -> None:
        log, status = self._log_of(one.run), one.process.exitcode
        ended_by = -status if status < 0 else status - 128  # killed, or left after saving its state
        if ended_by > 0:
            memory = " (SIGKILL: most often memory ran out)" if ended_by == signal.SIGKILL else ""
            otherwise = f"the process was ended by signal {ended_by}{memory}; {self.again} goes on where it stopped"
        else:
            otherwise = _last_line(log, one.log_from) or f"the process ended with status {status} and said nothing"
        reason = one.reason() or otherwise
        record_failure(one.run, self.place, reason)
        board.failed(one.run, reason, log)

    def _log_of(self, run: Run) -> Path:
        return self.place.folder / "logs" / f"{run.run_id}.log"

    def _show_progress(self, board: Board) -> None:
        for run in [one.run for one in self.running.values()]:
            curve = self.place.folder / "checkpoints" / run.run_id / "metrics.jsonl"
            lines = curve.read_text(encoding="utf-8").split("\n")[:-1] if curve.exists() else []  # whole ones only
            for line in lines[self.shown.setdefault(run.run_id, len(lines) if len(lines) > 1 else 0) :]:
                row = json.loads(line)
                top5 = f", top-5 {row['val_top5']:.1f} %" if "val_top5" in row else ""  # of words only, not of subwords
                board.progress(run, f"epoch {row['epoch']}/{run.config.epochs}, BLEU-4 {row['val_bleu4_free']:.1f} (free, greedy){top5}")
            self.shown[run.run_id] = max(self.shown[run.run_id], len(lines))

    def _stop_children(self) -> None:
        """They save their states and leave; those that have not after a minute are killed (their last states are on disk)."""
        if self.running:
            print(f"stopping: {len(self.running)} runs save their states; {self.again} goes on there", file=sys.stderr, flush=True)
        deadline = time.monotonic() + LEAVING_SECONDS
        for one in self.running.values():
            one.process.terminate()
        for one in self.running.values():
            one.process.join(max(0.0, deadline - time.monotonic()))
            if one.process.is_alive():
                one.process.kill()
                one.process.join()
            one.told.close()
        self.running.clear()


class Report:
    """Rebuilds the report beside the runs, one build at a time, and not so often that runs would wait for it."""

    def __init__(self, context, rebuild):
        self.context, self.rebuild = context, rebuild
        self.outdated, self.process, self.began, self.next = False, None, 0.0, 0.0

    def build_if_due(self) -> None:
        now = time.monotonic()
        if self.process is not None and not self.process.is_alive():
            self.process.join()
            self.process, self.next = None, now + (now - self.began) / REPORT_SHARE
        if self.outdated and self.process is None and now >= self.next:
            self.outdated, self.began = False, now
            with _signals_held():
                self.process = self.context.Process(target=_build_report, args=(self.rebuild,))
                self.process.start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join(5)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
            self.process = None


def _build_report(rebuild) -> None:
    _in_child()
    os.nice(5)
    try:
        rebuild()
    except (BadInput, OSError) as error:  # the runs are what takes hours; the last report of all says it again
        if not sys.stdout.isatty():  # it would stand in the midst of the live table
            print(f"run_all.py: report not written: {error}", file=sys.stderr, flush=True)


def headline(folder: Path, run: Run) -> str:
    """A finished run in a few words."""
    records = [r for r in list_records(folder / "runs")[0] if r["run_id"] == run.run_id]
    free = records[0]["scores"]["val"]["free"] if records else {}
    beam = main_beam_of(free) if free else ""
    value = free[beam]["scores"].get("BLEU-4") if beam else None
    return "" if value is None else f"BLEU-4 {value:.1f} (free, beam {beam}, validation)"


def drop_failures_of(folder: Path, run: Run) -> None:
    """A row failed for want of weights has another id than the same row with them; only the newest stands."""
    for record in list_records(folder / "runs")[0]:
        same = record["name"] == run.config.name and record["config"].get("seed") == run.config.seed
        if record["status"] == "failed" and same and record["run_id"] != run.run_id:
            (folder / "runs" / f"{record['run_id']}.json").unlink(missing_ok=True)


@contextmanager
def _signals_held():
    """A signal between a fork and the child's own handlers would be swallowed (Python's after-fork hooks drop what a handler raises)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _only_gpu(number: int | None):
    """The child that is spawned within sees this GPU alone, of those that this process may use; None: all."""
    if number is None:
        yield
        return
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    os.environ[name] = before.split(",")[number] if before else str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _leave(number: int, _) -> None:
    """The parent's handler: clean up and leave, once."""
    _ignore_signals()
    raise SystemExit(128 + number)


def _ignore_signals() -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _in_child() -> None:
    """The first lines of every child: the parent's signal handlers and whatever stands for stdout and stderr there are not its own, and it ends with
    the parent."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    leave_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _last_line(log: Path, start: int) -> str:
    """Of what stands in a log from byte `start` on; "" for nothing."""
    text = log.read_bytes()[start:].decode("utf-8", "replace") if log.exists() else ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _child(run: Run, place, data, telling: Connection) -> None:
    """A run in its own process: output to its log; if it fails, the reason to `telling`."""
    from benchmarks.one_run import execute

    _in_child()
    log = place.folder / "logs" / f"{run.run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        execute(run, place, data)
        return
    except BadInput as error:
        reason, status = str(error), 2
    except Exception as error:
        import traceback

        traceback.print_exc()
        reason, status = f"{type(error).__name__}: {error}", 1
    reason = " ".join(reason.split())
    print(f"error: {reason}", file=sys.stderr, flush=True)
    telling.send_bytes(reason.encode("utf-8", "replace")[:REASON_BYTES])
    sys.exit(status)


def leave_with_parent() -> None:
    """On Linux, SIGTERM when run_all.py dies, even by kill -9: nobody would collect the run, and it would keep the lock."""
    if sys.platform == "linux":
        import ctypes
        import multiprocessing

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != multiprocessing.parent_process().pid:
            sys.exit(128 + signal.SIGTERM)  # it died before the line above


@contextmanager
def only_one(folder: Path):
    """One run_all at a time on a profile's results; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as lock:
        _take(lock, folder)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _take(lock, folder: Path) -> None:
    """The runs of a run_all.py that was killed hold its lock until they have saved their states and left: they are waited for."""
    deadline = time.monotonic() + LEAVING_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            if _is_alive(holder) or time.monotonic() > deadline:
                raise BadInput(
                    f"{folder}: another run_all.py (process {holder}) is at work there; wait for it or use --results DIR"
                ) from None
        time.sleep(TICK_SECONDS)


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True
