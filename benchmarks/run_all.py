"""The main job: plan, train and score what is missing, rebuild the report after each run.

    python benchmarks/run_all.py                                        # the demo, any machine
    python benchmarks/run_all.py --profile flickr8k --data DIR          # photographs
    python benchmarks/run_all.py --list

Reads the data set and encoder weights; writes results/<profile>/ (records, predictions, checkpoints, logs) and reports/. A run whose record
is there is not run again; a killed, failed or out-of-budget one goes on where it stopped.
"""

import argparse
import fcntl
import functools
import importlib
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

from benchmarks.experiments import NAMES  # noqa: E402
from benchmarks.plan import Run, is_done, make_plan  # noqa: E402
from benchmarks.profiles import PROFILES, profile_named  # noqa: E402
from captioning.bad_input import BadInput, run_command  # noqa: E402

TICK_SECONDS = 0.5
LEAVING_SECONDS = 60.0
STOPPING = (signal.SIGTERM, signal.SIGINT)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train, score and report every run of the study that is not done yet.",
        epilog="example: python benchmarks/run_all.py --profile flickr8k --data flickr8k --budget 60",
    )
    parser.add_argument("--profile", default="demo", help=f"{', '.join(PROFILES)} (default demo)")
    parser.add_argument("--data", default="", metavar="DIR", help="data folder; the demo draws its own")
    parser.add_argument(
        "--weights", default="pretrained", metavar="PLACE", help="encoder weights: pretrained (by name), none, a file or a folder"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="EXPERIMENT", help="experiments, or EXPERIMENT:RUN for one row")
    parser.add_argument(
        "--encoder", nargs="+", default=[], metavar="FILE.py:FACTORY", help="rows for encoders of your own; the files are run"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N-1 of every run (default 1)")
    parser.add_argument("--budget", type=float, default=0, metavar="MINUTES", help="stop after so long, states saved; 0 is no limit")
    parser.add_argument("--workers", type=int, default=0, help="runs side by side (default: one a CPU core up to 2; one on a GPU)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--results", default=str(ROOT / "results"), metavar="DIR")
    parser.add_argument("--reports", default=str(ROOT / "reports"), metavar="DIR")
    parser.add_argument(
        "--cache", default="", metavar="DIR", help="decoded pixels and kept regions (default $RECAP_CACHE or ~/.cache/recap)"
    )
    parser.add_argument("--force", action="store_true", help="run again what is done")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--list", action="store_true", help="print the experiments and their runs and stop")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise BadInput(f"--seeds {options.seeds}: give a number of at least 1")
    if not (options.workers >= 0 and options.budget >= 0):
        raise BadInput("--workers and --budget: give numbers of at least 0")
    return options


def main() -> int:
    options = parse_arguments()
    profile = profile_named(options.profile)
    if options.list:
        return list_experiments(profile)
    from captioning.data import load_data

    where = options.data or profile.data
    if not where:
        raise BadInput(
            f"--profile {profile.name} needs --data DIR, the folder of the data set; python -m captioning.data DIR shows what one holds"
        )
    data = load_data(where)
    folder = Path(options.results) / profile.name
    without_restval = functools.cache(lambda: load_data(where, restval=False).fingerprint)

    def fingerprint_of(restval: bool) -> str:
        return data.fingerprint if restval else without_restval()

    plan = make_plan(profile, options.only, options.seeds, options.encoder, options.weights, fingerprint_of, fetch=not options.dry_run)
    missing = [run for run in plan if options.force or not is_done(folder, run)]
    describe(plan, missing, folder, profile, data)
    if options.dry_run:
        return 0
    with only_one(folder):
        if options.force:
            forget(folder, missing)
        note_plan(folder, plan, whole=not options.only)
        failed = Runner(options, profile, folder, where, data).run_missing(missing) if missing else 0
        report = rebuild_report(options) if any((folder / "runs").glob("*.json")) else "none yet, no run has ended"
    print(f"report: {report}")
    if profile.name == "demo":
        print(say_larger_data(), end="")
    return 1 if failed else 0


def say_larger_data() -> str:
    """The demo's last line where photographs lie at hand: the command for them, and its cost."""
    homes = [Path(os.environ["RECAP_DATA"])] if "RECAP_DATA" in os.environ else []
    for home in [*homes, ROOT / "data", ROOT, ROOT.parent / "data"]:
        for profile in reversed(PROFILES.values()):
            folder = home / profile.name
            if any(folder.glob("dataset*.json")):
                cost = f" (about {profile.minutes:g} minutes a run on one CPU core)" if profile.minutes else ""
                return f"larger data is here: python benchmarks/run_all.py --profile {profile.name} --data {folder}{cost}\n"
    return ""


def list_experiments(profile) -> int:
    for name in NAMES:
        experiment = importlib.import_module(f"benchmarks.experiments.{name}")
        print(f"{name}: {experiment.__doc__.splitlines()[0]}")
        for label, config in experiment.runs(profile):
            print(f"  {name}:{config.name:<20} {config.system:<12} {label}")
    return 0


def describe(plan: list[Run], missing: list[Run], folder: Path, profile, data) -> None:
    """The plan: what is done, what is to do, and how long like runs took."""
    sizes = ", ".join(f"{len(data.split(s)):,} {s}" for s in ("train", "val", "test"))
    print(f"profile {profile.name}: {data.name}, {sizes} images; {len(plan)} runs, {len(plan) - len(missing)} done")
    minutes = minutes_of_a_run(folder)
    for run in plan:
        state = "to do" if run in missing else "done"
        state = f"cannot run: {run.problem}" if run.problem else state
        print(f"  {run.label:<28} seed {run.config.seed}  {run.run_id:<36} {state}")
    if missing and minutes:
        print(f"about {minutes:.1f} minutes a run, as measured here")
    elif missing and profile.minutes:
        print(f"about {profile.minutes:g} minutes a run on one CPU core (2.5 GHz); measured here after the first")


def minutes_of_a_run(folder: Path) -> float:
    from captioning.records import list_records

    records, problems = list_records(folder / "runs")
    for problem in problems:
        print(f"run_all.py: {problem}", file=sys.stderr)
    seconds = sorted(r["cost"]["train_seconds"] + r["cost"]["eval_seconds"] for r in records if r["status"] == "finished")
    return seconds[len(seconds) // 2] / 60 if seconds else 0.0


def forget(folder: Path, runs: list[Run]) -> None:
    """Remove what runs wrote, so that --force starts them from nothing."""
    import shutil

    for run in runs:
        shutil.rmtree(folder / "checkpoints" / run.run_id, ignore_errors=True)
        for path in (folder / "runs" / f"{run.run_id}.json", folder / "captions" / f"{run.run_id}.jsonl.gz"):
            path.unlink(missing_ok=True)


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


class Runner:
    """Keeps so many children at work, a run each; a failing one is a record with its reason and never stops the rest."""

    def __init__(self, options, profile, folder: Path, where: str, data):
        from benchmarks.one_run import Place
        from captioning.cache import default_cache

        self.options, self.folder, self.data = options, folder, data
        self.cuda = warm_up(options.device)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = options.workers or (1 if self.cuda else min(2, cores))
        evidence = (ROOT / "results" / "evidence").resolve()
        own = Path(options.results).resolve() != evidence and evidence not in Path(options.results).resolve().parents
        self.place = Place(
            folder=folder,
            profile=profile.name,
            data=where,
            weights=options.weights,
            cache=options.cache or str(default_cache()),
            device="cuda" if self.cuda else "cpu",
            threads=max(1, cores // self.workers),
            save_minutes=5.0,
            keep_pictures=own or not profile.photos,
            command=rerun_command(options),
        )
        self.running: dict[int, tuple[Run, float]] = {}
        self.shown: dict[str, int] = {}
        self.deadline = time.monotonic() + 60 * options.budget if options.budget else float("inf")

    def run_missing(self, missing: list[Run]) -> int:
        """Run them; returns how many failed."""
        waiting, failed, stopped = list(missing), 0, 0
        for number in STOPPING:
            signal.signal(number, lambda n, _: (_ for _ in ()).throw(SystemExit(128 + n)))
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.workers and time.monotonic() < self.deadline:
                    self._start(waiting.pop(0))
                if time.monotonic() > self.deadline:
                    stopped = len(waiting) + len(self.running)
                    waiting = []
                    self._stop_children()
                    break
                time.sleep(TICK_SECONDS)
                self._show_progress()
                failed += self._collect()
        except BaseException:
            self._stop_children()
            raise
        if stopped:
            print(f"out of budget: {stopped} runs are left; the same command goes on where they stopped")
        return failed

    def _start(self, run: Run) -> None:
        import multiprocessing

        # Forked from a parent that has imported everything and run no tensor operation; a CUDA context does not survive a fork.
        context = multiprocessing.get_context("spawn" if self.cuda else "fork")
        process = context.Process(target=_child, args=(run, self.place, self.data))
        # A signal between the fork and the child's own handlers would be swallowed (Python's after-fork hooks drop what a handler raises).
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            process.start()
            self.running[process.pid] = (run, time.monotonic(), process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        print(f"{run.label} (seed {run.config.seed}): started", flush=True)

    def _collect(self) -> int:
        failed = 0
        for pid, (run, began, process) in list(self.running.items()):
            if process.is_alive():
                continue
            process.join()
            del self.running[pid]
            self._drop_failures_of(run)
            if is_done(self.folder, run):
                print(f"{run.label} (seed {run.config.seed}): done in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
            else:
                failed += 1
                self._say_failure(run, process.exitcode)
            try:
                rebuild_report(self.options)
            except (BadInput, OSError) as error:  # the runs are what takes hours; the last report of all says it again
                print(f"run_all.py: report not written: {error}", file=sys.stderr, flush=True)
        return failed

    def _say_failure(self, run: Run, status: int) -> None:
        from benchmarks.one_run import record_failure

        log = self.folder / "logs" / f"{run.run_id}.log"
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] if log.exists() else []
        reason = lines[-1].removeprefix("error: ") if lines else f"the process ended with status {status} and said nothing"
        ended_by = -status if status < 0 else status - 128  # killed, or left after saving its state
        if ended_by > 0:
            reason = f"the process was ended by signal {ended_by}; the same command goes on where it stopped"
        record_failure(run, self.place, reason)
        print(f"{run.label} (seed {run.config.seed}): failed: {reason} (log: {log})", file=sys.stderr, flush=True)

    def _drop_failures_of(self, run: Run) -> None:
        """A row failed for want of weights has another id than the same row with them; only the newest stands."""
        from captioning.records import list_records

        for record in list_records(self.folder / "runs")[0]:
            same = record["name"] == run.config.name and record["config"].get("seed") == run.config.seed
            if record["status"] == "failed" and same and record["run_id"] != run.run_id:
                (self.folder / "runs" / f"{record['run_id']}.json").unlink(missing_ok=True)

    def _show_progress(self) -> None:
        import json

        for run, *_ in self.running.values():
            curve = self.folder / "checkpoints" / run.run_id / "metrics.jsonl"
            lines = curve.read_text(encoding="utf-8").split("\n")[:-1] if curve.exists() else []  # whole ones only
            for line in lines[self.shown.setdefault(run.run_id, len(lines) if len(lines) > 1 else 0) :]:
                row = json.loads(line)
                text = f"epoch {row['epoch']}/{run.config.epochs}, BLEU-4 {row['val_bleu4_free']:.1f} (free, greedy), top-5 {row['val_top5']:.1f} %"
                print(f"{run.label} (seed {run.config.seed}): {text}", flush=True)
            self.shown[run.run_id] = max(self.shown[run.run_id], len(lines))

    def _stop_children(self) -> None:
        """They save their states and leave; one that does not within a minute is killed (its last state is on disk)."""
        for _, _, process in self.running.values():
            process.terminate()
        for _, _, process in self.running.values():
            process.join(60)
            if process.is_alive():
                process.kill()
                process.join()
        self.running.clear()


def note_plan(folder: Path, plan: list[Run], whole: bool) -> None:
    """The runs asked for, for the report; a call that asks for some only (--only) leaves the others planned."""
    from captioning.records import merge_plans, read_plan, write_plan

    entries = [run.entry() for run in plan]
    try:
        write_plan(folder, entries if whole else merge_plans(read_plan(folder), entries))
    except BadInput as error:
        print(f"run_all.py: {error}", file=sys.stderr)
        write_plan(folder, entries)


def warm_up(device: str) -> bool:
    """Import what every run needs, once, before forking; says whether runs go to a GPU."""
    # torch would otherwise start CUDA to count devices, and a forked child could not use it.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import accelerate  # noqa: F401
    import nltk.translate.bleu_score  # noqa: F401
    import timm  # noqa: F401
    import torch

    import caption  # noqa: F401
    import models  # noqa: F401
    import train  # noqa: F401

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
    return device != "cpu" and torch.cuda.is_available()


def _child(run: Run, place, data) -> None:
    """A run in its own process: output to its log, the last line the reason if it fails."""
    from benchmarks.one_run import execute

    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    leave_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    log = place.folder / "logs" / f"{run.run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        execute(run, place, data)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except Exception as error:
        import traceback

        traceback.print_exc()
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


def leave_with_parent() -> None:
    """On Linux, SIGTERM when run_all.py dies, even by kill -9: nobody would collect the run, and it would keep the lock."""
    if sys.platform == "linux":
        import ctypes
        import multiprocessing

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != multiprocessing.parent_process().pid:
            sys.exit(128 + signal.SIGTERM)  # it died before the line above


def rerun_command(options) -> str:
    """The command that runs this experiment again, without the places on this machine."""
    only = f" --only {' '.join(options.only)}" if options.only else ""
    data = " --data DIR" if options.data else ""
    weights = " --weights none" if options.weights == "none" else " --weights DIR" if options.weights != "pretrained" else ""
    encoders = "".join(f" --encoder {Path(e).name}" for e in options.encoder)
    return f"python benchmarks/run_all.py --profile {options.profile}{data}{weights}{only}{encoders} --seeds {options.seeds}"


def rebuild_report(options) -> Path:
    from reports.build import build_reports

    return build_reports(options.results, ROOT / "results" / "evidence", options.reports)


if __name__ == "__main__":
    run_command(main)
