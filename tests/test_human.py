"""People scored against each other: by NLTK and a calculation by hand, and captioners that lose the same reference."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nltk.translate.bleu_score import corpus_bleu

from captioning.bad_input import BadInput
from captioning.human import human_scores, read_human, references_of_all, rescored
from captioning.protocols import read_predictions

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "results/evidence/flickr8k"


@pytest.fixture(scope="module")
def saved():
    (path,) = (EVIDENCE / "captions").glob("deit-tiny-0-*.jsonl.gz")
    return read_predictions(path, "test")


def test_people_are_scored_against_the_other_references(saved):
    ids = list(saved.tokens)
    found = []
    for j in range(5):
        own = [saved.tokens[i][j].split() for i in ids]
        others = [[c.split() for k, c in enumerate(saved.tokens[i]) if k != j] for i in ids]
        found.append(100 * corpus_bleu(others, own))
    assert references_of_all(saved) == 5
    assert human_scores(saved, ["free"], draws=0)["free"]["scores"]["BLEU-4"] == pytest.approx(np.mean(found), abs=1e-9)


def test_captioners_lose_the_same_reference(saved):
    ids = list(saved.tokens)
    own = [saved.said["5"][i].split() for i in ids]
    found = [100 * corpus_bleu([[c.split() for k, c in enumerate(saved.tokens[i]) if k != j] for i in ids], own) for j in range(5)]
    scores = rescored(saved, "5", ["free"], draws=20)["free"]
    assert scores["scores"]["BLEU-4"] == pytest.approx(np.mean(found), abs=1e-9)
    low, high = scores["intervals"]["BLEU-4"]
    assert low < scores["scores"]["BLEU-4"] < high
    # Fewer references, fewer matches.
    assert scores["scores"]["BLEU-4"] < saved.score_free("5").scores()["BLEU-4"]


def test_a_damaged_file_is_named(tmp_path):
    assert read_human(tmp_path) == {"runs": []}
    (tmp_path / "human.json").write_text('{"schema": 1, "runs": [')
    with pytest.raises(BadInput, match="human.json: damaged"):
        read_human(tmp_path)


def test_the_command_names_what_it_does_not_know(tmp_path):
    def call(*line):
        return subprocess.run([sys.executable, "benchmarks/human.py", *line], cwd=ROOT, capture_output=True, text=True)

    assert "no finished runs of seed 0" in call(str(tmp_path)).stderr
    answer = call(str(EVIDENCE), "--only", "nobody")
    assert answer.returncode == 2 and "--only nobody: no such run" in answer.stderr


def test_the_references_of_the_record_are_those_scored():
    content = read_human(EVIDENCE)
    if not content["runs"]:
        pytest.skip("no human.json is committed yet")
    with gzip.open(next((EVIDENCE / "captions").glob("references-*.jsonl.gz")), "rt", encoding="utf-8") as file:
        tests = [line for line in map(json.loads, file) if line["split"] == "test"]
    assert content["people"]["coco"]["n_images"] == len(tests) == 1000
