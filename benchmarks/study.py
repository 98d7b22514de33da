"""The study on Flickr8k as one command: all that can be run with the encoders at hand, what is worth most first, three seeds where a verdict hangs on them.

    python benchmarks/study.py --data DIR --weights DIR
    python benchmarks/study.py --data DIR --weights DIR --results results/evidence --encoder DIR/encoders.py:resnet50_v1 --budget 25 --workers 6
    python benchmarks/study.py --data DIR --weights DIR --rehearse     # before hours are spent: all of it on 72 photographs, nothing kept

Calls run_all.py step by step (--list shows them), so it can be killed at any moment and goes on where it was; runs that are done are not run again.
--budget MINUTES is for all steps together; what is left stands in the report as not run, with what it would take.
"""

import argparse
import dataclasses
import functools
import hashlib
import subprocess
import sys
import tempfile
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
# A table's steps name the row that the others vary, too: it is no further run, and without it that table has nothing to compare with.
SMALL = ("encoders:deit-tiny", "encoders:{resnet50}", "encoders:mobilenetv2", "encoders:efficientnet-lite0")
OWN_RESNET50 = "resnet50_v1"
STEPS = (
    Step("which encoder, frozen", SMALL, THREE),
    Step("hard over soft, attention over none", ("attention:deit-tiny", "attention:deit-tiny-hard", "attention:deit-tiny-none"), THREE),
    Step("teacher forcing's two faces", tuple(f"teacher_forcing:deit-tiny{change}" for change in ("", "-never", "-scheduled")), THREE),
    Step("the same on the CNN", ("attention:{resnet50}", "attention:{resnet50}-hard", "attention:{resnet50}-none"), THREE),
    Step("LSTM or Transformer", ("systems:deit-tiny", "systems:deit-tiny-transformer"), THREE),
    Step("the neighbours, small and random", tuple(f"systems:deit-tiny-{system}-random" for system in ("t5", "prefix", "sep"))),
    Step(
        "what pretraining is worth",
        tuple(f"learning_rates:{row}" for row in ("deit-tiny", "deit-tiny-random", "mobilenetv2", "mobilenetv2-random")),
    ),
    Step("what ships: a decoder for DeiT-tiny, and an encoder of our own (benchmarks/distill.py)", ("shipped",)),
    Step("every accident of the published code", ("published_or_corrected",)),
    Step("which epoch is kept, seed by seed", ("published_or_corrected:deit-tiny", "published_or_corrected:switch-selection"), THREE),
    Step(
        "five seeds of the first two tables",
        (*SMALL[:2], "attention:deit-tiny", "attention:deit-tiny-hard", "attention:deit-tiny-none"),
        (3, 4),
    ),
    Step("tuned, a ViT", tuple(f"learning_rates:deit-tiny-{change}" for change in ("lr1e-5", "lr1e-4", "lr1e-6", "scratch"))),
    Step("tuned, a CNN", tuple(f"learning_rates:mobilenetv2-{change}" for change in ("lr1e-5", "lr1e-4", "lr1e-6", "scratch"))),
    Step("crops, colours, flips", ("augmentation",)),
    Step("the penalty's floor", ("loss_parts",)),
    Step("one checkpoint under every protocol", ("protocols",)),
)


def parse_arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="Flickr8k, in any layout that train.py takes")
    parser.add_argument("--weights", default="pretrained", metavar="PLACE", help="where the encoders' weights lie, as in run_all.py")
    parser.add_argument(
        "--encoder", default="", metavar=f"FILE.py:{OWN_RESNET50}", help="a ResNet-50 of one's own in place of torchvision's"
    )
    parser.add_argument("--results", default=str(ROOT / "results"), metavar="DIR")
    parser.add_argument("--budget", type=float, default=0, metavar="MINUTES", help="for all steps together (default: no limit)")
    parser.add_argument("--workers", type=int, default=0, help="runs side by side, as in run_all.py")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="each configuration with an epoch of 64 photographs, mostly two steps, scored on 8; keeps nothing",
    )
    parser.add_argument("--list", action="store_true", help="the steps in order")
    options = parser.parse_args(line)
    if not options.list and not options.data:
        parser.error("--data DIR is needed; python -m captioning.data download flickr8k --to DIR fetches one")
    if options.encoder and options.encoder.rpartition(":")[2] != OWN_RESNET50:
        parser.error(f"--encoder {options.encoder}: the questions know such rows by the factory's name; name it FILE.py:{OWN_RESNET50}")
    return options


class Call(NamedTuple):
    """One call of run_all.py."""

    why: str
    only: tuple[str, ...]
    seed: int
    encoder: str

    @property
    def line(self) -> list[str]:
        return ["--only", *self.only, "--seed", str(self.seed), *(["--encoder", self.encoder] if self.encoder else [])]


