"""The study on Flickr8k: every step names runs that exist, and a budget leaves the rest planned."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import study
from benchmarks.plan import make_plan
from benchmarks.profiles import PROFILES
from captioning.data import load_data
from tests.tiny import make_data

ROOT = Path(__file__).resolve().parents[1]


def test_every_step_names_runs_that_exist():
    """With torchvision's ResNet-50 and with one's own; forty runs at least."""
    own = f"{ROOT / 'tests/tiny_encoder.py'}:make"
    for encoder in ("", own):
        found = set()
        for call in study.calls(encoder):
            encoders = [call.encoder] if call.encoder else []
            plan = make_plan(PROFILES["flickr8k"], list(call.only), 1, encoders, "none", lambda _: "data", just_seed=call.seed)
            assert plan and all(run.config.seed == call.seed for run in plan)
            found |= {run.config.name + str(run.config.seed) for run in plan}
        assert len(found) >= 40
    assert any("make-hard" in name for name in found)


@pytest.mark.parametrize("encoder", ["", f"{ROOT / 'tests/tiny_encoder.py'}:make"])
def test_every_table_has_the_row_that_its_others_vary(encoder):
    """With each seed; of `attention` the soft row of each encoder, of `learning_rates` each frozen one."""
    steps = {}
    for call in study.calls(encoder):
        encoders = [call.encoder] if call.encoder else []
        for run in make_plan(PROFILES["flickr8k"], list(call.only), 1, encoders, "none", lambda _: "data", just_seed=call.seed):
            for experiment in run.labels:
                steps.setdefault((experiment, call.seed), {})[run.config.name] = run
    frozen = {name for rows in steps.values() for name in rows if name in ("deit-tiny", "mobilenetv2", "resnet50", "make")}
    asked = 0
    for (experiment, _), rows in steps.items():
        if experiment not in ("encoders", "shipped"):
            for name in rows:
                mains = [main for main in frozen if name == main or name.startswith(f"{main}-")]
                assert all(main in rows for main in mains), (experiment, name)
                asked += len(mains)
    assert asked >= 30


def test_only_the_rows_of_encoders_are_decoded_at_the_widest_beam():
    own = f"{ROOT / 'tests/tiny_encoder.py'}:make"
    only = ["encoders", "attention:deit-tiny", "attention:deit-tiny-hard", "attention:make-none", "systems", "shipped"]
    plan = make_plan(PROFILES["flickr8k"], [*only, "published_or_corrected"], 1, [own], "none", lambda _: "data")
    wide = {run.config.name for run in plan if run.config.beams == (1, 3, 5, 7)}
    assert {"deit-tiny", "resnet50", "make"} <= wide == {run.config.name for run in plan if "encoders" in run.labels}
    assert {run.config.beams for run in plan if run.config.name not in wide} == {(1, 3, 5)}


def test_a_budget_leaves_the_rest_planned(tmp_path):
    data = make_data(tmp_path / "data")
    line = [sys.executable, "benchmarks/study.py", "--data", str(data), "--weights", "none", "--results", str(tmp_path / "results")]
    answer = subprocess.run([*line, "--budget", "0.0001"], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "out of budget before step 1 of" in answer.stdout
    planned = json.loads((tmp_path / "results/flickr8k/plan.json").read_text())["runs"]
    assert len(planned) >= 40 and all(run["minutes"] > 0 for run in planned if run["name"] == "deit-tiny")


def test_a_moment_before_the_budget_ends_is_still_a_budget(monkeypatch):
    """A step that would get 0.00 minutes gets 0.01: 0 is no limit."""
    given, seconds = [], iter([0.0, *[59.9] * 100])
    monkeypatch.setattr(study.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(study, "run_all", lambda options, call, more: given.append(more) or 0)
    monkeypatch.setattr(sys, "argv", ["study.py", "--data", "x", "--budget", "1"])
    study.main()
    budgets = [float(more[1]) for more in given if "--budget" in more]
    assert budgets and min(budgets) == 0.01


def test_an_encoder_that_no_question_knows_is_refused(capsys):
    with pytest.raises(SystemExit):
        study.parse_arguments(["--data", "x", "--encoder", "mine.py:resnet"])
    assert "name it FILE.py:resnet50_v1" in capsys.readouterr().err
    assert study.parse_arguments(["--data", "x", "--encoder", "mine.py:resnet50_v1"]).encoder


def test_a_rehearsal_runs_each_configuration_once_and_keeps_nothing(tmp_path, monkeypatch, capfd):
    """Two systems, the second as it stands in two steps of the study, and a row whose encoder learns; what lies in the working folder stays as it was."""
    data = make_data(tmp_path / "data")
    steps = (
        ("systems:deit-tiny-transformer",),
        ("encoders:mobilenetv2", "systems:deit-tiny-transformer"),
        ("learning_rates:mobilenetv2-scratch",),
    )
    monkeypatch.setattr(study, "STEPS", tuple(study.Step("", only, (0, 1)) for only in steps))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert study.rehearse(study.parse_arguments(["--data", str(data), "--weights", "none", "--rehearse"])) == 0
    said = capfd.readouterr().out
    assert "rehearsed 3 configurations, 0 failed" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_rehearsal_says_what_cannot_run(tmp_path, monkeypatch, capfd):
    data = make_data(tmp_path / "data")
    monkeypatch.setattr(study, "STEPS", (study.Step("", ("shipped:convnext-femto",)),))
    assert study.rehearse(study.parse_arguments(["--data", str(data), "--weights", str(tmp_path), "--rehearse"])) == 1
    assert "rehearsed 1 configurations, 1 failed" in capfd.readouterr().out


def test_the_first_photographs_are_those_of_the_data(tmp_path):
    whole = load_data(make_data(tmp_path / "data"))
    few = study.first_photographs(whole)
    assert len(few.split("train")) == min(64, len(whole.split("train"))) and len(few.split("val")) <= 4
    for index, example in enumerate(few.examples):
        there = whole.examples.index(example)
        assert few.open_image(index).tobytes() == whole.open_image(there).tobytes()
    assert few.fingerprint != whole.fingerprint
