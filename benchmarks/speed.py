"""How fast is it, against what one would otherwise run, on this machine?

    python benchmarks/speed.py                         # all that this machine can measure; on two CPU cores about half an hour
    python benchmarks/speed.py --only step-7x7 beam    # some (--list names them)
    python benchmarks/speed.py --device cuda --json results/evidence/speed/h200.json

Most rows are ratios: a peer and we do the same work by turns (warm-up first); median over the turns, the lowest and highest beside it. Peers: the
published loop restated (benchmarks/baseline.py), Hugging Face's generate on the same weights, pycocoevalcap as shipped, the machine itself.
Writes --json after every row (default results/speed/<device>.json); rows measured earlier stay.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

from benchmarks.speeds.bench import Size, Target  # noqa: E402
from captioning.bad_input import BadInput, at_least, run_command  # noqa: E402
from captioning.speed_records import SCHEMA, read_speeds  # noqa: E402


class Row(NamedTuple):
    """What is measured: module and function under benchmarks/speeds, its arguments; targets on a CPU of two cores and on one GPU, None for none.

    on_gpu: False where the work is the CPU's whatever device there is.
    """

    module: str
    function: str
    arguments: dict
    cpu: Target | None = None
    gpu: Target | None = None
    on_gpu: bool = True


def at_most(value: float) -> Target:
    return Target(at_most=value)


def least(value: float) -> Target:
    return Target(at_least=value)


ROWS = {
    "products": Row("machine", "products", {}),
    "copies": Row("machine", "copies", {}),
    "step-7x7": Row("decoder", "training_step", {"regions": 49, "dim": 768}, least(2.5), least(8)),
    "step-7x7-unlike": Row("decoder", "training_step", {"regions": 49, "dim": 768, "shuffled": True}),
    "step-14x14": Row("decoder", "training_step", {"regions": 196, "dim": 2048}, least(5), least(10)),
    "epoch": Row("training", "epoch_on_kept_regions", {}, at_most(1.15), at_most(1.15)),
    "caption": Row("decoder", "pixels_to_text", {}, least(0.85), least(0.7)),
    "beam": Row("decoder", "beam_search", {"stop": "shrink"}, least(25), least(150)),
    "beam-best": Row("decoder", "beam_search", {"stop": "best"}),
    "t5": Row("language", "beam_search", {"system": "t5"}, least(1.0), least(1.2)),
    "prefix": Row("language", "beam_search", {"system": "prefix"}, least(1.0), least(1.2)),
    "scoring": Row("scoring", "coco", {"kept": False}, least(1.3), on_gpu=False),
    "scoring-kept": Row("scoring", "coco", {"kept": True}, on_gpu=False),
    "help": Row("startup", "help_of_caption", {}, at_most(0.4), on_gpu=False),
    "list": Row("startup", "list_of_runs", {}, at_most(0.4), on_gpu=False),
    "one-photo": Row("startup", "one_photo", {}, at_most(1.3), on_gpu=False),
    "second-run": Row("startup", "finished_profile", {}, at_most(5.0), on_gpu=False),
    "memory": Row("training", "coco_memory", {}, at_most(2.5), on_gpu=False),
    "processes": Row("training", "two_processes", {}, on_gpu=False),
    "growth-images": Row("growth", "images", {}),
    "growth-words": Row("growth", "lengths", {}),
    "growth-beams": Row("growth", "beams", {}),
    "growth-vocabulary": Row("growth", "vocabularies", {}),
    "growth-processes": Row("training", "more_processes", {}, on_gpu=False),
}


def parse_arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="rows by name, or several by how they begin: growth")
    parser.add_argument("--json", metavar="F", default="", help="where the record goes (default results/speed/<device>.json)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument(
        "--quick", action="store_true", help="a rehearsal with little work: it says nothing about speed, and no target is judged"
    )
    parser.add_argument("--list", action="store_true", help="the rows and their targets")
    return parser.parse_args(line)


def chosen(only: list[str]) -> list[str]:
    """Names of rows in order. Raises BadInput for one that names none."""
    for name in only:
        if not any(row == name or row.startswith(f"{name}-") for row in ROWS):
            raise BadInput(f"--only {name}: no such row; --list names them")
    return [row for row in ROWS if not only or any(row == name or row.startswith(f"{name}-") for name in only)]


def target_of(name: str, device: str) -> Target | None:
    """device: as a record names it, or torch."""
    row = ROWS[name]
    return row.gpu if device.startswith("cuda") and row.on_gpu else row.cpu


def measure(name: str, size: Size, device) -> dict:
    """One row as it is kept. What fails is a row with its reason."""
    row = ROWS[name]
    target = target_of(name, device.type) if not size.quick else None
    try:
        found = getattr(importlib.import_module(f"benchmarks.speeds.{row.module}"), row.function)(size, device, **row.arguments)
    except Exception as error:
        return {"name": name, "not_measured": " ".join(str(error).split()) or type(error).__name__}
    kept = {"name": name, "what": found.what, "unit": found.unit, "value": found.value, "values": found.values}
    kept |= {"target": str(target) if target else None, "met": target.met(found.value) if target else None, "quick": size.quick}
    return kept | {"seconds": found.ours, "seconds_of_peer": found.peer, **found.more}


def measure_apart(name: str, size: Size, device: str) -> dict:
    """`measure` in a fresh process: its memory is its own, and what kills it is a row too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_measure_here, name, size, device).result()
        except BrokenProcessPool:
            return {"name": name, "not_measured": "the process was killed, most often because memory ran out"}


def _measure_here(name: str, size: Size, device: str) -> dict:
    import torch

    from captioning.allocator import keep_freed_memory

    place, kept = torch.device(device), keep_freed_memory()  # for both sides, though who runs the peer has seldom asked for it
    return measure(name, size, place) | {"where": provenance(place) | {"freed_memory": "kept" if kept else "given back"}}


def say(row: dict) -> str:
    if "not_measured" in row:
        return f"{row['name']:<18} not measured: {row['not_measured']}"
    judged = "" if row["met"] is None else f"; target {row['target']}: {'met' if row['met'] else 'MISSED'}"
    low, high = min(row["values"]), max(row["values"])
    spread = f" ({low:.3g} to {high:.3g})" if low != high else ""
    return f"{row['name']:<18} {row['value']:.3g}{spread} {row['unit']}{judged}\n{'':<18} {row['what']}"


def provenance(device) -> dict:
    """Where it was measured."""
    import torch
    import transformers

    from benchmarks.one_run import device_name
    from captioning.workers import core_count

    return {
        "device": device_name(device), "cores": core_count(), "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2), "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip


def main() -> int:
    options = parse_arguments()
    names = chosen(options.only)
    if options.list:
        for name in names:
            row = ROWS[name]
            print(f"{name:<18} CPU: {row.cpu or 'no target'}; GPU: {row.gpu or 'no target'}")
        return 0
    at_least(options, repeats=1)
    import torch

    from captioning.atomic import atomic_write

    if options.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
    device = "cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu"
    path = Path(options.json or ROOT / "results" / "speed" / f"{device}.json")
    rows = read_speeds(path)
    size = Size(options.repeats, options.quick)
    for name in names:
        rows[name] = measure_apart(name, size, device)
        print(say(rows[name]), flush=True)
        record = {"schema": SCHEMA, "rows": [rows[known] for known in ROWS if known in rows]}
        with atomic_write(path) as file:
            file.write(json.dumps(record, indent=1) + "\n")
    print(f"record: {path}")
    return 0


if __name__ == "__main__":
    run_command(main)
