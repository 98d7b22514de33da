"""The study on Flickr8k as one command: all that can be run with the encoders at hand, what is worth most first, three seeds where a verdict hangs on them.

    python benchmarks/study.py --data DIR --weights DIR
    python benchmarks/study.py --data DIR --weights DIR --results results/evidence --encoder DIR/encoders.py:resnet50_v1 --budget 25 --workers 6

Calls run_all.py step by step (--list shows them), so it can be killed at any moment and goes on where it was; runs that are done are not run again.
--budget MINUTES is for all steps together; what is left stands in the report as not run, with what it would take.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

from captioning.bad_input import run_command  # noqa: E402


class Step(NamedTuple):
    """Runs as `--only` names them, with one seed after the other. {resnet50}: the row of ResNet-50, the reader's own encoder where one is given."""

    why: str
    only: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)


THREE = (0, 1, 2)
SMALL = ("encoders:deit-tiny", "encoders:{resnet50}", "encoders:mobilenetv2", "encoders:efficientnet-lite0")
STEPS = (
    Step("which encoder, frozen", SMALL, THREE),
    Step("hard over soft, attention over none", ("attention:deit-tiny-hard", "attention:deit-tiny-none"), THREE),
    Step("teacher forcing's two faces", ("teacher_forcing:deit-tiny-never", "teacher_forcing:deit-tiny-scheduled"), THREE),
    Step("the same on the CNN", ("attention:{resnet50}-hard", "attention:{resnet50}-none"), THREE),
    Step("LSTM or Transformer", ("systems:deit-tiny-transformer",), THREE),
    Step("the neighbours, small and random", tuple(f"systems:deit-tiny-{system}-random" for system in ("t5", "prefix", "sep"))),
    Step("what pretraining is worth", ("learning_rates:deit-tiny-random", "learning_rates:mobilenetv2-random")),
    Step("every accident of the published code", ("published_or_corrected",)),
    Step("five seeds of the first two", SMALL[:2], (3, 4)),
    Step("tuned, a ViT", tuple(f"learning_rates:deit-tiny-{change}" for change in ("lr1e-5", "lr1e-4", "lr1e-6", "scratch"))),
    Step("tuned, a CNN", tuple(f"learning_rates:mobilenetv2-{change}" for change in ("lr1e-5", "lr1e-4", "lr1e-6", "scratch"))),
    Step("crops, colours, flips", ("augmentation",)),
    Step("the penalty's floor", ("loss_parts",)),
)


def parse_arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="Flickr8k, in any layout that train.py takes")
    parser.add_argument("--weights", default="pretrained", metavar="PLACE", help="where the encoders' weights lie, as in run_all.py")
    parser.add_argument("--encoder", default="", metavar="FILE.py:FACTORY", help="a ResNet-50 of one's own in place of torchvision's")
    parser.add_argument("--results", default="results", metavar="DIR")
    parser.add_argument("--budget", type=float, default=0, metavar="MINUTES", help="for all steps together (default: no limit)")
    parser.add_argument("--workers", type=int, default=0, help="runs side by side, as in run_all.py")
    parser.add_argument("--list", action="store_true", help="the steps in order")
    options = parser.parse_args(line)
    if not options.list and not options.data:
        parser.error("--data DIR is needed; python -m captioning.data download flickr8k --to DIR fetches one")
    return options


def calls(encoder: str) -> list[tuple[str, list[str]]]:
    """(why, run_all.py's --only and --seed) in order, seed by seed within a step."""
    resnet50 = encoder.rpartition(":")[2].replace("_", "-") or "resnet50"
    found = []
    for step in STEPS:
        only = [name.format(resnet50=resnet50) for name in step.only]
        own = ["--encoder", encoder] if encoder and any(resnet50 in name for name in only) else []
        found += [(f"{step.why}, seed {seed}", ["--only", *only, "--seed", str(seed), *own]) for seed in step.seeds]
    return found


def main() -> int:
    options = parse_arguments()
    if options.list:
        for why, line in calls(options.encoder):
            print(f"{why}: {' '.join(line)}")
        return 0
    begun, failed = time.monotonic(), 0
    for number, (why, line) in enumerate(calls(options.encoder), start=1):
        print(f"== {number} of {len(calls(options.encoder))}: {why}", flush=True)
        command = [sys.executable, "benchmarks/run_all.py", "--profile", "flickr8k", "--data", options.data, "--weights", options.weights]
        command += ["--results", options.results, *line]
        command += ["--workers", str(options.workers)] if options.workers else []
        if options.budget:  # too little for any run, yet the step is planned, so the report knows of it
            command += ["--budget", f"{max(0.01, options.budget - (time.monotonic() - begun) / 60):.2f}"]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status not in (0, 1):  # a failed run is a row of the report; a wrong option or Ctrl-C ends all
            return status
        failed |= status
    return failed


if __name__ == "__main__":
    run_command(main)
