"""The process that scores for all runs: the same scores as without it, for several who ask at once, and no trouble when it is gone."""

import gzip
import json
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.runner import _in_child
from benchmarks.scorer import Scorer, ask_scorer, score_saved
from captioning.bad_input import BadInput

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
