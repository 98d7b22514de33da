"""The process that scores for all runs: the same scores as without it, for several who ask at once, and no trouble when it is gone."""

import gzip
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.runner import _in_child
from benchmarks.scorer import JavaFault, Scorer, _answer, ask_scorer, score_saved
from captioning import meteor, protocols
from captioning.bad_input import BadInput
from captioning.java import JavaUnavailable

VOCABULARY = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "dog", "runs", "on", "grass"]


@pytest.fixture
def predictions(tmp_path, monkeypatch):
    monkeypatch.setenv("RECAP_JAVA", "/nowhere/java")  # its scores have tests of their own

    def write(name, lines):
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    images = [(f"{split}{k}", split) for split in ("val", "test") for k in range(3)]
    write(
        "r.jsonl.gz", [{"id": i, "split": s, "tokens": ["a red dog runs on grass"], "raw": ["A red dog runs on grass."]} for i, s in images]
    )
    header = {"vocabulary": VOCABULARY, "references": "r.jsonl.gz", "beams": [1], "max_words": 20, "decoding": {}}
    forced = [{"words": "a dog runs on grass <end>", "n": 6, "top5": 5, "cross_entropy": 4.0, "penalty": 0.5}]
    free = {"1": {"text": "a red dog runs", "score": -1.0, "ended": True}}
    write("p.jsonl.gz", [header, *({"id": i, "split": s, "free": free, "forced": forced} for i, s in images)])
    return tmp_path / "p.jsonl.gz"


@pytest.fixture
def scorer(predictions):
    running = Scorer(multiprocessing.get_context("fork"), _in_child)
    yield running
    running.close()
    assert not running.process.is_alive() and not running.folder.exists()


def test_the_same_scores_for_all_who_ask(scorer, predictions):
    alone = score_saved(predictions)
    assert alone["pointing"] is None and alone["scores"]["val"]["free"]["1"]["scores"]["BLEU-1"] > 0
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask_scorer(scorer.address, predictions), range(6)))
    assert all(answer == alone for answer in answers)


def test_bad_files_and_faults_are_the_askers_and_not_the_scorers_end(scorer, predictions):
    with pytest.raises(BadInput, match="nowhere"):
        ask_scorer(scorer.address, predictions.parent / "nowhere.jsonl.gz")
    predictions.with_name("q.jsonl.gz").write_bytes(gzip.compress(b'{"vocabulary": 1, "beams": [1], "references": "r.jsonl.gz"}\n'))
    with pytest.raises((BadInput, RuntimeError)):
        ask_scorer(scorer.address, predictions.with_name("q.jsonl.gz"))
    assert scorer.process.is_alive()
    assert ask_scorer(scorer.address, predictions) == score_saved(predictions)


def test_without_a_scorer_one_scores_by_oneself(scorer, predictions):
    alone = score_saved(predictions)
    assert ask_scorer("", predictions) == alone
    ask_scorer(scorer.address, predictions)
    os.kill(scorer.process.pid, signal.SIGKILL)
    scorer.process.join()
    assert ask_scorer(scorer.address, predictions) == alone


def test_its_folder_goes_when_the_parent_is_killed(tmp_path):
    """A killed parent removes nothing, and nobody else knew of /tmp/recap-*."""
    text = "import multiprocessing, time\nfrom benchmarks.runner import _in_child\nfrom benchmarks.scorer import Scorer\n"
    text += "running = Scorer(multiprocessing.get_context('fork'), _in_child)\nprint(running.address, flush=True)\ntime.sleep(60)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "RECAP_JAVA": "/nowhere/java"}
    root = Path(__file__).resolve().parents[1]
    parent = subprocess.Popen([sys.executable, "-c", text], cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    address = Path(parent.stdout.readline().strip())
    wait_until(address.exists)  # it listens
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not list(tmp_path.iterdir()))


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def java(predictions, tmp_path, monkeypatch):
    """A stand-in for METEOR's Java that dies after its first answer as often as `deaths` says; the tokenizer's is left out."""
    monkeypatch.setattr(meteor, "_shared", {})
    monkeypatch.setattr(protocols, "ptb_tokenize", list)

    def install(deaths: int) -> None:
        script = tmp_path / "java"
        answer = f"read -r line; echo {'1 ' * meteor.COUNTS}"
        count = f"n=$(cat {tmp_path}/starts 2>/dev/null || echo 0); echo $((n + 1)) > {tmp_path}/starts"
        script.write_text(f"#!/bin/sh\n{count}\n{answer}\n[ $n -lt {deaths} ] && kill -9 $$\nwhile {answer}; do :; done\n")
        script.chmod(0o755)
        monkeypatch.setenv("RECAP_JAVA", str(script))

    yield install
    meteor.shared_meteor().close()


def test_a_java_that_dies_once_is_started_again(java, predictions, tmp_path):
    java(deaths=1)
    found = score_saved(predictions)
    assert all("METEOR" in found["scores"][split]["coco"]["1"]["scores"] for split in ("val", "test"))
    assert int((tmp_path / "starts").read_text()) >= 2


def test_a_java_that_keeps_dying_fails_the_run_and_is_no_record_without_meteor(java, predictions, monkeypatch):
    java(deaths=99)
    with pytest.raises(JavaFault, match="METEOR of val: Java failed with status -9: .*; run again when 3 GB of memory are free"):
        score_saved(predictions)
    kind, reason = _answer(predictions)
    assert kind == "java fault" and reason.startswith("METEOR of val: ")


def test_the_tokenizer_is_run_once_more_too(java, predictions, monkeypatch):
    java(deaths=0)
    failures = iter([True])

    def fail_once(captions):
        if next(failures, False):
            raise JavaUnavailable("Java failed with status 137: killed")
        return list(captions)

    monkeypatch.setattr(protocols, "ptb_tokenize", fail_once)
    assert "CIDEr" in score_saved(predictions)["scores"]["val"]["coco"]["1"]["scores"]
    monkeypatch.setattr(protocols, "_TOKENS", {})
    failures = iter([True, True])
    with pytest.raises(JavaFault, match="BLEU-1 of val: the PTB tokenizer needs Java: Java failed with status 137"):
        score_saved(predictions)
