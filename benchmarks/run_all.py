"""The main job: plan, train and score what is missing, rebuild the report after each run.

    python benchmarks/run_all.py                                        # the demo, any machine
    python benchmarks/run_all.py --profile flickr8k --data DIR          # photographs
    python benchmarks/run_all.py --list

Reads the data set and encoder weights; writes results/<profile>/ (records, predictions, checkpoints, logs) and reports/. A run whose record
is there is not run again; a killed, failed or out-of-budget one goes on where it stopped.
"""

import argparse
import functools
import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

from benchmarks.experiments import DEFAULT, NAMES  # noqa: E402
from benchmarks.plan import Run, is_done, make_plan  # noqa: E402
from benchmarks.profiles import PROFILES, profile_named  # noqa: E402
from captioning.bad_input import BadInput, run_command  # noqa: E402

EVIDENCE = ROOT / "results" / "evidence"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train, score and report every run of the study that is not done yet.",
        epilog="examples:\n"
        "  python benchmarks/run_all.py                      the demo: drawn scenes, nothing to fetch\n"
        "  python benchmarks/run_all.py --dry-run            what is done, what is to do, minutes and disk\n"
        "  python benchmarks/run_all.py --only attention     one experiment (--list names them)\n"
        "  python benchmarks/run_all.py --profile flickr8k --data data/flickr8k --budget 60",
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 of every run (default 1)")
    parser.add_argument("--seed", type=int, metavar="K", help="seed K of every run, and no other")
    parser.add_argument("--budget", type=float, default=0, metavar="MINUTES", help="stop after so long, states saved; 0 is no limit")
    parser.add_argument("--plan", action="store_true", help="note the runs for the report, as not run, and run nothing")
    sharing = "they share the cores, or have OMP_NUM_THREADS threads each"
    parser.add_argument(
        "--workers", type=int, default=0, help=f"runs side by side (default: one a CPU core up to 2; one on a GPU); {sharing}"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--results", default=str(ROOT / "results"), metavar="DIR")
    parser.add_argument("--reports", default="", metavar="DIR", help="pages (default: reports/, or a folder beside another --results)")
    parser.add_argument(
        "--cache", default="", metavar="DIR", help="decoded pixels and kept regions (default $RECAP_CACHE or ~/.cache/recap)"
    )
    parser.add_argument("--force", action="store_true", help="run again what is done")
    parser.add_argument("--all", action="store_true", help="every experiment, also published_or_corrected and other ablations")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--list", action="store_true", help="print the experiments and their runs and stop")
    options = parser.parse_args(arguments)
    if options.all and options.only:
        raise BadInput("--all and --only: give one of them")
    if options.seeds is not None and options.seed is not None:
        raise BadInput("--seeds and --seed: give one of them")
    options.seeds = 1 if options.seeds is None else options.seeds
    if options.seeds < 1:
        raise BadInput(f"--seeds {options.seeds}: give a number of at least 1")
    if options.seed is not None and options.seed < 0:
        raise BadInput(f"--seed {options.seed}: give a number of at least 0")
    if not (options.workers >= 0 and options.budget >= 0):
        raise BadInput("--workers and --budget: give numbers of at least 0")
    return options


def main() -> int:
    options = parse_arguments()
    profile = profile_named(options.profile)
    if options.list:
        return list_experiments(profile)
    from captioning.data import load_data
    from captioning.records import list_records

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

    asked = (options.only, options.seeds, options.encoder, options.weights)
    plan = make_plan(profile, *asked, fingerprint_of, fetch=not options.dry_run, everything=options.all, just_seed=options.seed)
    missing = [run for run in plan if options.force or not is_done(folder, run)]
    records, problems = list_records(folder / "runs")
    for problem in problems:
        print(f"run_all.py: {problem}", file=sys.stderr)
    describe(plan, missing, profile, data)
    if not options.budget:  # with one, what is worth most comes first: the plan's order
        from benchmarks.estimates import longest_first

        missing = longest_first(missing, records, profile)
    if missing:
        print(say_cost(missing, records, profile, data, options))
    if options.dry_run:
        return 0
    return work(options, profile, data, where, folder, plan, missing, records)


def work(options, profile, data, where: str, folder: Path, plan: list[Run], missing: list[Run], records: list[dict]) -> int:
    """Run what is missing, score it under every token rule where that is asked, build the report, say what held."""
    from benchmarks.estimates import minutes_of
    from benchmarks.plan import drop_changed_files
    from benchmarks.runner import only_one

    with only_one(folder):
        note_plan(folder, plan, options, {run.run_id: minutes_of(run, records, profile) for run in missing})
        if options.plan:
            return 0
        if options.force:
            forget(folder, missing)
        for run in missing:
            drop_changed_files(folder, run)
        failed = run_missing(options, profile, data, where, folder, missing) if missing else 0
        rules_of_done_runs(folder, plan)
        report = rebuild_report(options) if any((folder / "runs").glob("*.json")) else None
    if report:
        from benchmarks.live import print_verdicts
        from captioning.claims_file import pages_of

        print_verdicts(pages_of(options.results, EVIDENCE, report.parent) / profile.name / "claims.json")
    print(f"report: {report or 'none yet, no run has ended'}")
    if profile.name == "demo":
        print(say_larger_data(), end="")
    return 1 if failed else 0


def run_missing(options, profile, data, where: str, folder: Path, missing: list[Run], again: str = "the same command") -> int:
    """How many failed. again: what goes on where this is stopped, in words."""
    from benchmarks.live import Board
    from benchmarks.one_run import Place
    from benchmarks.runner import Runner
    from captioning.cache import default_cache
    from captioning.workers import threads_each

    gpus = warm_up(options.device)
    workers = options.workers or default_workers(gpus)
    place = Place(
        folder=folder,
        profile=profile.name,
        data=where,
        weights=options.weights,
        cache=options.cache or str(default_cache()),
        device="cuda" if gpus else "cpu",
        threads=threads_each(workers),
        save_minutes=5.0,
        keep_pictures=not is_evidence(options) or not profile.photos,
        command=rerun_command(options),
    )
    rebuild = functools.partial(rebuild_report, options)
    # --force once more would forget what this call has done.
    again += " without --force" if options.force else ""
    return Runner(place, data, workers, gpus, options.budget, rebuild, again).run_missing(missing, Board(missing))


def is_evidence(options) -> bool:
    """What is run is to be committed: it was not, or will not be, the reader's own."""
    results = Path(options.results).resolve()
    return EVIDENCE.resolve() in (results, *results.parents)


def default_workers(gpus: int) -> int:
    """One run a GPU; on a CPU one a core up to 2, for more have less memory and cache each than they need."""
    from captioning.workers import core_count

    return gpus or min(2, core_count())


def rules_of_done_runs(folder: Path, plan: list[Run]) -> None:
    """Runs that were done before `protocols` asked for them."""
    from benchmarks.one_run import save_token_rules
    from captioning.records import read_record

    for run in plan:
        if "protocols" in run.labels and is_done(folder, run):
            try:
                save_token_rules(folder, read_record(folder / "runs" / f"{run.run_id}.json"))
            except BadInput as error:
                print(f"run_all.py: {error}", file=sys.stderr)


def say_larger_data() -> str:
    """The demo's last line where photographs lie at hand: the command for them, and its cost."""
    import shlex

    for home in data_homes():
        for profile in reversed(PROFILES.values()):
            folder = home / profile.name
            if holds_data(folder):
                cost = f" (about {profile.minutes:g} minutes a run on one CPU core)" if profile.minutes else ""
                return (
                    f"larger data is here: python benchmarks/run_all.py --profile {profile.name} --data {shlex.quote(str(folder))}{cost}\n"
                )
    return ""


def data_homes() -> list[Path]:
    """Where folders called flickr8k, flickr30k and coco are looked for, in this order."""
    homes = [Path(os.environ["RECAP_DATA"])] if "RECAP_DATA" in os.environ else []
    return [*homes, ROOT / "data", ROOT, ROOT.parent / "data"]


def holds_data(folder: Path) -> bool:
    """One data set lies there, as `load_data` looks for it; whether it is whole is not asked."""
    from captioning.caption_tables import table_files
    from captioning.coco_files import coco_files

    if not folder.is_dir():
        return False
    try:
        found = list(folder.glob("dataset*.json"))
        return len(found) == 1 or not found and (bool(coco_files(folder)) or len(table_files(folder)) == 1)
    except (BadInput, OSError):  # several data sets, or not ours to read
        return False


def list_experiments(profile) -> int:
    for name in NAMES:
        more = "" if name in DEFAULT else " [--all]"
        experiment = importlib.import_module(f"benchmarks.experiments.{name}")
        print(f"{name}{more}: {experiment.__doc__.splitlines()[0]}")
        for label, config in experiment.runs(profile):
            print(f"  {name}:{config.name:<20} {config.system:<12} {label}")
    return 0


def describe(plan: list[Run], missing: list[Run], profile, data) -> None:
    """The plan: what is done and what is to do."""
    sizes = ", ".join(f"{len(data.split(s)):,} {s}" for s in ("train", "val", "test"))
    print(f"profile {profile.name}: {data.name}, {sizes} images; {len(plan)} runs, {len(plan) - len(missing)} done")
    for run in plan:
        state = "to do" if run in missing else "done"
        state = f"cannot run: {run.problem}" if run.problem else state
        print(f"  {run.label:<40} seed {run.config.seed}  {run.run_id:<36} {state}")


def say_cost(missing: list[Run], records: list[dict], profile, data, options) -> str:
    """Minutes, as like runs took here or as the profile says, and disk."""
    from benchmarks.estimates import basis_of, disk_gb, say_disk, total_minutes
    from captioning.cache import default_cache

    workers = options.workers or default_workers(count_gpus(options.device) if has_driver() else 0)
    here = [] if is_evidence(options) else records  # committed records were measured wherever they were made
    minutes, able = total_minutes(missing, here, profile, workers), sum(not run.problem for run in missing)
    time = (
        f"about {minutes:.0f} minutes for {able} runs, {workers} at a time, {basis_of(missing, here)}" if minutes else "time not known yet"
    )
    needed = disk_gb(missing, profile, len(data.examples))
    return f"{time}; {say_disk(needed, Path(options.results), Path(options.cache or default_cache()))}"


def forget(folder: Path, runs: list[Run]) -> None:
    """Remove what runs wrote, so that they start from nothing: --force, once, before any of them is started."""
    import shutil

    for run in runs:
        shutil.rmtree(folder / "checkpoints" / run.run_id, ignore_errors=True)
        for path in (folder / "runs" / f"{run.run_id}.json", folder / "captions" / f"{run.run_id}.jsonl.gz"):
            path.unlink(missing_ok=True)


def note_plan(folder: Path, plan: list[Run], options, minutes: dict[str, float]) -> None:
    """The runs asked for, for the report. minutes: what each that is missing is thought to take; of one that is done stays what was thought before.

    What an earlier call asked for besides stays planned: after --only or --seed all of it, after a call for the default set what --all adds.
    """
    from captioning.records import merge_plans, read_plan, write_plan

    try:
        earlier = read_plan(folder)
    except BadInput as error:
        print(f"run_all.py: {error}", file=sys.stderr)
        earlier = []
    minutes = {run["run_id"]: run["minutes"] for run in earlier if "minutes" in run} | minutes
    entries = [_planned(run, minutes.get(run.run_id)) for run in plan]
    if options.only or options.seed is not None:
        write_plan(folder, merge_plans(earlier, entries))
        return
    asked = NAMES if options.all else DEFAULT
    now, names = {e["run_id"] for e in entries}, {e["run_id"].rpartition("-")[0] for e in entries}
    kept = []
    for run in earlier:
        labels = run.get("labels") or dict.fromkeys(run["experiments"], run["label"])
        labels = {experiment: label for experiment, label in labels.items() if experiment not in asked}
        # Of a run whose settings have changed since, only the new one counts.
        if labels and (run["run_id"] in now or run["run_id"].rpartition("-")[0] not in names):
            kept.append(run | {"experiments": list(labels), "labels": labels})
    write_plan(folder, merge_plans(entries, kept))


def _planned(run: Run, minutes: float | None) -> dict:
    if run.problem:  # its text names folders of this machine, and the plan may be committed
        return run.entry() | {"weights": "not at hand"}
    return run.entry() | ({} if minutes is None else {"minutes": round(minutes, 1)})


def warm_up(device: str) -> int:
    """Import what every run needs, once, before forking; returns the number of GPUs to use, 0 for the CPU."""
    import accelerate  # noqa: F401
    import nltk.translate.bleu_score  # noqa: F401
    import timm  # noqa: F401
    import torch  # noqa: F401

    import caption  # noqa: F401
    import models  # noqa: F401
    import reports.build  # noqa: F401
    import train  # noqa: F401

    gpus = count_gpus(device)
    if device == "cuda" and not gpus:
        raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
    return gpus


def count_gpus(device: str) -> int:
    """GPUs that runs would have, without starting CUDA in this process: a child that is forked from it could not use it any more."""
    if device == "cpu":
        return 0
    # torch would otherwise start CUDA to see whether there is a device.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def has_driver() -> bool:
    """An NVIDIA driver is here. Without one a plan need not import torch, which takes seconds, to count GPUs."""
    import ctypes

    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def rerun_command(options) -> str:
    """The command that runs again, without the places on this machine; which run, and its own encoder, its record says."""
    data = " --data DIR" if options.data else ""
    weights = " --weights none" if options.weights == "none" else " --weights DIR" if options.weights != "pretrained" else ""
    return f"python benchmarks/run_all.py --profile {options.profile}{data}{weights}"


def rebuild_report(options) -> Path:
    from captioning.claims_file import reports_of
    from reports.build import build_reports

    return build_reports(options.results, EVIDENCE, options.reports or reports_of(options.results))


if __name__ == "__main__":
    run_command(main)