def calls(encoder: str) -> list[Call]:
    """In order, seed by seed within a step."""
    resnet50 = encoder.rpartition(":")[2].replace("_", "-") or "resnet50"
    found = []
    for step in STEPS:
        only = tuple(name.format(resnet50=resnet50) for name in step.only)
        own = encoder if any("{resnet50}" in name for name in step.only) else ""
        found += [Call(step.why, only, seed, own) for seed in step.seeds]
    return found


def main() -> int:
    options = parse_arguments()
    if options.list:
        for call in calls(options.encoder):
            print(f"{call.why}: {' '.join(call.line)}")
        return 0
    if options.rehearse:
        return rehearse(options)
    begun, failed = time.monotonic(), 0
    found = calls(_absolute(options.encoder))
    for seed in dict.fromkeys(call.seed for call in found):  # so that the report knows of all of it, whatever the budget leaves
        only = [name for call in found if call.seed == seed for name in call.only]
        status = run_all(options, Call("", tuple(dict.fromkeys(only)), seed, _absolute(options.encoder)), ["--plan"])
        if status:
            return status
    for number, call in enumerate(found, start=1):
        left = options.budget - (time.monotonic() - begun) / 60
        if options.budget and left <= 0:
            print(f"out of budget before step {number} of {len(found)}; the same command goes on there")
            break
        print(f"== {number} of {len(found)}: {call.why}, seed {call.seed}", flush=True)
        status = run_all(options, call, ["--budget", f"{max(left, 0.01):.2f}"] if options.budget else [])
        if status not in (0, 1):  # a failed run is a row of the report; a wrong option or Ctrl-C ends all
            return status
        failed |= status
    return failed


def run_all(options: argparse.Namespace, call: Call, more: list[str]) -> int:
    """run_all.py's exit status."""
    command = [sys.executable, "benchmarks/run_all.py", "--profile", "flickr8k", "--data", _absolute(options.data)]
    command += ["--weights", options.weights if options.weights in ("pretrained", "none") else _absolute(options.weights)]
    command += ["--results", _absolute(options.results), *call.line]
    command += ["--workers", str(options.workers)] if options.workers else []
    return subprocess.run([*command, *more], cwd=ROOT, check=False).returncode


def rehearse(options: argparse.Namespace) -> int:
    """Train, caption, score and report every configuration of seed 0 on a few photographs; 1 where a run failed, which stands in the printed table."""
    from benchmarks import run_all
    from benchmarks.plan import Run, make_plan
    from benchmarks.profiles import profile_named
    from captioning.data import load_data

    profile, data = profile_named("flickr8k"), first_photographs(load_data(options.data))
    one_epoch = functools.partial(dataclasses.replace, epochs=1)
    runs: dict[str, Run] = {}
    for call in calls(options.encoder):
        if call.seed == 0:
            own = [call.encoder] if call.encoder else []
            asked = (profile, list(call.only), 1, own, options.weights, lambda _: data.fingerprint)
            for run in make_plan(*asked, changed=one_epoch):
                seen = runs[run.run_id].labels if run.run_id in runs else {}
                runs[run.run_id] = dataclasses.replace(run, labels=seen | run.labels)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        line = ["--profile", profile.name, "--weights", options.weights, "--workers", str(options.workers)]
        line += ["--results", str(home / "results"), "--reports", str(home / "reports"), "--cache", str(home / "cache")]
        settings = run_all.parse_arguments(line)
        failed = run_all.run_missing(settings, profile, data, options.data, home / "results" / profile.name, list(runs.values()), "nothing")
        run_all.rebuild_report(settings)
    print(f"rehearsed {len(runs)} configurations, {failed} failed")
    return 1 if failed else 0


class FirstPhotographs(NamedTuple):
    """Some of a data set's images, as a data set's `images`."""

    images: object
    kept: list[int]

    def open(self, index: int):
        return self.images.open(self.kept[index])


def first_photographs(data):
    """The first of each split as a data set: two steps' worth to train on, at five captions a photograph and batches of 160."""
    kept = [index for split, count in (("train", 64), ("val", 4), ("test", 4)) for index in data.split(split)[:count]]
    fingerprint = hashlib.sha256(f"{data.fingerprint} {kept}".encode()).hexdigest()
    images = FirstPhotographs(data.images, kept)
    return dataclasses.replace(data, examples=[data.examples[i] for i in kept], images=images, fingerprint=fingerprint)


def _absolute(path: str) -> str:
    """run_all.py starts in the checkout, wherever this was called."""
    return str(Path(path).absolute()) if path else ""


if __name__ == "__main__":
    run_command(main)
