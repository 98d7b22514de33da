"""Our own questions: their file, their answers against the records, and the page's first sentence and tables about them."""

import copy
import dataclasses
import html
import importlib
import json
import re
import shutil
import statistics
from pathlib import Path

import pytest

from benchmarks.profiles import PROFILES
from captioning import published
from captioning.claims import CONTRADICTED, NOT_RUN, REPRODUCED, TOO_CLOSE
from captioning.claims_file import make_claims, read_claims, write_claims
from captioning.findings import about_what_was_run, by_name_and_seed, findings
from captioning.published import load_numbers, load_questions
from captioning.records import list_records
from reports.profile import load_profile
from reports.questions import (
    answer_of,
    cannot_judge,
    findings_in_words,
    is_answered,
    question_table,
    same_data_tables,
    scored_both_ways,
    training_in_words,
)
from reports.sections import stated
from reports.tables import Missing, Published, Value

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "results/evidence/flickr8k"


@pytest.fixture(scope="module")
def profile():
    return load_profile(HOME)


@pytest.fixture(scope="module")
def answered() -> list[dict]:
    return read_claims(ROOT / "reports/evidence/flickr8k/claims.json")["questions"]


def test_every_question_compares_runs_of_an_experiment_and_says_what_would_change_it():
    questions = load_questions()
    assert len(questions) >= 5 and {question.rule for question in questions} == {"direction"}
    for question in questions:
        assert len(question.better) == len(question.worse) == 1 and question.note and question.published_difference is None
        for condition in (*question.better, *question.worse):
            if condition.weights == "own":
                continue  # rows of encoders that a reader names
            rows = importlib.import_module(f"benchmarks.experiments.{condition.experiment}").runs(PROFILES["flickr8k"])
            config = next(config for _, config in rows if config.name == condition.run)
            assert config.encoder.startswith(condition.encoder) and config.pretrained == (condition.weights == "ImageNet")
    asked = {condition.run for question in questions for condition in (*question.better, *question.worse)}
    asked |= {condition.instead.run for question in questions for condition in (*question.better, *question.worse) if condition.instead}
    assert asked == json.loads(published.QUESTIONS.read_text(encoding="utf-8"))["conditions"].keys()


