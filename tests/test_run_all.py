"""The main job as a reader runs it: records that hold, an idle second call, killed at bad moments and equal to an unbroken run, failures that stop nothing."""

import contextlib
import dataclasses
import fcntl
import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks import run_all, runner
from benchmarks.experiments import DEFAULT
from benchmarks.live import Board, print_verdicts
from benchmarks.plan import is_done, make_plan
from benchmarks.profiles import PROFILES
from captioning.bad_input import BadInput, run_command
from captioning.checkpoint import config_from
from captioning.data import load_data
from captioning.published import load_claims
from captioning.records import list_records, read_record
from tests.tiny import make_data

ROOT = Path(__file__).resolve().parents[1]
ENCODER = str(ROOT / "tests" / "tiny_encoder.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("tiny"), test=5)


def arguments(data: Path, place: Path, *more: str, encoders: tuple[str, ...] = ("make",)) -> list[str]:
    line = ["--profile", "flickr8k", "--data", data, "--device", "cpu", "--workers", "2"]  # a thread each
    line += ["--results", place / "results", "--reports", place / "reports", "--cache", place / "cache"]
    line += ["--encoder", *(f"{ENCODER}:{name}" for name in encoders)]
    return [*map(str, line), "--only", *(f"encoders:{name.replace('_', '-')}" for name in encoders), *more]


def start(line: list[str], **environment) -> subprocess.Popen:
    """run_all.py in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "benchmarks/run_all.py", *line], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def run(line: list[str], **environment) -> SimpleNamespace:
    process = start(line, **environment)
    out, err = process.communicate(timeout=300)
    return SimpleNamespace(status=process.returncode, out=out, err=err)


def checkout() -> str:
    status = ["git", "status", "--porcelain", "--untracked-files=all", "--", "results", "reports", "checkpoints", "trained"]
    return subprocess.run(status, cwd=ROOT, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory) -> Path:
    """A whole run of one encoder; everything below compares with it."""
    place = tmp_path_factory.mktemp("unbroken")
    before = checkout()
    done = run(arguments(data, place))
    assert done.status == 0, done.err
    assert "0 done" in done.out and "make (seed 0): done in" in done.out
    assert f"report: {place / 'reports' / 'index.html'}" in done.out
    assert checkout() == before
    return place


def folder(place: Path) -> Path:
    return place / "results" / "flickr8k"


def record_of(place: Path, name: str = "make") -> dict:
    (path,) = folder(place).glob(f"runs/{name}-0-*.json")
    return read_record(path)


def lines_of(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_the_record_says_all_and_its_files_are_there(unbroken, data):
    import hashlib

    record = record_of(unbroken)
    assert record["status"] == "finished" and record["profile"] == "flickr8k" and record["experiments"] == ["encoders"]
    assert record["data"]["images"] == {"train": 8, "val": 3, "test": 5}
    assert record["config"]["encoder"] == "tiny_encoder.py:make"  # not where the reader keeps it
    assert str(unbroken) not in json.dumps(record) and str(data) not in json.dumps(record)
    just_this = "--encoder tiny_encoder.py:make --only encoders:make --seed 0 --force"
    assert record["provenance"]["command"] == f"python benchmarks/run_all.py --profile flickr8k --data DIR {just_this}"
    assert set(record["files"]) == {"captions", "references", "checkpoint", "attention", "curve"}
    for file in record["files"].values():
        assert hashlib.sha256((folder(unbroken) / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert record["training"]["epochs"] == PROFILES["flickr8k"].base.epochs
    assert not list(folder(unbroken).glob("checkpoints/*/state.pt")) and not list(folder(unbroken).rglob("*.partial"))


def test_scores_follow_from_the_predictions_and_those_from_the_checkpoint(unbroken, data):
    from captioning import load_captioner
    from captioning.config import Decode
    from captioning.protocols import score_predictions

    record, loaded = record_of(unbroken), load_data(data)
    predictions = folder(unbroken) / record["files"]["captions"]["path"]
    for split in ("val", "test"):
        found = score_predictions(predictions, split, coco_beams=())
        assert json.loads(json.dumps(found["published"])) == record["scores"][split]["published"]
        assert json.loads(json.dumps(found["free"])) == record["scores"][split]["free"]
        assert set(record["scores"][split]["free"]) == {"1", "3", "5", "7"} and record["scores"][split]["coco"].keys() == {"5"}
    header, *entries = lines_of(predictions)
    for split, beam in (("val", "1"), ("test", "5")):
        ended = [entry["free"][beam]["ended"] for entry in entries if entry["split"] == split]
        assert record["ended"][split][beam] == 100 * sum(ended) / len(ended)
    references = {line["id"]: line for line in lines_of(predictions.parent / header["references"])}
    examples = {e.image_id: e for e in loaded.examples if e.split != "train"}
    assert references.keys() == examples.keys() == {e["id"] for e in entries}
    captioner = load_captioner(folder(unbroken) / "checkpoints" / record["run_id"], "cpu", encoder=f"{ENCODER}:make")
    for entry in entries:
        example = examples[entry["id"]]
        assert references[entry["id"]]["tokens"] == list(example.captions) and len(entry["forced"]) == len(example.captions)
        index = loaded.examples.index(example)
        assert captioner.caption([loaded.open_image(index)], Decode(beam=3))[0].text == entry["free"]["3"]["text"]


def test_the_second_call_is_idle_and_changes_nothing(unbroken, data):
    def state():
        files = [p for top in ("results", "reports", "cache") for p in (unbroken / top).rglob("*") if p.is_file() and p.name != ".lock"]
        return {str(p): p.read_bytes() for p in files}

    before, began = state(), time.monotonic()
    script = "import runpy, sys\nsys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    script += "finally: print('torch' in sys.modules)\n"
    again = subprocess.run(
        [sys.executable, "-c", script, "benchmarks/run_all.py", *arguments(data, unbroken)], cwd=ROOT, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert "1 runs, 1 done" in again.stdout and "started" not in again.stdout
    assert again.stdout.rstrip().endswith("False")  # nothing heavy was imported to do nothing
    assert time.monotonic() - began < 60 and state() == before
    page = (unbroken / "reports" / "flickr8k" / "index.html").read_text()
    assert record_of(unbroken)["run_id"] in page


def compare(one: Path, other: Path, but: str = "") -> None:
    """Same numbers (of all protocols `but` one), captions and weights; what they cost and when may differ."""
    a, b = record_of(one), record_of(other)
    for record in (a, b):
        for scores in record["scores"].values():
            scores.pop(but, None)
        for field in ("cost", "finished", "provenance"):
            del record[field]
        del record["files"]["curve"]["sha256"]  # has the seconds of each epoch
    assert a == b
    for file in ("captions", "references", "checkpoint", "attention"):
        path = a["files"][file]["path"]
        assert (folder(one) / path).read_bytes() == (folder(other) / path).read_bytes()


def wait_for(process: subprocess.Popen, there) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_nobody_left(group: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes of the run are left")


def test_stopped_and_killed_at_bad_moments_equals_unbroken(unbroken, data, tmp_path):
    line = arguments(data, tmp_path)
    spent = run([*line, "--budget", "0.001", "--force"])  # long enough to start, too short to finish
    assert spent.status == 0 and "out of budget: 1 runs are left; the same command without --force goes on" in spent.out, spent.err
    assert not list(folder(tmp_path).glob("runs/*.json"))

    def said() -> int:
        return sum(len(log.read_text()) for log in folder(tmp_path).glob("logs/*.log"))

    seen, process = said(), start(line)  # Ctrl-C reaches the whole group
    wait_for(process, lambda: said() > seen)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130 and "Traceback" not in err
    assert_nobody_left(process.pid, 1)

    # kill -9 of the parent alone, the predictions being written and nothing scored: its run leaves too, with Java and the lock.
    process = start(line)
    wait_for(process, lambda: list(folder(tmp_path).glob("captions/make-*.gz")))
    process.kill()
    process.communicate()
    assert_nobody_left(process.pid, 30)
    assert not list(folder(tmp_path).glob("runs/*.json"))

    done = run(line)
    assert done.status == 0, done.err
    compare(unbroken, tmp_path)


def a_runner(place: Path, **how) -> runner.Runner:
    return runner.Runner(SimpleNamespace(folder=place), None, workers=2, gpus=0, budget_minutes=0, rebuild=lambda: None, **how)


def a_run(name: str = "r") -> SimpleNamespace:
    return SimpleNamespace(run_id=name, label=name, config=SimpleNamespace(seed=0, name=name, epochs=2), labels={"encoders": name})


def test_a_run_that_is_stopped_as_it_starts_stops(tmp_path, monkeypatch):
    """A signal between the fork and the child's first line used to be lost: the run went on and was waited for."""
    monkeypatch.setattr("benchmarks.one_run.execute", lambda *_: time.sleep(20))
    mine, run, began = a_runner(tmp_path), a_run(), time.monotonic()
    before = {number: signal.signal(number, lambda n, _: sys.exit(128 + n)) for number in runner.STOPPING}
    try:
        mine._start(run, Board([run], terminal=False))
        (process,) = [one.process for one in mine.running.values()]
        mine._stop_children()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert process.exitcode == -signal.SIGTERM and time.monotonic() - began < 15


PROGRAM = """
import os, signal, sys, time
from pathlib import Path

sys.path.insert(0, {root!r})
from benchmarks import live, one_run, runner
from benchmarks.plan import Run
from captioning.bad_input import BadInput
from captioning.config import RunConfig

def place(folder):
    return one_run.Place(Path(folder), "flickr8k", "data", "none", "cache", "cpu", 1, 5.0, False, "command")

def runs(count):
    return [Run(f"r-{{seed}}-x", RunConfig(name="r", seed=seed), {{"encoders": "R"}}) for seed in range(count)]
"""


def program(script: str, *arguments, **how) -> subprocess.Popen:
    """A script that has a runner at work on runs that do as the script says."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(root=str(ROOT)) + script, *map(str, arguments)], start_new_session=True, **how
    )


MANY = """
live.REFRESH_SECONDS = runner.TICK_SECONDS = 0.002
runner.Scorer = lambda *_: type("Nobody", (), {"address": "", "close": lambda self: None})()
runner.is_done, runner.headline, runner.drop_failures_of = lambda _, run: run.config.seed > 2, lambda *_: "BLEU-4 12.0", lambda *_: None

def execute(run, *_):
    print("said", run.config.seed)
    if run.config.seed == 0:
        raise BadInput("no weights [red]\\n at all")
    if run.config.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.config.seed == 2:
        print("the last words")
        sys.stdout.flush()
        os._exit(3)

one_run.execute = execute
board = live.Board(runs(300))
assert board.terminal
print("failed", runner.Runner(place(sys.argv[1]), None, 4, 0, 0, lambda: None).run_missing(runs(300), board))
"""


def test_hundreds_of_forks_beside_a_live_table(tmp_path):
    """rich's refresh thread held its locks while a run was forked, now and then: the run hung. And its stand-in for stdout drew the table into the log."""
    import pty

    screen, terminal = pty.openpty()
    process = program(
        MANY, tmp_path, stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    )
    os.close(terminal)
    seen = bytearray()

    def read():
        with contextlib.suppress(OSError):  # the terminal's end
            while part := os.read(screen, 65536):
                seen.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert process.wait(timeout=90) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join()
        os.close(screen)
    text = seen.decode()
    logs = {seed: (tmp_path / f"logs/r-{seed}-x.log").read_text() for seed in range(300)}
    assert all(log == f"said {seed}\n" for seed, log in logs.items() if seed not in (0, 2))
    assert logs[0] == "said 0\nerror: no weights [red] at all\n" and logs[2] == "said 2\nthe last words\n"
    reasons = [read_record(tmp_path / f"runs/r-{seed}-x.json")["reason"] for seed in range(3)]
    assert reasons[0] == "no weights [red] at all" and reasons[2] == "the last words"
    assert reasons[1].startswith("the process was ended by signal 9 (SIGKILL: most often memory ran out); the same command goes on")
    assert f"R (seed 0): failed: {reasons[0]} (log: " in text and text.rstrip().endswith("failed 3")
    assert "running" in text and "300 of 300 runs ended, 3 failed" in text


STUBBORN = """
runner.LEAVING_SECONDS = 2.0

def execute(run, *_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("at work")
    sys.stdout.flush()
    time.sleep(60)

one_run.execute = execute
runner.Runner(place(sys.argv[1]), None, 2, 0, 0, lambda: None).run_missing(runs(2), live.Board(runs(2)))
"""


def test_a_second_ctrl_c_does_not_cut_the_clean_up_short(tmp_path):
    """Runs that do not leave are killed after their time, shared by all; nobody and nothing is left."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "RECAP_JAVA": "/nowhere/java"}
    process = program(STUBBORN, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    wait_for(process, lambda: sum(log.read_text() == "at work\n" for log in tmp_path.glob("logs/*.log")) == 2)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    for _ in range(4):
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert "stopping: 2 runs save their states; the same command goes on there" in err
    assert 1.5 < time.monotonic() - began < 10
    assert_nobody_left(process.pid, 1)
    assert not list(tmp_path.glob("recap-*"))


def test_more_workers_than_gpus_are_spread(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.one_run.execute", lambda *_: time.sleep(20))
    mine, four = a_runner(tmp_path), [a_run(name) for name in "abcd"]
    mine.gpus = 2  # forked as on a CPU: nothing here uses one
    for each in four:
        mine._start(each, Board(four, terminal=False))
    assert [one.gpu for one in mine.running.values()] == [0, 1, 0, 1]
    pid = next(pid for pid, one in mine.running.items() if one.run.run_id == "b")
    mine.running.pop(pid).process.kill()
    mine._start(a_run("e"), Board([a_run("e")], terminal=False))
    assert [one.gpu for one in mine.running.values()] == [0, 0, 1, 1]
    mine._stop_children()


@pytest.mark.parametrize(("visible", "seen"), [(None, "1"), ("4,7", "7")])
def test_a_run_sees_its_own_gpu_alone(monkeypatch, visible, seen):
    """Of the GPUs that the whole call may use."""
    name = "CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv(name, raising=False)
    if visible:
        monkeypatch.setenv(name, visible)
    with runner._only_gpu(1):
        assert os.environ[name] == seen
    assert os.environ.get(name) == visible


def test_reports_are_built_beside_the_runs_one_at_a_time_and_seldom(tmp_path):
    """Each build takes a second here, so that after one the next waits for nine more; a report that failed is said and stops nothing."""
    built = tmp_path / "built"

    def build():
        with open(built, "a") as file:
            file.write("x")
        time.sleep(1)

    report = runner.Report(runner.multiprocessing.get_context("fork"), build)
    report.build_if_due()
    assert report.process is None  # nothing is outdated
    until = time.monotonic() + 4
    while time.monotonic() < until:
        report.outdated = True
        report.build_if_due()
        time.sleep(0.05)
    assert built.read_text() == "x"
    # A busy machine makes the second longer, but not than the four in which it was watched.
    assert 1 / runner.REPORT_SHARE - 1 <= report.next - report.began <= 4.5 * (1 + 1 / runner.REPORT_SHARE)
    report.stop()


def test_the_board_in_a_pipe_and_on_a_terminal(capsys):

    from rich.console import Console

    runs = [a_run("one"), a_run("two [red]x"), a_run("three")]
    board = Board(runs, terminal=False)
    with board.shown():
        board.started(runs[0])
        board.progress(runs[0], "epoch 1/2")
        board.done(runs[0], "BLEU-4 12.0")
        board.started(runs[1])
        board.failed(runs[1], "no weights", Path("logs/two.log"))
    out, err = capsys.readouterr()
    assert re.fullmatch(
        r"one \(seed 0\): started\none \(seed 0\): epoch 1/2\none \(seed 0\): done in 0.0 minutes\ntwo \[red\]x \(seed 0\): started\n", out
    )
    assert err == "two [red]x (seed 0): failed: no weights (log: logs/two.log)\n"
    assert board.summary().startswith("2 of 3 runs ended, 1 failed; 0.0 minutes, about 0 left")
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(board.table())
    text = console.export_text()
    assert (
        "last done: one (seed 0): BLEU-4 12.0" in text and "two [red]x" in text and "no weights" in text and "1 done, 1 more wait" in text
    )
    assert "three" not in text
    console.print(board.all_begun())
    text = console.export_text()
    assert "BLEU-4 12.0" in text and "two [red]x" in text and "three" not in text


def test_what_runs_is_seen_on_a_small_terminal(capsys):
    """Rich cuts a live table from below: what runs stands first, what is done is counted."""
    from rich.console import Console

    runs = [a_run(f"a model with a name that fills more than half of the terminal's width, {k}") for k in range(60)]
    board = Board(runs, terminal=False)
    for each in runs[:20]:
        board.started(each)
        board.done(each, "BLEU-4 12.0 (free, beam 5, validation)")
    for each in runs[20:50]:
        board.started(each)
        board.failed(each, "no weights\nand a reason that is longer than any terminal is wide " * 3, Path("logs/x.log"))
    for each in runs[50:58]:
        board.started(each)
        board.progress(each, "epoch 1/2, BLEU-4 12.3 (free, greedy), top-5 60.0 %")
    for width, height in ((80, 24), (120, 40)):
        console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        console.print(board.table(width, height))
        lines = console.export_text().splitlines()
        assert len(lines) <= height - 1 and max(len(line.rstrip()) for line in lines) <= width - 3
        states = [line.split("│")[3].strip() for line in lines if "│" in line]
        assert states[:8] == ["running"] * 8 and set(states[8:]) == {"failed"} and "20 done, 2 more wait" in " ".join(lines)


def test_the_verdicts_are_printed(tmp_path, capsys):
    """Two columns, scale and finding; of several pairs the one that decides, with its own interval; the reason where nothing was judged."""

    def part(finding: str, difference: float, ends: list) -> dict:
        return {"better": "x", "worse": f"y{difference}", "finding": finding, "relative_difference": difference, "interval": ends}

    smaller, one = "direction only, smaller", part("reproduced", 3.21, [1.0, 5.5])
    two = [one, part("too close to call", 0.5, [-1.0, 2.0])]
    claims = [
        {
            "sentence": "A is above B",
            "finding": smaller,
            "published_difference": 43.04,
            "parts": [one | {"finding": smaller}],
            "reason": "",
        },
        {"sentence": "All are above C", "finding": "too close to call", "published_difference": None, "parts": two, "reason": ""},
        {
            "sentence": "D is above E",
            "finding": "not run",
            "published_difference": -1.0,
            "parts": two,
            "reason": "e was not run [/red] [x]",
        },
    ]
    more = {"scale": {"text": "not the paper's scale"}, "direction": "higher", "metric": "BLEU-4", "published_metric": "BLEU-4"}
    (tmp_path / "claims.json").write_text(json.dumps({"claims": [claim | more for claim in claims]}))
    print_verdicts(tmp_path / "claims.json")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert rows[0] == ["A is above B", "not the paper's scale", smaller, "+43.04 %", "+3.2 % (+1.0 to +5.5)"]
    assert [*rows[1][:4], f"{rows[1][4]} {rows[2][4]}".strip()] == [
        "All are above C", "not the paper's scale", "too close to call", "no size", "+0.5 % (-1.0 to +2.0): x against y0.5, which decides of 2 pairs",
    ]  # fmt: skip
    assert rows[-1] == ["D is above E", "not the paper's scale", "not run", "-1.00 %", "e was not run [/red] [x]"]
    print_verdicts(tmp_path / "none.json")
    assert capsys.readouterr().out == ""


def test_estimates():
    import timm
    import torch

    from benchmarks import estimates

    profile = PROFILES["flickr8k"]
    plan = make_plan(profile, ["encoders:deit-tiny", "encoders:convnext", "learning_rates"], 1, [], "none", lambda _: "data")
    by_name = {run.config.name: run for run in plan}

    def record(name: str, seconds: float, frozen: bool, **config) -> dict:
        cost = {"train_seconds": seconds, "eval_seconds": 0}
        config = dataclasses.asdict(by_name["deit-tiny"].config) | {"encoder": name, "name": name} | config
        return {"status": "finished", "name": name, "config": config, "encoder": {"frozen": frozen}, "cost": cost}

    records = [record("deit-tiny", 600, True), record("x", 1200, True), record("y", 6000, False), {"status": "failed", "name": "convnext"}]
    assert estimates.minutes_of(by_name["deit-tiny"], records, profile) == 10
    assert estimates.minutes_of(by_name["convnext"], records, profile) == 15
    assert estimates.minutes_of(by_name["convnext-lr1e-4"], records, profile) == 100
    assert estimates.minutes_of(by_name["convnext"], [], profile) == profile.minutes
    # A row on the same regions says more than other frozen ones, and half as many epochs take half the time.
    same = [*records, record("z", 480, True, encoder=by_name["convnext"].config.encoder, epochs=by_name["convnext"].config.epochs // 2)]
    assert estimates.minutes_of(by_name["convnext"], same, profile) == 16
    augmented = dataclasses.replace(by_name["convnext"].config, name="other", augment="crop")
    assert (
        estimates.minutes_of(dataclasses.replace(by_name["convnext"], config=augmented), same, profile) == 16
    )  # the middle of all frozen ones
    assert estimates.total_minutes([by_name["deit-tiny"], by_name["convnext"]], records, profile, 2) == 12.5
    assert estimates.total_minutes([by_name["convnext-lr1e-4"]], [], profile, 2) == profile.tuned_minutes / 2
    assert estimates.total_minutes([by_name["convnext-lr1e-4"]], [], PROFILES["coco"], 2) == 0  # nobody has measured it
    two = [by_name["deit-tiny"], by_name["convnext"]]
    assert estimates.longest_first([*two, by_name["convnext-lr1e-4"]], records, profile) == [by_name["convnext-lr1e-4"], *two[::-1]]
    regions = 8000 * 49 * 2 * (192 + 768)
    under_the_cache = (regions + 8000 * 224 * 224 * 3) / 1e9
    assert estimates.disk_gb(two, profile, 8000) == pytest.approx((2 * estimates.CHECKPOINT_GB["frozen"], under_the_cache))
    # Regions of random weights are others, and others with each seed.
    random = make_plan(profile, ["learning_rates:deit-tiny-random"], 2, [], "none", lambda _: "data")
    trained = dataclasses.replace(random[0], config=dataclasses.replace(random[0].config, pretrained=True))
    kept = [estimates.disk_gb(runs, profile, 8000)[1] for runs in ([trained], [trained, random[0]], random)]
    assert kept[1] - kept[0] == pytest.approx(8000 * 49 * 2 * 192 / 1e9) == kept[2] - kept[0]
    demo = make_plan(PROFILES["demo"], ["encoders"], 1, [], "none", lambda _: "data")
    assert 0.2 < estimates.disk_gb(demo, PROFILES["demo"], 3800)[1] < 2  # it is about half a GB

    # What is said to be measured here was.
    tuned = by_name["convnext-lr1e-4"]
    elsewhere = "as measured on CPU cores of 2.5 GHz"
    assert estimates.basis_of([*two, tuned], records) == "as measured here"
    assert estimates.basis_of([tuned], records[:2]) == f"{elsewhere}; measured here after the first"
    assert estimates.basis_of([*two, tuned], records[:2]) == f"2 of them as measured here, the others {elsewhere}"
    with torch.device("meta"):
        for name, dim in estimates.DIMS.items():
            assert timm.create_model(name).num_features == dim, name
    assert estimates.free_gb(Path("/nowhere/at/all")) > 0


def test_the_disk_of_the_cache_is_looked_at_too(monkeypatch):
    from benchmarks import estimates

    monkeypatch.setattr(estimates, "free_gb", lambda folder: {"/results": 10, "/cache": 3}[str(folder)])
    places = Path("/results"), Path("/cache")
    monkeypatch.setattr(estimates, "disk_of", str)
    assert estimates.say_disk((1, 2), *places) == "disk: up to 1.0 GB for results, 10 GB free; up to 2.0 GB for the cache, 3 GB free"
    assert estimates.say_disk((1, 4), *places).endswith("; THIS IS TOO LITTLE")
    monkeypatch.setattr(estimates, "disk_of", lambda _: 1)
    assert estimates.say_disk((6, 3), *places) == "disk: up to 9.0 GB, 10 GB free"
    assert estimates.say_disk((6, 5), *places) == "disk: up to 11.0 GB, 10 GB free; THIS IS TOO LITTLE"


def test_the_plan_counts_gpus_without_running_anything(call, data, tmp_path, monkeypatch):
    monkeypatch.setattr(run_all, "has_driver", lambda: True)
    monkeypatch.setattr(run_all, "count_gpus", lambda device: 3 if device == "auto" else 0)
    line = [*arguments(data, tmp_path)]
    del line[line.index("--device") : line.index("--results")]  # --workers too
    _, out, _ = call(*line, "--dry-run")
    assert "3 at a time" in out
    _, out, _ = call(*line, "--dry-run", "--device", "cpu")
    assert f"{run_all.default_workers(0)} at a time" in out


def test_predictions_go_on_at_the_group_they_were_at(unbroken, data, tmp_path, monkeypatch):
    """Killed in its third group of images; the file's last line is half there."""
    from benchmarks import one_run
    from captioning import load_captioner, validation
    from captioning.data import load_data

    record = record_of(unbroken)
    run = SimpleNamespace(run_id=record["run_id"], config=config_from(record["config"], data))
    checkpoint = folder(unbroken) / "checkpoints" / run.run_id
    captioner = load_captioner(checkpoint, "cpu", encoder=f"{ENCODER}:make")
    place = SimpleNamespace(folder=tmp_path, cache=str(tmp_path))
    (tmp_path / "checkpoints" / run.run_id).mkdir(parents=True)
    monkeypatch.setattr(validation, "IMAGES_AT_ONCE", 2)
    loaded, asked = load_data(data), []
    unhindered = validation.predict

    def killed(*arguments, **options):
        asked.append(list(arguments[3]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return unhindered(*arguments, **options)

    monkeypatch.setattr(validation, "predict", killed)
    path = tmp_path / "captions" / "x.jsonl.gz"
    with pytest.raises(KeyboardInterrupt):
        one_run.save_predictions(captioner, run, place, loaded, path)
    assert not path.exists()
    with open(tmp_path / "checkpoints" / run.run_id / "predictions.jsonl", "a") as file:
        file.write('[{"id": "0", "spl')
    one_run.save_predictions(captioner, run, place, loaded, path)
    groups = [g for s in ("val", "test") for g in one_run._chunks(loaded.split(s), 2)]
    assert asked == [*groups[:3], *groups[2:]] and len(groups) > 3
    whole = (folder(unbroken) / "captions" / f"{run.run_id}.jsonl.gz").read_bytes()
    rows, expected = (gzip.decompress(b).decode().splitlines() for b in (path.read_bytes(), whole))
    assert [json.loads(r)["id"] for r in rows[1:]] == [json.loads(r)["id"] for r in expected[1:]]
    assert not (tmp_path / "checkpoints" / run.run_id / "predictions.jsonl").exists()


def test_the_coco_profile_on_a_small_dataset_coco(tmp_path):
    """Karpathy's COCO layout: restval trains, COCO's ids name the images, folders stand in the names."""
    place = make_data(tmp_path / "coco", train=6, val=2, test=2, captions=5)
    content = json.loads((place / "dataset_tiny.json").read_text())
    (place / "dataset_tiny.json").unlink()
    for number, image in enumerate(content["images"]):
        folder_name = "train2014" if image["split"] == "train" else "val2014"
        (place / folder_name).mkdir(exist_ok=True)
        (place / "images" / image["filename"]).rename(place / folder_name / image["filename"])
        image |= {"filepath": folder_name, "cocoid": 1000 + number, "split": "restval" if number == 5 else image["split"]}
    (place / "dataset_coco.json").write_text(json.dumps(content | {"dataset": "coco"}))
    line = arguments(place, tmp_path)
    line[1] = "coco"
    done = run(line)
    assert done.status == 0, done.err
    ((record,), _) = list_records(tmp_path / "results" / "coco" / "runs")
    assert record["profile"] == "coco" and record["data"]["name"] == "coco"
    assert record["data"]["images"] == {"train": 6, "val": 2, "test": 2} and record["data"]["splits"] == "given"
    assert record["training"]["epochs"] == 8  # a step each
    with gzip.open(tmp_path / "results" / "coco" / "captions" / f"{record['run_id']}.jsonl.gz", "rt") as file:
        ids = [json.loads(row)["id"] for row in list(file)[1:]]
    assert ids == ["1006", "1007", "1008", "1009"]
    assert (tmp_path / "reports" / "coco" / "index.html").is_file()


def test_the_demo_names_larger_data(tmp_path, monkeypatch):
    monkeypatch.setattr(run_all, "ROOT", tmp_path / "recap")
    monkeypatch.delenv("RECAP_DATA", raising=False)
    assert run_all.say_larger_data() == ""
    make_data(tmp_path / "data" / "flickr8k")
    line = run_all.say_larger_data()
    assert line.count("\n") == 1 and f"--profile flickr8k --data {tmp_path}/data/flickr8k (about " in line
    make_data(tmp_path / "mine" / "coco")
    monkeypatch.setenv("RECAP_DATA", str(tmp_path / "mine"))
    assert f"--profile coco --data {tmp_path}/mine/coco" in run_all.say_larger_data()
    # Other layouts too, in a folder whose name a shell would take apart; two data sets in one folder are none.
    other = tmp_path / "my photos"
    (other / "flickr30k").mkdir(parents=True)
    (other / "flickr30k" / "results.csv").write_text("image,caption\n")
    monkeypatch.setenv("RECAP_DATA", str(other))
    words = shlex.split(run_all.say_larger_data())
    assert words[words.index("--profile") + 1 :][:3] == ["flickr30k", "--data", str(other / "flickr30k")]
    (other / "flickr30k" / "more.csv").write_text("image,caption\n")
    assert "flickr30k" not in run_all.say_larger_data()
    (other / "coco" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (other / "coco" / "annotations" / f"captions_{split}2014.json").write_text("{}")
    assert "--profile coco" in run_all.say_larger_data()


def test_a_failing_run_is_recorded_and_stops_nothing(data, tmp_path):
    """Java cannot start either: the other run still has a record, its scores not available with the reason, never 0."""
    line = arguments(data, tmp_path, encoders=("fail", "make_too"))
    done = run(line, RECAP_JAVA="/nowhere/java")
    assert done.status == 1 and "fail (seed 0): failed: " in done.err and "Traceback" not in done.err
    failed, finished = record_of(tmp_path, "fail"), record_of(tmp_path, "make-too")
    assert (
        failed["status"] == "failed" and "tiny_encoder.py failed: RuntimeError: the weights file is on another machine" in failed["reason"]
    )
    assert (folder(tmp_path) / failed["log"]).is_file()
    assert finished["status"] == "finished"
    coco = finished["scores"]["val"]["coco"]["5"]
    assert coco["scores"] == {} and "/nowhere/java" in coco["not_available"]["CIDEr"] and len(coco["not_available"]) == 8
    assert finished["scores"]["val"]["published"]["scores"]["top-5"] > 0
    assert "on another machine" in (tmp_path / "reports" / "flickr8k" / "index.html").read_text()


@pytest.fixture
def call(monkeypatch, capsys):
    """run_all.py in this process, for calls that start no run: (status, stdout, stderr)."""

    def run(*line):
        monkeypatch.setattr(sys, "argv", ["run_all.py", *map(str, line)])
        with pytest.raises(SystemExit) as left:
            run_command(run_all.main)
        return left.value.code, *capsys.readouterr()

    return run


def twin(folder: Path, name: str) -> str:
    """--encoder for a file whose factory is called `name`."""
    (folder / "mine.py").write_text(f"from tests.tiny_encoder import make as {name}\n")
    return f"{folder / 'mine.py'}:{name}"


BAD = {
    "unknown profile": (lambda d, t: ["--profile", "flickr9k"], "--profile flickr9k: choose demo, flickr8k"),
    "unknown experiment": (lambda d, t: arguments(d, t)[:-1] + ["decoders"], "--only decoders: no experiment 'decoders'; there are encoders"),
    "unknown run": (lambda d, t: arguments(d, t)[:-1] + ["encoders:vgg"], "--only encoders:vgg: none of its 15 runs; nearest: vgg16, vit"),
    "no data": (lambda d, t: ["--profile", "flickr8k"], "--profile flickr8k needs --data DIR"),
    "no such data": (lambda d, t: arguments(t / "nowhere", t), "nowhere: no such data folder"),
    "no encoder file": (lambda d, t: [*arguments(d, t), "--encoder", "mine.py:make"], "--encoder mine.py:make: there is no file mine.py"),
    "no factory": (lambda d, t: [*arguments(d, t), "--encoder", "resnet18"], "--encoder resnet18: give path/to/file.py:factory"),
    "all and only": (lambda d, t: arguments(d, t, "--all"), "--all and --only: give one of them"),
    "row of the study": (
        lambda d, t: [*arguments(d, t), "--encoder", twin(t, "convnext_tiny")],
        "its row would be called convnext-tiny, a name that a row of the study has already; rename the factory",
    ),
    "two of one name": (
        lambda d, t: [*arguments(d, t), "--encoder", f"{ENCODER}:make", twin(t, "make")],
        f"its row would be called make, a name that --encoder {ENCODER}:make has already; rename the factory",
    ),
    "left out": (lambda d, t: [*arguments(d, t)[:-1], "attention"], f"--encoder {ENCODER}:make: --only leaves it out; add encoders:make"),
    "one left out": (
        lambda d, t: [*arguments(d, t), "--encoder", f"{ENCODER}:make", f"{ENCODER}:make_too"],
        f"--encoder {ENCODER}:make_too: --only leaves it out; add encoders:make-too",
    ),
    "seed and seeds": (lambda d, t: arguments(d, t, "--seeds", "2", "--seed", "1"), "--seeds and --seed: give one of them"),
    "negative seed": (lambda d, t: arguments(d, t, "--seed", "-1"), "--seed -1: give a number of at least 0"),
    "no seeds": (lambda d, t: arguments(d, t, "--seeds", "0"), "--seeds 0"),
    "negative budget": (lambda d, t: arguments(d, t, "--budget", "-1"), "--budget: give numbers of at least 0"),
    "results read-only": (lambda d, t: arguments(d, t, "--results", "/proc/results"), "/proc/results"),
    "results a file": (lambda d, t: arguments(d, t, "--results", str(d / "dataset_tiny.json")), "dataset_tiny.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(call, data, tmp_path, case):
    make_line, said = BAD[case]
    status, _, err = call(*make_line(data, tmp_path))
    assert status == 2 and err.startswith("run_all.py: error: ") and said in err
    assert len(err.splitlines()) == 1 and not (tmp_path / "results").exists()


def test_two_at_once(call, data, tmp_path):
    folder(tmp_path).mkdir(parents=True)
    with open(folder(tmp_path) / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
        status, _, err = call(*arguments(data, tmp_path))
    assert status == 2 and f"another run_all.py (process {os.getpid()}) is at work there; wait for it" in err
    assert [p.name for p in folder(tmp_path).iterdir()] == [".lock"]


def test_the_runs_of_a_killed_call_are_waited_for(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    lock = open(tmp_path / ".lock", "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    lock.write(str(gone.pid))
    lock.flush()
    threading.Timer(0.3, lock.close).start()
    with runner.only_one(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_dry_run_and_list_write_nothing(call, data, tmp_path):
    status, out, _ = call(*arguments(data, tmp_path), "--dry-run")
    assert status == 0 and "1 runs, 0 done" in out and "to do" in out
    status, out, _ = call("--list")
    assert status == 0 and "encoders:convnext" in out
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_record_is_named_and_made_again(call, unbroken, data, tmp_path, monkeypatch):
    """The run's state is gone with its first record: its checkpoint and predictions are whole, so only the record is made again."""
    import torch

    from benchmarks.one_run import Place, execute

    shutil.copytree(unbroken / "results", tmp_path / "results")
    record = record_of(tmp_path)
    path = folder(tmp_path) / "runs" / f"{record['run_id']}.json"
    path.write_text(path.read_text()[:1000])
    status, out, err = call(*arguments(data, tmp_path), "--dry-run")
    assert status == 0 and "1 runs, 0 done" in out and "to do" in out
    assert f"{path}: no whole JSON text, perhaps half written; delete it and run again" in err
    loaded, (run,) = load_data(data), plan_of(data)
    assert run.run_id == record["run_id"] and not is_done(folder(tmp_path), run)
    monkeypatch.setattr("train.train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setenv("RECAP_JAVA", "/nowhere/java")  # quicker
    place = Place(folder(tmp_path), "flickr8k", str(data), "pretrained", str(unbroken / "cache"), "cpu", 1, 5.0, True, "command")
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    execute(run, place, loaded)
    assert torch.get_num_threads() == 1  # else sums are rounded elsewhere than in a run that was not killed
    torch.set_num_threads(before)
    assert is_done(folder(tmp_path), run)
    compare(unbroken, tmp_path, but="coco")


def test_a_finished_run_without_its_files_is_remade(unbroken, data, tmp_path):
    """As every message says that names such a file: "run again to remake it". Captions that are others' are no place to go on from."""
    shutil.copytree(unbroken / "results", tmp_path / "results")
    files, (run_,) = record_of(tmp_path)["files"], plan_of(data)
    assert is_done(folder(tmp_path), run_)
    for kind in ("captions", "references", "curve", "attention"):
        path = folder(tmp_path) / files[kind]["path"]
        whole = path.read_bytes()
        path.unlink()
        assert not is_done(folder(tmp_path), run_)
        path.write_bytes(whole + b"\0")
        assert not is_done(folder(tmp_path), run_)
        path.write_bytes(whole)
    (folder(tmp_path) / files["checkpoint"]["path"]).rename(tmp_path / "kept")
    assert is_done(folder(tmp_path), run_)  # no number is made from it
    (tmp_path / "kept").rename(folder(tmp_path) / files["checkpoint"]["path"])
    captions = folder(tmp_path) / files["captions"]["path"]
    lines = lines_of(captions)
    for line in lines[1:]:
        line["free"]["5"]["text"] = "a better caption"
    captions.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    for kind in ("references", "curve", "attention"):
        (folder(tmp_path) / files[kind]["path"]).unlink()
    again = run([*arguments(data, tmp_path), "--cache", str(unbroken / "cache")], RECAP_JAVA="/nowhere/java")  # quicker
    assert again.status == 0 and "1 runs, 0 done" in again.out, again.err
    assert (
        "epoch" not in next(folder(tmp_path).glob("logs/*.log")).read_text()[len(next(folder(unbroken).glob("logs/*.log")).read_text()) :]
    )
    compare(unbroken, tmp_path, but="coco")
    assert is_done(folder(tmp_path), run_)


def test_captions_of_an_earlier_training_are_not_scored(unbroken, data, tmp_path):
    """As in a clone of evidence whose record was lost: captions are there, their checkpoint is not, and a training elsewhere says other things."""
    shutil.copytree(unbroken / "results", tmp_path / "results")
    shutil.rmtree(folder(tmp_path) / "checkpoints")
    (folder(tmp_path) / "runs" / f"{record_of(tmp_path)['run_id']}.json").unlink()
    (captions,) = folder(tmp_path).glob("captions/make-*.jsonl.gz")
    lines = lines_of(captions)
    for line in lines[1:]:
        line["free"]["5"]["text"] = "a better caption"
    captions.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), mtime=0))
    again = run([*arguments(data, tmp_path), "--cache", str(unbroken / "cache")], RECAP_JAVA="/nowhere/java")  # quicker
    assert again.status == 0, again.err
    compare(unbroken, tmp_path, but="coco")


def test_evidence_prints_its_own_verdicts(call, unbroken, data, tmp_path, monkeypatch):
    """Its pages, and claims.json beside them, are in evidence/ of the reports; those of the reader's own runs lie elsewhere and say other things."""
    shutil.copytree(unbroken / "results", tmp_path / "results")
    monkeypatch.setattr(run_all, "EVIDENCE", tmp_path / "results")
    stale = tmp_path / "reports" / "flickr8k" / "claims.json"
    stale.parent.mkdir(parents=True)
    stale.write_text(json.dumps({"claims": []}))
    status, out, _ = call(*arguments(data, tmp_path))
    assert status == 0 and "What held" in out and out.count("│ not run │") == len(load_claims())
    assert (tmp_path / "reports" / "evidence" / "flickr8k" / "claims.json").is_file()


def test_another_results_folder_has_reports_of_its_own(call, unbroken, data, tmp_path):
    shutil.copytree(unbroken / "results", tmp_path / "results-2")
    line = arguments(data, tmp_path)
    line[line.index("--results") + 1] = str(tmp_path / "results-2")
    del line[line.index("--reports") : line.index("--cache")]
    before = checkout()
    status, out, _ = call(*line)
    assert status == 0 and f"report: {tmp_path / 'reports-2' / 'index.html'}" in out and checkout() == before
    assert "convnext was not run" in " ".join(out.split())  # the verdicts are those of that report


def test_one_seed_alone(call, data, tmp_path):
    status, out, _ = call(*arguments(data, tmp_path, "--seed", "3", "--force"), "--dry-run")
    assert status == 0 and "1 runs, 0 done" in out and "seed 3" in out and "seed 0" not in out


def plan_of(data: Path) -> list:
    loaded = load_data(data)
    return make_plan(PROFILES["flickr8k"], ["encoders:make"], 1, [f"{ENCODER}:make"], "pretrained", lambda _: loaded.fingerprint)


def test_force_starts_from_nothing(unbroken, tmp_path, data):
    shutil.copytree(unbroken / "results", tmp_path / "results")
    run_all.forget(folder(tmp_path), plan_of(data))
    assert list_records(folder(tmp_path) / "runs") == ([], []) and not list(folder(tmp_path).glob("checkpoints/*"))
    assert not list(folder(tmp_path).glob("captions/make-*"))


def test_a_plan_alone_removes_nothing(call, unbroken, data, tmp_path):
    shutil.copytree(unbroken / "results", tmp_path / "results")
    before = {path: path.read_bytes() for path in folder(tmp_path).rglob("*") if path.is_file() and path.name not in ("plan.json", ".lock")}
    status, out, _ = call(*arguments(data, tmp_path, "--plan", "--force"))
    assert status == 0 and "1 runs, 0 done" in out
    assert {path: path.read_bytes() for path in before} == before


def test_a_plan_holds_each_run_once_with_its_seeds():
    default, everything = (make_plan(PROFILES["demo"], [], 1, [], "pretrained", lambda _: "data", everything=all) for all in (False, True))
    assert len(default) == 26 and len(everything) > 35 and not any(run.problem for run in everything)
    assert list(next(run for run in default if run.config.name == "convnext").labels) == [*DEFAULT]  # trained once for all that share it
    plan = make_plan(PROFILES["demo"], [], 3, [], "none", lambda _: "data")
    assert len({run.run_id for run in plan}) == len(plan) and {run.config.seed for run in plan} == {0, 1, 2}
    assert not any(run.config.pretrained or run.problem for run in plan)
    with pytest.raises(BadInput, match="its runs are"):
        make_plan(PROFILES["demo"], ["encoders:none-such"], 1, [], "none", lambda _: "data")


def test_a_default_call_forgets_nothing_that_all_had_planned(tmp_path):
    """A row that an ablation shares with a default experiment stays in both tables, in the default set's order; one that changed counts once."""
    from argparse import Namespace

    from benchmarks.run_all import note_plan
    from captioning.records import read_plan

    class Entry(NamedTuple):
        run_id: str
        labels: dict
        problem: str = ""

        def entry(self) -> dict:
            name, first = self.run_id.rpartition("-")[0], next(iter(self.labels.values()))
            return {"run_id": self.run_id, "name": name, "label": first, "experiments": list(self.labels), "labels": self.labels}

    def planned(*entries: Entry, **options) -> dict[str, list[str]]:
        note_plan(tmp_path, list(entries), Namespace(**{"only": [], "seed": None, "all": False} | options), {"main-0-a": 2.04})
        return {run["run_id"]: run["experiments"] for run in read_plan(tmp_path)}

    main, shared = Entry("main-0-a", {"encoders": "Main"}), Entry("t5-0-b", {"systems": "T5", "systems_ablations": "T5"})
    extra = Entry("t5-regions-0-c", {"systems_ablations": "T5: regions"})
    planned(Entry("gone-0-x", {"encoders": "Gone"}), main, shared, extra, all=True)
    default = (main, Entry("t5-0-b", {"systems": "T5"}))
    found = planned(*default)
    assert found == {"main-0-a": ["encoders"], "t5-0-b": ["systems", "systems_ablations"], "t5-regions-0-c": ["systems_ablations"]}
    assert list(found) == ["main-0-a", "t5-0-b", "t5-regions-0-c"]
    assert planned(main, Entry("t5-0-new", {"systems": "T5"})) == {
        "main-0-a": ["encoders"], "t5-0-new": ["systems"], "t5-regions-0-c": ["systems_ablations"],
    }  # fmt: skip
    assert planned(main, shared, all=True) == {"main-0-a": ["encoders"], "t5-0-b": ["systems", "systems_ablations"]}
    extra = Entry("extra-0-y", {"encoders": "Extra"}, "/home/me/weights: not there")
    assert planned(extra, only=["encoders:extra"]).keys() == {"main-0-a", "t5-0-b", "extra-0-y"}
    first, _, last = read_plan(tmp_path)
    assert first["minutes"] == 2.0 and last["weights"] == "not at hand" and "/home" not in str(last)


def test_of_a_vocabulary_smaller_than_the_beam_a_run_takes_what_there_is(data, tmp_path, monkeypatch):
    """Of a few photographs hardly a word is seen often enough; the run must not fail after its training."""
    from benchmarks import one_run

    asked = []

    class Captioner:
        vocabulary, map_kind = range(4), "attention"
        most_words, prepare = lambda self: 9, lambda self, image: np.zeros((8, 8, 3), np.uint8)

        def caption(self, images, decode, attend=False):
            asked.append(decode.beam)
            return [SimpleNamespace(words=["a"], attention=np.ones((1, 2, 2)) / 4) for _ in images]

    monkeypatch.setattr(one_run, "_as_images", list)
    loaded = load_data(data)
    assert one_run.captions_per_second(Captioner(), loaded, images=2) > 0
    place = SimpleNamespace(folder=tmp_path, keep_pictures=True)
    run = SimpleNamespace(run_id="r", config=SimpleNamespace(max_words=9))
    assert one_run.save_attention(Captioner(), run, place, loaded).exists()
    assert asked == [4, 4, 4]
