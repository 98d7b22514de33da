"""People scored against each other: by NLTK and a calculation by hand, and captioners that lose the same reference."""

import dataclasses
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
from captioning.records import list_records
from captioning.verify import Tally, _check_people
from reports.human import human_table
from reports.profile import load_profile

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


@pytest.mark.parametrize(
    "change", [{"left_out": None}, {"people": {}}, {"people": None}, {"runs": [{"run_id": "a"}]}, {"schema": 2}, {"references_sha256": 5}]
)
def test_a_file_of_another_layout_is_named_and_a_page_still_made(tmp_path, change):
    content = read_human(EVIDENCE) | change
    (tmp_path / "human.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="human.json: damaged"):
        read_human(tmp_path)
    profile = dataclasses.replace(load_profile(EVIDENCE), folder=tmp_path)
    table, problems = human_table(profile)
    assert table is None and len(problems) == 1


def test_the_committed_rows_are_those_of_the_records():
    content = read_human(EVIDENCE)
    records = {r["run_id"]: r for r in list_records(EVIDENCE / "runs")[0] if r["status"] == "finished" and r["config"]["seed"] == 0}
    assert {row["run_id"]: row["captions_sha256"] for row in content["runs"]} == {
        run_id: record["files"]["captions"]["sha256"] for run_id, record in records.items()
    }
    assert {record["files"]["references"]["sha256"] for record in records.values()} == {content["references_sha256"]}
    # Other references: none of the rows may be shown.
    profile = load_profile(EVIDENCE)
    shown, problems = human_table(profile)
    assert len(shown.rows) == 1 + len(records) and not problems


def test_verify_misses_a_row_that_was_taken_out(tmp_path):
    home = tmp_path / "flickr8k"
    home.mkdir()
    content = read_human(EVIDENCE)
    (home / "human.json").write_text(json.dumps(content | {"runs": []}))
    (home / "captions").symlink_to(EVIDENCE / "captions")
    records = [r for r in list_records(EVIDENCE / "runs")[0] if r["status"] == "finished"]
    found = next(_check_people(home, records, Tally()))
    assert found.startswith(f"{len(content['runs'])} of {len(content['runs'])} finished runs of seed 0 are not in it")