@pytest.mark.parametrize("change, message", [
    ({"better": "nobody"}, "names 'nobody', which is no condition"), ({"would change it": ""}, "'would change it' is empty"),
    ({"better": ["deit-tiny"]}, "of the wrong type"), ({"size": 3}, "'size' is not known"), ({"beam": None}, "'beam' is None"),
])  # fmt: skip
def test_a_wrong_field_is_named(tmp_path, change, message):
    content = json.loads(published.QUESTIONS.read_text(encoding="utf-8"))
    content["questions"][0] |= change
    (tmp_path / "questions.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_questions(tmp_path / "questions.json")
    assert content["questions"][0]["id"] in str(error.value)


def test_the_committed_answers_are_the_records_arithmetic(answered):
    runs = by_name_and_seed(list_records(HOME / "runs")[0])
    assert [one["id"] for one in answered] == [question.id for question in load_questions()]
    measured = 0
    for one in answered:
        (better,), (worse,), metric = one["better"], one["worse"], one["metric"]
        better, worse = better["run"] if isinstance(better, dict) else better, worse["run"] if isinstance(worse, dict) else worse
        if one["finding"] == NOT_RUN:
            assert any(name in one["reason"] for name in (better, worse))
            continue
        measured += 1
        means = {}
        seeds = {name: {seed for seed, run in runs[name].items() if run["status"] == "finished"} for name in (better, worse)}
        for split in ("val", "test"):
            for name in (better, worse):
                values = [runs[name][seed]["scores"][split]["coco"]["5"]["scores"][metric] for seed in seeds[name]]
                means[split, name] = sum(values) / len(values)
        (part,), (on_test,) = one["parts"], one["test"]
        for split, found in (("val", part), ("test", on_test)):
            assert found["relative_difference"] == pytest.approx(100 * (means[split, better] / means[split, worse] - 1))
        assert [set(map(int, side)) for side in part["values"][metric].values()] == [seeds[better], seeds[worse]]
        assert part["interval_kind"] == ("images and seeds" if min(map(len, seeds.values())) >= 5 else "images only")
        low, high = part["interval"]
        assert low < part["relative_difference"] < high
        assert one["finding"] == (REPRODUCED if low > 0 else CONTRADICTED if high < 0 else TOO_CLOSE)
    assert measured >= 5


def test_the_row_that_everybody_can_run_answers_where_ones_own_is_not_there(tmp_path):
    """The same records under the names that they have without --encoder; with both the reader's own counts."""
    question = next(one for one in load_questions() if one.id == "deit-over-cnn")
    records = [copy.deepcopy(one) for one in list_records(HOME / "runs")[0] if one["name"] in ("deit-tiny", "resnet50-v1")]
    theirs = copy.deepcopy([one for one in records if one["name"] == "resnet50-v1"])
    for one in theirs:
        one["name"] = "resnet50"
        one["encoder"] |= {"tag": "resnet50.tv_in1k", "source": "timm", "sha256": "0" * 64}
    others = [one for one in records if one["name"] == "deit-tiny"]
    (own,), (answer,), (both,) = (findings(HOME, [question], found, draws=50) for found in (records, others + theirs, records + theirs))
    assert own == both and own["worse"] == ["resnet50-v1"] and answer["worse"] == ["resnet50"]
    assert answer["parts"][0]["relative_difference"] == own["parts"][0]["relative_difference"] and answer["finding"] == own["finding"]
    (nothing,) = findings(HOME, [question], others, draws=50)
    assert nothing["finding"] == NOT_RUN and nothing["reason"] == "resnet50-v1 was not run"


def test_a_question_of_soft_and_none_is_about_one_encoder():
    """Both sides of one's own net, or both of everybody's: whichever have more finished runs."""
    question = next(one for one in load_questions() if one.id == "attention-over-none-cnn")

    def asked(**status: str) -> list[str]:
        runs = {name.replace("_", "-"): {0: {"status": found}} for name, found in status.items()}
        claim = about_what_was_run(question, runs)
        return [condition.run for condition in (*claim.better, *claim.worse)]

    own, theirs = ["resnet50-v1", "resnet50-v1-none"], ["resnet50", "resnet50-none"]
    assert asked() == asked(resnet50_v1="finished", resnet50_none="finished") == own
    assert asked(resnet50_v1="failed", resnet50="finished", resnet50_none="finished") == theirs
    assert asked(resnet50_v1="finished", resnet50_v1_none="finished", resnet50="finished", resnet50_none="finished") == own


def test_a_question_is_judged_once_what_stands_in_has_run(tmp_path):
    """The second build knows of the first's "not run", and that its reason is gone."""
    records = {one["name"]: one for one in list_records(HOME / "runs")[0] if one["config"]["seed"] == 0}
    folder = tmp_path / "flickr8k"
    (folder / "runs").mkdir(parents=True)
    (folder / "captions").mkdir()
    for file in {records[name]["files"][kind]["path"] for name in ("deit-tiny", "resnet50-v1") for kind in ("captions", "references")}:
        shutil.copyfile(HOME / file, folder / file)
    theirs = copy.deepcopy(records["resnet50-v1"]) | {"name": "resnet50", "run_id": "resnet50-0-0123456789"}
    theirs["encoder"] |= {"tag": "resnet50.tv_in1k", "source": "timm", "sha256": "0" * 64}

    def build(*runs: dict) -> dict:
        for run in runs:
            (folder / "runs" / f"{run['run_id']}.json").write_text(json.dumps(run))
        content = make_claims(folder, runs, tmp_path / "claims.json", draws=20)
        write_claims(tmp_path / "claims.json", content)
        return next(one for one in content["questions"] if one["id"] == "deit-over-cnn")

    first, second = build(records["deit-tiny"]), build(records["deit-tiny"], theirs)
    assert first["finding"] == NOT_RUN and second["finding"] != NOT_RUN and len(second["records"]) == len(first["records"]) + 1


def test_the_table_has_every_question_in_the_files_order(answered):
    table = question_table(answered)
    judged = [one for one in answered if one["finding"] != NOT_RUN]
    not_run = [one for one in answered if one["finding"] == NOT_RUN]
    assert [row[0] for row in table.rows] == [one["sentence"] for one in (*judged, *not_run)]
    for one, row in zip(judged, table.rows, strict=False):
        (part,) = one["parts"]
        scores = [f"{value:.1f}" for by_seed in part["values"][one["metric"]].values() for value in by_seed.values()]
        assert row[1] == answer_of(one) and all(score in row[2] for score in scores)
        assert row[3].value == part["relative_difference"] and row[5].value == part["detectable"][0]["percent"]
        assert row[4].count("%") == len(part["seed_differences"])
    for row in table.rows[len(judged) :]:
        assert row[1] == "not run" and row[2]
    assert table.remarks[0].startswith("Measured on the validation split, protocol coco, beam 5; ")
    assert question_table([one | {"parts": []} for one in answered]) is None and question_table([]) is None


def test_findings_in_words_name_interval_images_and_seeds(answered):
    said = findings_in_words(answered)
    assert len(said) >= 3 and [change for *_, change in said] == [one["note"] for one in answered if is_answered(one)]
    number = r"[+−]?\d+\.\d"
    for question, answer, measured, _ in said:
        sentence = f"{question}: {answer}. {measured}"
        found = re.search(
            rf": (yes|no, the opposite)(?:, of these runs(?:, though their seeds overlap)?)?\. {number} % \S+ "
            rf"\({number} to {number}, images (only|and seeds); smallest detectable (≥ )?{number} %\), Holm's p [<0.\d ]+, n = 1,000: "
            rf"({number})(?: \((.*)\))? against ({number})(?: \((.*)\))?\.$",
            sentence,
        )
        assert found, sentence
        for mean, each in ((found[4], found[5]), (found[6], found[7])):
            values = list(map(float, each.split(", "))) if each else [float(mean)]
            assert sum(values) / len(values) == pytest.approx(float(mean), abs=0.101), sentence
        assert ("of these runs" in sentence) == (found[2] == "only")
    assert findings_in_words([one | {"finding": TOO_CLOSE} for one in answered]) == []


def test_the_page_says_first_what_it_cannot_judge(profile, answered):
    said = cannot_judge(profile, answered)
    assert said.startswith("This page cannot judge what the paper says of ConvNeXt: none of its ") and str(len(profile.finished)) in said
    page = html.unescape((ROOT / "reports/evidence/flickr8k/index.html").read_text(encoding="utf-8"))
    first = findings_in_words(answered)[0][0]
    # What nobody could judge here comes after all that could be judged.
    assert page.index(said) < page.index(first) < page.index("<table") < page.index("claims could be judged")
    assert page.index("Questions that can be judged here") < page.index("What was claimed, and what was found")
    theirs = copy.deepcopy(profile.finished[0])
    theirs["encoder"] |= {"tag": "convnext_small.fb_in1k", "source": "timm", "sha256": "0" * 64}
    own = copy.deepcopy(theirs)
    own["encoder"] |= {"tag": "convnext_femto.own"}
    with_theirs, with_own = (dataclasses.replace(profile, runs=[*profile.runs, run]) for run in (theirs, own))
    assert cannot_judge(with_theirs, answered) == "" and cannot_judge(with_own, answered) != ""
    assert (
        cannot_judge(dataclasses.replace(profile, name="demo"), answered) == cannot_judge(dataclasses.replace(profile, runs=[]), []) == ""
    )
    assert cannot_judge(profile, []).endswith("an ImageNet-trained ConvNeXt.")


def test_what_was_published_on_the_same_data_stands_beside_ours(profile):
    free, forced = same_data_tables(profile)
    cells = {row[0] if isinstance(row[0], str) else row[0].label: row for row in free.rows}
    xu = cells["Show, Attend and Tell, soft attention"]
    assert all(isinstance(cell, Published) for cell in xu[1:]) and any("1502.03044" in source for source in free.sources)
    ours = [row for row in free.rows if not isinstance(row[0], str)]
    record = next(run for run in profile.finished if run["name"] == "deit-tiny-hard")
    mine = next(row for row in ours if row[0].label == f"ours: {profile.heading(record).label}")
    assert mine[4].value == record["scores"]["test"]["coco"]["5"]["scores"]["BLEU-4"]
    at_seven = [row for row in ours if row[0].label.endswith(", beam 7, protocol free")]
    assert at_seven == ours[-len(at_seven) :] and any("beam 7" in source for source in free.sources)
    values = [row[4].value for row in ours if row not in at_seven]
    assert values == sorted(values, reverse=True) and len(values) >= 5
    wide = next(run for run in profile.finished if run["name"] == "efficientnet-lite0")
    (row,) = [row for row in at_seven if row[0].label.startswith(f"ours: {profile.heading(wide).label},")]
    assert row[4].value == wide["scores"]["test"]["free"]["7"]["scores"]["BLEU-4"] and isinstance(row[5], Missing)
    assert any(isinstance(row[2], Published) for row in forced.rows) and any(isinstance(row[2], Value) for row in forced.rows)
    assert same_data_tables(dataclasses.replace(profile, name="demo")) == []


def test_what_is_written_beside_the_published_rows_is_what_was_measured(profile):
    """comparison.txt is somebody's words; these are the numbers they rest on."""
    said = stated(profile, "comparison")
    by_id = {number.id: number for number in load_numbers()}
    theirs = {(number.model, number.quantity): number.as_scored for number in by_id.values() if number.data_set == "Flickr8k"}
    best = theirs["ResNet-50 soft attention, LSTM", "BLEU-4"]
    ours = [run["scores"]["test"]["free"]["7"] for run in profile.finished if run["name"] == "resnet50-v1"]
    assert "not met" in said and ours and all(one["intervals"]["BLEU-4"][1] < best for one in ours)

    def mean(name: str, quantity: str, split: str = "test", protocol: str = "coco", beam: str | None = "5") -> float:
        found = [run["scores"][split][protocol] for run in profile.finished if run["name"] == name]
        return statistics.fmean((one[beam] if beam else one)["scores"][quantity] for one in found)

    xu = {q: theirs["Show, Attend and Tell, soft attention", q] for q in ("BLEU-1", "BLEU-4", "METEOR")}
    for name in ("deit-tiny", "resnet50-v1", "mobilenetv2", "efficientnet-lite0"):
        assert {q: mean(name, q) >= value for q, value in xu.items()} == {"BLEU-1": False, "BLEU-4": True, "METEOR": True}, name
    each = [run["scores"]["test"]["coco"]["5"]["scores"] for run in profile.finished if run["name"] == "deit-tiny"]
    assert len(each) == 5 and [sum(one[q] < xu[q] for one in each) for q in ("BLEU-4", "METEOR")] == [1, 1]
    soft, hard = (mean(name, "BLEU-4", "val") for name in ("deit-tiny", "deit-tiny-hard"))
    vgg = {kind: theirs[f"VGG-19 {kind} attention, LSTM", "BLEU-4"] for kind in ("soft", "hard")}
    assert 100 * (hard / soft - 1) == pytest.approx(100 * (vgg["hard"] / vgg["soft"] - 1), abs=1.0)
    for name, value in (("deit-tiny", "14.5"), ("deit-tiny-transformer", "13.7")):
        assert f"{mean(name, 'BLEU-4', 'test', 'published', None):.1f}" == value and value in said
    assert (
        f"from {mean('deit-tiny', 'BLEU-4', 'val', 'free', '1'):.1f} to {mean('deit-tiny-never', 'BLEU-4', 'val', 'free', '1'):.1f}" in said
    )
    quoted = [by_id[f"third-party-{name}"].as_scored for name in ("flickr8k-forced-test-bleu4", "flickr8k-transformer-forced-test-bleu4")]
    assert all(f"{value:g}" in said for value in [*quoted, *vgg.values(), theirs["Show, Attend and Tell, hard attention", "BLEU-4"]])


def test_training_is_told_in_words(profile):
    said = training_in_words(profile)
    assert "8 epochs, 160 captions a step, learning rate 0.001" in said and "up to 120 epochs, 32 captions a step, 0.0004" in said
    changed = copy.deepcopy(profile.runs)
    next(run for run in changed if run["name"] == "deit-tiny")["config"]["epochs"] = 9
    assert "epochs, 160" not in (told := training_in_words(dataclasses.replace(profile, runs=changed))) and "160 captions a step" in told
    assert training_in_words(dataclasses.replace(profile, runs=[])) == ""


@pytest.mark.parametrize("finding, kind, better, worse, p, wanted", [
    (REPRODUCED, "images only", [40.0], [38.0], 0.001, "yes, of these runs"),
    (REPRODUCED, "images only", [40.0, 39.0], [38.0, 37.0], 0.001, "yes, of these runs"),
    (REPRODUCED, "images only", [40.0, 37.5], [38.0], 0.001, "yes, of these runs, though their seeds overlap"),
    (CONTRADICTED, "images only", [36.0, 38.5], [38.0, 40.0], 0.001, "no, the opposite, of these runs, though their seeds overlap"),
    (CONTRADICTED, "images and seeds", [36.0, 38.5], [38.0, 40.0], 0.001, "no, the opposite"),
    (REPRODUCED, "images and seeds", [40.0], [38.0], 0.05, "too close to call among so many questions (alone: yes)"),
    (TOO_CLOSE, "images only", [40.0], [38.0], 0.2, "too close to call"),
])  # fmt: skip
def test_what_an_interval_over_images_cannot_know_is_told(finding, kind, better, worse, p, wanted):
    values = {side: dict(enumerate(scores)) for side, scores in (("better", better), ("worse", worse))}
    part = {"interval_kind": kind, "values": {"CIDEr": values}, "relative_difference": 1.0, "finding": finding}
    question = {"finding": finding, "p_holm": p, "metric": "CIDEr", "parts": [part], "direction": "higher"}
    assert answer_of(question) == wanted and is_answered(question) == wanted.startswith(("yes", "no"))


def test_the_same_model_scored_both_ways(profile):
    said = scored_both_ways(profile)
    runs = [run for run in profile.finished if run["name"] == "deit-tiny"]
    scores = [
        (run["scores"]["val"]["published"]["scores"]["BLEU-4"], run["scores"]["val"]["free"]["5"]["scores"]["BLEU-4"]) for run in runs
    ]
    assert len(scores) >= 5 and all(f"{forced:.1f}" in said and f"{free:.1f}" in said for forced, free in scores)
    assert f"own words add {sum(free - forced for forced, free in scores) / len(scores):+.1f}." in said
    assert scored_both_ways(dataclasses.replace(profile, runs=[])) == ""


def test_rows_of_one_seed_stand_beside_how_far_seeds_lie_apart(profile):
    from reports.beside import Beside
    from reports.scores import experiment_tables

    several = [run for run in profile.finished if run["name"] == "deit-tiny"]
    single = [run for run in profile.finished if run["name"] == "deit-tiny-transformer"]
    values = [run["scores"]["val"]["free"]["5"]["scores"]["BLEU-4"] for run in several]

    def remarks(rows: list[dict]) -> list[str]:
        return [
            remark for remark in experiment_tables("x", rows, "5", profile.heading, Beside("flickr8k"))[0].remarks if "Seeds: " in remark
        ]

    (said,) = remarks([*several, *single])
    assert f"the {len(several)} of DeiT-tiny here have validation BLEU-4 from {min(values):.1f} to {max(values):.1f};" in said
    assert remarks(several) == remarks(single) == []


def test_a_row_of_another_seed_than_the_first_says_so(profile):
    runs = {run["config"]["seed"]: run for run in profile.finished if run["name"] == "deit-tiny"}
    for seeds, notes in (((0,), [""]), ((2,), ["seed 2"]), ((0, 2), ["seed 0", "seed 2"])):
        shown = dataclasses.replace(profile, runs=[runs[seed] for seed in seeds])
        assert [shown.heading(run).note for run in shown.runs] == notes


def test_what_the_readme_says_is_what_was_answered(answered):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = text[text.index("Over five seeds each, ") : text.index(" lies below two CNNs.")]
    by_id = {one["id"]: one for one in answered}
    numbers = {}
    for name in ("attention-over-none", "hard-over-soft"):
        (part,) = by_id[name]["parts"]
        assert is_answered(by_id[name]) and part["interval_kind"] == "images and seeds"
        numbers[name] = [round(abs(value)) for value in (part["relative_difference"], *sorted(part["interval"], key=abs))]
    attention, hard = numbers.values()
    assert f"attention is worth {attention[0]} % of CIDEr ({attention[1]} to {attention[2]})" in said
    assert f"hard attention lies {hard[0]} % of BLEU-4 below soft ({hard[1]} to {hard[2]})" in said
    fewer = {name: by_id[name]["parts"][0]["relative_difference"] for name in by_id if is_answered(by_id[name])}
    assert f"costs {round(100 - 100 / (1 + fewer['forced-over-never'] / 100))} % of CIDEr" in said
    assert round(1 + fewer["pretrained-over-random"] / 100) == 3 and "three times an untrained one's" in said
    assert fewer["deit-over-cnn"] < 0 and fewer["deit-over-mobile-cnn"] < 0
