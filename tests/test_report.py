"""The report: numbers are the records', what is missing is said, strangers' text stays text, the page stands alone and can be read by a machine."""

import copy
import csv
import gzip
import json
import re
import resource
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from benchmarks.live import print_verdicts
from benchmarks.plan import NAMES
from benchmarks.profiles import PROFILES
from captioning.attention_strip import save_strips
from captioning.bad_input import BadInput
from captioning.claims_file import pages_of, read_claims, reports_of
from captioning.published import load_claims, load_numbers
from captioning.records import list_records, write_plan, write_record
from reports import verdicts
from reports.beside import Beside, load_beside
from reports.build import build_reports, origin_of
from reports.cost import short_hardware
from reports.examples import IMAGES, attention_strips, sentence_bleu4
from reports.figures import STYLE, Point, dots, save
from reports.loss_parts import floor_of, parts_of
from reports.profile import load_profile
from reports.protocol_rules import protocols
from reports.sections import summary
from reports.tables import Column, Missing, Published, Table, Value
from tests.made_up_records import STUDY, add_failed, make_results, make_sep, make_study

ROOT = Path(__file__).resolve().parents[1]
EVIL = "<script>alert(1)</script>$\\frac{&\"'|"


class Page(HTMLParser):
    """What the tests ask of a page: its tags with their attributes in order, its text, and the ids."""

    def __init__(self, path: Path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(self.html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside.append(tag)

    def handle_data(self, data):
        if self.inside and self.inside[-1] != "style":
            self.words.append(data)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def all(self, *names):
        return [(tag, attributes) for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two profiles with evidence for one, a failed run and one not run, built once: (folder of results, of pages, the demo's records)."""
    home = tmp_path_factory.mktemp("home")
    results, out = home / "results", home / "reports"
    records = make_results(results, seeds=2, images=12)
    failed = add_failed(results, "demo", "vgg", "no weights <b>here</b>", "VGG-16")
    waiting = {"run_id": "mobilenet-0-1", "name": "mobilenet", "label": "MobileNetV3", "experiments": ["encoders"]}
    write_plan(results / "demo", [{k: run[k] for k in waiting} for run in [*records, failed]] + [waiting])
    make_results(results, "flickr8k", names=("resnet", "vit"), images=12)
    make_results(results / "evidence", "flickr8k", names=("resnet",), images=12, day=19, shift=0.7)
    build_reports(results, results / "evidence", out, evidence_only=True)
    build_reports(results, results / "evidence", out)
    return results, out, records


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Every run of the demo's experiments, with captions that claims are judged on, built once: (folder of results, of the demo's page, the page read)."""
    home = tmp_path_factory.mktemp("study")
    make_study(home / "results", images=80)
    build_reports(home / "results", home / "none", home / "reports")
    page = home / "reports/demo"
    return home / "results", page, Page(page / "index.html")


def rows_of(path: Path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_number_of_a_table_is_the_records(built):
    _, out, records = built
    rows = {row["Model"]: row for row in rows_of(out / "demo/tables/encoders-free.csv")}
    text = Page(out / "demo/index.html").text
    for record in records:
        row = rows[f"{record['label']}, seed {record['config']['seed']}"]
        for split, name in (("val", "Validation"), ("test", "Test")):
            for metric in ("BLEU-1", "BLEU-4") if split == "val" else ("BLEU-4",):
                scores = record["scores"][split]["free"]["5"]
                assert float(row[f"{name} {metric}"]) == scores["scores"][metric]
                assert [float(row[f"{name} {metric} low"]), float(row[f"{name} {metric} high"])] == scores["intervals"][metric]
                low, high = scores["intervals"][metric]
                assert f"{scores['scores'][metric]:.2f} {low:.1f} to {high:.1f}" in text
    long = rows_of(out / "demo/tables/scores.csv")
    assert len([row for row in long if row["value"]]) == len(records) * 2 * (9 + 3 * 4 + 7)
    assert all(row["signature"] and row["n_images"] for row in long)


def test_several_seeds_get_a_mean_without_an_interval(built):
    _, out, records = built
    rows = {row["Model"]: row for row in rows_of(out / "demo/tables/encoders-free.csv")}
    vit = [r["scores"]["val"]["free"]["5"]["scores"]["BLEU-4"] for r in records if r["name"] == "vit"]
    row = rows["ViT (small member), mean of 2 seeds"]
    assert float(row["Validation BLEU-4"]) == pytest.approx(np.mean(vit)) and row["Validation BLEU-4 low"] == ""


def test_systems_say_how_many_captions_ended(tmp_path):
    records = make_results(tmp_path / "results", names=("resnet", "vit"), seeds=1, images=12, experiments=("systems",))
    for record in records:
        if record["name"] == "vit":
            record["config"]["system"] = "sep"
            record["ended"] = {split: {"1": 98.0, "3": 98.5, "5": 99.5} for split in ("val", "test")}
        write_record(tmp_path / "results/demo/runs", record)
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    rows = rows_of(tmp_path / "reports/demo/tables/systems-free.csv")
    assert sorted(row["Ended by themselves, validation, %"] for row in rows) == ["", "99.5"]


def test_a_row_of_another_beam_says_so_and_one_that_knows_the_test_images_is_marked(tmp_path):
    """The published `prefix` system: one drawn caption scored, trained on all images. Another row was decoded at beam 3 at most."""
    records = make_results(
        tmp_path / "results", names=("resnet", "vit", "convnext"), seeds=2, images=12, experiments=("systems_ablations",)
    )
    for record in records:
        kept = {"vit": "1", "convnext": "3"}.get(record["name"])
        for scores in record["scores"].values() if kept else ():
            scores["free"] = {beam: found for beam, found in scores["free"].items() if beam <= kept}
            scores["coco"] = {kept: scores["coco"]["5"]}
        if record["name"] == "vit":
            record["config"] |= {"sampled": True, "train_on": "all"}
        write_record(tmp_path / "results/demo/runs", record)
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    folder = tmp_path / "reports/demo/tables"
    page = Page(tmp_path / "reports/demo/index.html").text
    notes = {
        "ResNet": ("", "5", ""),
        "ViT": ("of one drawn caption", "1", "; trained on the test images too"),
        "ConvNeXt": ("at beam 3", "3", ""),
    }
    for protocol, metric in (("free", "BLEU-4"), ("coco", "CIDEr")):
        rows = {row["Model"]: row for row in rows_of(folder / f"systems_ablations-{protocol}.csv")}
        markdown = (folder / f"systems_ablations-{protocol}.md").read_text()
        for record in records:
            note, beam, mark = notes[record["label"].split(" ")[0]]
            row = rows[f"{record['label']}, seed {record['config']['seed']}{mark}"]
            value = record["scores"]["val"][protocol][beam]["scores"][metric]
            assert float(row[f"Validation {metric}"]) == value and row[f"Validation {metric} note"] == note
            shown = f"{value:.2f} {note}".rstrip()
            assert f"{shown} (" in markdown and f"{shown} {value * 0.96:.1f}" in page
            mean = rows[f"{record['label']}, mean of 2 seeds{mark}"]
            assert float(mean[f"Validation {metric}"]) == pytest.approx(value + 0.5 - record["config"]["seed"])
            assert mean[f"Validation {metric} note"] == note and row["missing"] == ("" if protocol == "free" else row["missing"])
    assert "ViT (small member)" in page and "mean of 2 seeds; trained on the test images too" in page


def test_a_missing_metric_is_a_reason_and_never_a_zero(built):
    _, out, _ = built
    for row in rows_of(out / "demo/tables/encoders-coco.csv"):
        assert row["Validation SPICE"] == "" and ("CoreNLP" in row["missing"] or "no weights" in row["missing"])
    page = Page(out / "demo/index.html")
    assert "Not available: CoreNLP's models are not on this machine" in page.text
    assert (
        "n/a a)" in (out / "demo/tables/encoders-coco.md").read_text() and r"n/a a)" in (out / "demo/tables/encoders-coco.tex").read_text()
    )


def test_failed_runs_and_runs_not_run_are_said_with_the_reason(built):
    _, out, _ = built
    text = Page(out / "demo/index.html").text
    assert "6 finished, 1 failed, 1 not run" in text
    assert "VGG-16 failed: no weights <b>here</b>" in text and "MobileNetV3 was not run yet." in text


def test_the_protocols_are_one_models_scores(built):
    _, out, records = built
    text = Page(out / "demo/index.html").text
    first = {r["name"]: r for r in reversed(records)}  # one seed of each model
    best = max(first.values(), key=lambda r: r["scores"]["val"]["free"]["5"]["scores"]["BLEU-4"])["scores"]["val"]
    assert f"moves by {best['free']['5']['scores']['BLEU-4'] - best['published']['scores']['BLEU-4']:.1f} BLEU-4 points" in text
    rows = rows_of(out / "demo/tables/protocols.csv")
    wanted = [best["published"], *(best["free"][beam] for beam in "135"), best["coco"]["5"]]
    assert [float(row["Validation BLEU-4"]) for row in rows] == [scores["scores"]["BLEU-4"] for scores in wanted]
    assert [row["Signature"] for row in rows] == [scores["signature"] for scores in wanted]


def test_the_sections_stand_in_their_order(study):
    _, _, page = study
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["asked", "protocols", "tables", "curves", "attention", "cost", "losses", "errors", "captions", "provenance"]
    first_table = next(attributes["id"] for tag, attributes in page.tags if tag == "caption")
    assert first_table == "table-verdicts"


def test_the_verdict_table_has_a_row_for_each_claim_and_its_numbers(study):
    _, folder, page = study
    claims = read_claims(folder / "claims.json")["claims"]
    rows = {row["Claim"].partition(", judged on")[0]: row for row in rows_of(folder / "tables/verdicts.csv")}
    assert list(rows) == [claim.sentence for claim in load_claims()] == [claim["sentence"] for claim in claims]
    for claim in claims:
        row, part = rows[claim["sentence"]], verdicts.deciding_part(claim)
        if claim["published_value"] is not None:  # of coco alone
            assert row["Finding"] == claim["finding"] == "not run" and float(row["Published"]) == claim["published_value"]
            assert row["Measured"] == row["p, Holm"] == "" and "absolute score" in row["missing"]
            continue
        assert row["Finding"] == claim["finding"] != "not run" and row["Scale"] == "not the paper's scale"
        assert float(row["Measured"]) == part["relative_difference"] and float(row["p, Holm"]) == claim["p_holm"]
        assert [float(row[f"Measured {end}"]) for end in ("low", "high")] == part["interval"]
        assert (row["Images"], row["Seeds"]) == ("40", "1") and row["Interval over"].startswith(part["interval_kind"])
        assert row["Published"] == str(claim["published_difference"] or "no size") and row["Published mark"] == claim["mark"]
        assert claim["source"] in row["Published source"] and claim["rule"] in page.text and claim["command"] in page.text
        assert ("penalty" in row["Beside it"]) == (claim["metric"] == "cross-entropy") == (", judged on" in row["Claim"])
        for run in claim["runs"]:
            assert f"#record-{run}" in page.html


def test_the_lead_counts_what_held(study):
    _, folder, page = study
    claims = read_claims(folder / "claims.json")["claims"]
    counts = verdicts.counts_of(claims)
    assert sum(counts.values()) == len(claims) and len(counts) > 2
    for finding, count in counts.items():
        assert re.search(rf"\b{count} (were |was )?{verdicts.IN_WORDS[finding]}", page.text)
    tested = [claim["p_holm"] for claim in claims if claim["p_holm"] is not None]
    sure = sum(p < 0.05 for p in tested)
    assert len(tested) == len(claims) - 1
    assert f"How sure: {sure} of {len(tested)} measured differences" in page.text and "None of this is at the paper's scale" in page.text
    entry = Page(folder.parent / "index.html").text
    assert " · ".join(f"{count} {finding}" for finding, count in counts.items()) in entry


def test_what_could_be_seen_stands_beside_the_vit_and_deit_margins(study):
    _, folder, page = study
    rows = {row["Claim"]: row for row in rows_of(folder / "tables/detectable.csv")}
    for claim in read_claims(folder / "claims.json")["claims"]:
        if claim["id"] in ("bleu4-vit", "bleu4-deit"):
            least = claim["parts"][0]["detectable"][0]
            row = rows[claim["sentence"]]
            assert float(row["Smallest difference found 4 times in 5 40 images, 1 seed"]) == least["percent"]
            assert least["percent"] > claim["published_difference"]
            assert f"must be at least {least['percent']:.1f} % to be found" in page.text and f"≥ {least['percent']:.1f} %" in page.text


@pytest.mark.parametrize(
    ("wrong", "finding"), [(0.42, "reproduced"), (0.75, "below the published value"), (0.0, "above the published value")]
)
def test_a_claimed_value_stands_beside_the_measured_one(tmp_path, capsys, wrong, finding):
    """No percent, no p, and nothing beside the value but its interval."""
    (record,) = make_sep(tmp_path / "results", wrong)
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    folder = tmp_path / "reports/coco"
    claim = next(claim for claim in read_claims(folder / "claims.json")["claims"] if claim["id"] == "sep-bleu1")
    (part,) = claim["parts"]
    (row,) = [row for row in rows_of(folder / "tables/verdicts.csv") if row["Claim"] == claim["sentence"]]
    assert (row["Finding"], row["Scale"], row["p, Holm"], row["Images"], row["Seeds"]) == (
        finding,
        "not its source's data",
        "no test",
        "40",
        "1",
    )
    assert float(row["Published"]) == 66 and "0.66 (fraction, 0 to 1), on mini-COCO" in row["Published source"]
    assert [float(row["Measured"]), float(row["Measured low"]), float(row["Measured high"])] == [part["value"], *part["interval"]]
    page = Page(folder / "index.html")
    low, high = part["interval"]
    assert (
        f"sep : {part['value']:.1f} BLEU-1 ({low:.1f} to {high:.1f}, images only); published 66: {finding}. Each seed: seed 0" in page.text
    )
    assert f"sep: {record['scores']['test']['free']['5']['scores']['BLEU-1']:.1f} BLEU-1" in page.text
    assert (
        f"claims, 1 was {finding}" in page.text.replace(f"{len(load_claims()) - 1} were not run and ", "") and "How sure" not in page.text
    )
    assert "None of this is at the paper's scale" in page.text
    print_verdicts(folder / "claims.json")
    line = " ".join(capsys.readouterr().out.split())
    assert "│ BLEU-1 66 │" in line and f"{part['value']:.1f} ({low:.1f} to {high:.1f})" in line


def test_the_claimed_value_stands_in_the_systems_tables_of_every_profile(study):
    _, folder, _ = study
    rows = {row["Model"]: row for row in rows_of(folder / "tables/systems-free.csv")}
    row = rows[STUDY["systems"]["sep"][0]]
    assert float(row["Validation BLEU-1, published, mini-COCO"]) == 66 and "written 0.66 (fraction, 0 to 1)" in " ".join(row.values())
    assert rows[STUDY["systems"]["t5"][0]]["Validation BLEU-1, published, mini-COCO"] == ""


def test_all_five_systems_stand_on_one_image_and_each_strip_says_what_drew_it(study):
    _, _, page = study
    pictures = page.html.split('<div class="picture">')[1:]
    assert len(pictures) == IMAGES
    for picture in pictures:
        strips = re.findall(r'<h4>(.*?)</h4>\s*<p class="small quiet">(.*?)</p>(.*?)</ol>', picture, flags=re.DOTALL)
        gradient, attention = "gradient times input, 14×14", "attention, 8×8"
        assert [(label, method) for label, method, _ in strips] == [
            ("ConvNeXt, soft attention", attention), ("ConvNeXt, hard attention", attention), (STUDY["systems"]["t5"][0], gradient),
            (STUDY["systems"]["prefix"][0], gradient), (STUDY["systems"]["sep"][0], attention), (STUDY["systems"]["transformer"][0], attention),
        ]  # fmt: skip
        for _, method, words in strips:
            assert len(re.findall(rf'alt="{method.partition(",")[0]} at “\w+”: strongest ', words)) == words.count("<li>") > 3
    assert "gradient times input stands in for attention" in page.text


def test_a_mean_region_and_a_kind_that_is_not_known(tmp_path):
    """Even maps are called so; strips of a kind that this version does not draw are named as a problem."""
    photo, maps = np.zeros((16, 16, 3), dtype=np.uint8), np.full((2, 4, 4), 1 / 16)
    records = []
    for kind in ("even", "sound"):
        path = tmp_path / f"demo/attention/{kind}-0.npz"
        save_strips(path, [photo], [maps], [{"id": "i", "words": ["a", "dog"], "references": ["a dog"], "kind": kind}])
        records.append({"run_id": f"{kind}-0", "files": {"attention": {"path": f"attention/{kind}-0.npz"}}})
    names = {record["run_id"]: record["run_id"] for record in records}
    (image,), written, (problem,) = attention_strips(tmp_path / "demo", records, names, tmp_path / "figures")
    (strip,) = image["strips"]
    assert strip["method"] == "every word sees the mean region, 4×4" and strip["words"][1]["alt"] == "at “dog”: every region alike"
    assert len(written) == 1 and "sound-0.npz: of kind 'sound'" in problem


def test_gradients_in_the_pointing_table_are_marked_and_say_their_images(study):
    _, folder, page = study
    for captions in ("forced", "free"):
        rows = {row["Model"]: row for row in rows_of(folder / f"tables/pointing-{captions}.csv")}
        for name, (label, _) in STUDY["systems"].items():
            # A run that several experiments share has the name that it has in the first of them.
            row = rows[label if name != "convnext" else STUDY["encoders"]["convnext"][0]]
            by_gradients = name in ("t5", "prefix")
            assert row["Maps are"] == ("gradient times input" if by_gradients else "attention")
            assert row["Validation Images"] == row["Test Images"] == ("20" if by_gradients else "40")
    assert "played on the first 50 images of a split" in page.text


def test_a_vocabulary_of_subwords_is_tokens(tmp_path):
    one, two = make_results(tmp_path / "results", "flickr8k", ("convnext", "sep"), images=6, photos=False)
    two["language_model"] = {"architecture": "gpt2", "name": "distilgpt2", "identity": {"language_model": "a" * 64, "tokenizer": "b" * 64}}
    two["data"]["vocabulary"] = 50257
    write_record(tmp_path / "results/flickr8k/runs", two)
    assert summary(load_profile(tmp_path / "results/flickr8k"))["facts"]["Vocabulary"] == "50,257 tokens / 90 words"
    two["language_model"]["identity"] = {}  # a random one with the captions' own words
    write_record(tmp_path / "results/flickr8k/runs", two)
    assert summary(load_profile(tmp_path / "results/flickr8k"))["facts"]["Vocabulary"] == "50,257 words / 90 words"


def test_a_curve_of_subwords_has_no_top5(tmp_path):
    (record,) = make_results(tmp_path / "results", "flickr8k", ("sep",), images=6, photos=False)
    path = tmp_path / "results/flickr8k/runs" / record["training"]["curve"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["val_top5"], line["train_top5"], line["val_bleu4_published"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    quantities = {row["quantity"] for row in rows_of(tmp_path / "reports/flickr8k/tables/curves.csv")}
    assert "val_bleu4_free" in quantities and not {"val_top5", "train_top5"} & quantities


def test_the_deciding_pair_is_the_one_that_agrees_least():
    parts = [{"finding": "reproduced", "relative_difference": -9.0}, {"finding": "too close to call", "relative_difference": -1.0}]
    claim = {"direction": "lower", "finding": "too close to call", "parts": parts}
    assert verdicts.deciding_part(claim) is parts[1]
    assert verdicts.deciding_part(claim | {"finding": "reproduced"}) is parts[0]
    assert verdicts.deciding_part(claim | {"parts": []}) is None


def test_findings_whose_inputs_are_unchanged_are_kept_and_changed_ones_are_not(tmp_path, monkeypatch):
    records = make_study(tmp_path / "results", images=60, photos=False)
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "out")
    page = tmp_path / "out/demo"
    before = {path: path.read_bytes() for path in page.rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr("reports.figures._draw", None)  # a figure drawn again, or captions scored again, would raise
        patch.setattr("captioning.findings.judge", None)
        build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "out")
    assert before == {path: path.read_bytes() for path in page.rglob("*.*")}
    record = copy.deepcopy(next(record for record in records if record["name"] == "deit"))
    record["scores"]["val"]["free"]["5"]["scores"]["BLEU-4"] += 1
    (tmp_path / "results/demo/runs" / f"{record['run_id']}.json").write_text(json.dumps(record))
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "out")
    assert before[page / "figures/encoders-bleu4.svg"] != (page / "figures/encoders-bleu4.svg").read_bytes()
    assert before[page / "figures/attention-bleu4.svg"] == (page / "figures/attention-bleu4.svg").read_bytes()
    assert before[page / "claims.json"] != (page / "claims.json").read_bytes()


def test_published_numbers_stand_beside_the_measured_ones(study):
    results, folder, page = study
    numbers = {number.id: number for number in load_numbers()}
    rows = {row["Model"]: row for row in rows_of(folder / "tables/encoders-free.csv")}
    records = {record["name"]: record for record in list_records(results / "demo/runs")[0]}
    for run, number in {"convnext": "paper-best-free-bleu4", "deit": "baseline-deit-bleu4", "vgg16": "xu-soft-coco-bleu4"}.items():
        row = rows[STUDY["encoders"][run][0]]
        assert float(row["Validation BLEU-4"]) == records[run]["scores"]["val"]["free"]["5"]["scores"]["BLEU-4"]
        assert float(row["Validation BLEU-4, published, COCO"]) == numbers[number].value
        assert row["Validation BLEU-4, published, COCO mark"] == numbers[number].mark
        assert numbers[number].source in row["Validation BLEU-4, published, COCO source"] and numbers[number].source in page.text
    assert rows[STUDY["encoders"]["resnet101"][0]]["Validation BLEU-4, published, COCO"] == ""
    losses = {row["Model"]: row for row in rows_of(folder / "tables/encoders-losses.csv")}
    row = losses[STUDY["encoders"]["resnet152"][0]]
    assert float(row["Validation Top-5, %, published, COCO"]) == numbers["baseline-resnet152-top5"].value
    assert row["Pretraining"] == "single drawn objects" and float(row["Single objects right, %"]) == pytest.approx(96)
    assert row["Parameters, encoder"] == "480000"


def test_every_entry_of_beside_is_a_known_run_and_number():
    known = {condition.run for claim in load_claims() for condition in (*claim.better, *claim.worse)}
    for profile in PROFILES.values():
        for name in NAMES:
            experiment = __import__(f"benchmarks.experiments.{name}", fromlist=["runs"])
            known |= {config.name for _, config in experiment.runs(profile)}
    content = load_beside()
    assert content.keys() <= known, content.keys() - known
    shown = {number.id for entries in content.values() for numbers in entries.values() for number in numbers}
    assert {number.id for claim in load_claims() for number in (claim.better_number, claim.worse_number) if number} <= shown


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"BLEU-4 at free": ["no-such-number"]}, "'no-such-number' is no published number"),
        ({"BLEU-3 at free": ["paper-best-free-bleu4"]}, "is BLEU-4 at free"),
        ({"BLEU-4 at published": ["paper-best-free-bleu4"]}, "is BLEU-4 at free"),
    ],
)
def test_a_wrong_entry_of_beside_is_named(tmp_path, entry, message):
    (tmp_path / "beside.json").write_text(json.dumps({"schema": 1, "beside": {"convnext": entry}}))
    with pytest.raises(ValueError, match=f"beside.json, convnext, .*{message}"):
        load_beside(tmp_path / "beside.json")


def test_a_published_column_is_headed_by_its_data_set_where_that_is_not_the_profiles():
    on = {profile: Beside(profile).data_sets_of(["vgg16", "convnext"], "BLEU-4", "free", "val") for profile in ("demo", "flickr8k", "coco")}
    assert on == {"demo": ["COCO"], "flickr8k": ["Flickr8k", "COCO"], "coco": ["COCO"]}
    assert [Beside("flickr8k").heading(name) for name in on["flickr8k"]] == ["published", "published, COCO"]
    assert Beside("coco").cell("vgg16", "BLEU-4", "free", "test", "COCO") == ""


def test_strangers_published_text_stays_text():
    table = Table("t", "T", [Column("Model", numeric=False), Column("Value")], [["a", Published(1.5, "1.5", "derived", EVIL)]])
    from reports.build import _environment

    html = _environment().from_string('{% from "macros.html.j2" import show_table %}{{ show_table(table) }}').render(table=table)
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "<script" not in table.as_markdown() and "1.5 D\\[1\\]" in table.as_markdown() and "1.5 D[1]" in table.as_latex()


def test_every_table_has_its_files_and_every_figure(study):
    _, folder, page = study
    tables = [attributes["id"].removeprefix("table-") for tag, attributes in page.tags if tag == "caption"]
    assert len(tables) == len(set(tables)) > 25
    for slug in tables:
        for ending in ("csv", "md", "tex"):
            assert (folder / f"tables/{slug}.{ending}").stat().st_size > 50
        tex = (folder / f"tables/{slug}.tex").read_text()
        assert tex.count("\\toprule") == tex.count("\\bottomrule") == 1
    figures = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert figures == {path.stem for path in (folder / "figures").glob("*.png") if "attention-convnext" not in path.stem} - {
        path.stem for path in (folder / "figures").glob("attention-*-0-*.png")
    }
    assert {"protocols", "cost", "loss-parts", "encoders-bleu4", "learning_rates-curve-cross-entropy"} <= figures


def test_rules_of_a_protocols_file_stand_beside_the_records(study, tmp_path):
    results, folder, _ = study
    rows = {row["Rule"]: row for row in rows_of(folder / "tables/protocols.csv")}
    assert list(rows) == [
        "published: teacher-forced", "free: greedy", "free: beam 3", "free: beam 5", "coco: beam 5", "<end> dropped", "<unk> matches nothing",
    ]  # fmt: skip
    forced = float(rows["published: teacher-forced"]["Validation BLEU-4"])
    assert float(rows["<end> dropped"]["Validation BLEU-4"]) == pytest.approx(forced - 1.4)
    profile = load_profile(results / "demo")
    path = next((results / "demo/protocols").iterdir())
    text = path.read_text()
    for change in (text[:200], text.replace('"schema": 1', '"schema": 2'), text.replace('"scores"', '"values"')):
        path.write_text(change)
        content, problems = protocols(profile, profile.finished)
        assert content["n"] == 5 and len(problems) == 1 and path.name in problems[0]
    path.write_text(text)
    assert protocols(profile, profile.finished)[0]["n"] == 7


def test_the_loss_is_taken_apart(study):
    results, folder, page = study
    records = {record["name"]: record for record in list_records(results / "demo/runs")[0]}
    rows = rows_of(folder / "tables/loss-parts.csv")
    assert [row["Regions"] for row in rows] == ["16", "64"]
    for name, row in zip(("convnext-grid4", "convnext"), rows, strict=True):
        scores = records[name]["scores"]["val"]["published"]["scores"]
        path, regions = results / "demo" / records[name]["files"]["references"]["path"], int(row["Regions"])
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = [line for line in map(json.loads, file) if line.get("split") == "val"]
        counts = [len(caption.split()) + 1 for line in lines for caption in line["tokens"]]
        assert float(row["Words a caption"]) == pytest.approx(sum(counts) / len(counts))
        floor = sum((1 - count / regions) ** 2 for count in counts) / len(counts)
        assert float(row["Validation Its floor"]) == pytest.approx(floor)
        assert float(row["Validation Penalty above its floor"]) == pytest.approx(scores["penalty"] - floor)
        assert float(row["Validation Loss"]) == pytest.approx(scores["cross-entropy"] + scores["penalty"])
    printed, measured = rows_of(folder / "tables/loss-arithmetic.csv")
    numbers = {number.id: number.value for number in load_numbers()}
    assert float(printed["The grid's share, %"]) == pytest.approx(100 * numbers["penalty-grid-effect"] / numbers["paper-loss-reduction"])
    by_grid = float(rows[1]["Validation Its floor"]) - float(rows[0]["Validation Its floor"])
    assert float(measured["Lower by the grid alone"]) == pytest.approx(by_grid)
    assert "sum" in printed["missing"]


def test_the_floor_is_the_published_ones():
    numbers = {number.id: number.value for number in load_numbers()}
    for side in (7, 14):
        assert floor_of([numbers["penalty-words"]], side**2) == pytest.approx(numbers[f"penalty-floor-{side}x{side}"], abs=5e-4)
    assert parts_of({"scores": {}, "encoder": {"grid": [7, 7]}}, ROOT) is None


def test_even_attention_reaches_the_floor():
    """As a run without attention learnt it on photographs; all others lie above."""
    folder = ROOT / "results/evidence/flickr8k"
    parts = {run["run_id"]: (run, parts_of(run, folder)) for run in list_records(folder / "runs")[0]}
    above = {name: found["above"] for name, (run, found) in parts.items() if found}
    even = [name for name in above if parts[name][0]["config"]["attention"] == "none"]
    assert even and all(abs(above[name]) < 1e-6 for name in even)
    assert len(above) > 5 and all(value > 1e-4 for name, value in above.items() if name not in even)


def test_a_system_without_an_attention_penalty_has_none_in_the_tables(study):
    """Its record has the penalty's sum, which is 0, and 0 would lie below the floor."""
    results, folder, _ = study
    rows = {row["Model"]: row for row in rows_of(folder / "tables/systems-losses.csv")}
    for name, (label, _) in STUDY["systems"].items():
        assert (rows[label]["Validation Penalty"] == rows[label]["Validation Loss"] == "") == (name != "convnext")
        assert float(rows[label]["Validation Cross-entropy, nats/word"]) > 0
    assert "learns without an attention penalty" in rows[STUDY["systems"]["sep"][0]]["missing"]
    records = {record["name"]: record for record in list_records(results / "demo/runs")[0]}
    home = results / "demo"
    assert parts_of(records["convnext"], home) and parts_of(records["transformer"], home) is None


def test_quality_stands_against_cost(study):
    results, folder, page = study
    records = {record["label"]: record for record in list_records(results / "demo/runs")[0]}
    rows = rows_of(folder / "tables/cost.csv")
    assert [row["No. in figure"] for row in rows] == [str(k) for k in range(1, len(records) + 1)]
    for row in rows:
        cost = records[row["Model"]]["cost"]
        assert (
            float(row["Training, minutes"]) == pytest.approx(cost["train_seconds"] / 60)
            and float(row["Images/s"]) == cost["images_per_second"]
        )
    assert "All on Made Up 2.50GHz, 1 thread." in page.text


@pytest.mark.parametrize(
    ("device", "threads", "short"),
    [
        ("cpu: Intel(R) Xeon(R) Processor @ 2.50GHz", 1, "Xeon 2.50GHz, 1 thread"),
        ("cpu: AMD EPYC", 2, "AMD EPYC, 2 threads"),
        ("NVIDIA H200", 4, "H200"),
        (None, None, "not in the record"),
    ],
)
def test_hardware_is_named_briefly(device, threads, short):
    assert short_hardware({"device": device, "threads": threads}) == short


def test_a_failed_figure_is_never_taken_for_a_drawn_one(tmp_path):
    from functools import partial

    drawing = partial(dots, "T", "unit", ["a"], {"Validation": [[Point(1.0, 0.5, 1.5)]]})
    page, (png, svg) = save(drawing, tmp_path, "x")
    whole = svg.read_bytes()
    png.unlink()
    assert save(drawing, tmp_path, "x")[0] == page and png.exists()
    svg.write_bytes(whole[: len(whole) // 2])
    assert save(drawing, tmp_path, "x")[0] == page and svg.read_bytes() == whole
    assert save(partial(dots, "T", "unit", ["a"], {"Validation": [[Point(2.0)]]}), tmp_path, "x")[0] != page


def test_a_page_stands_alone_and_is_small(built, study):
    _, out, _ = built
    for path in [*out.rglob("index.html"), *study[1].parent.rglob("index.html")]:
        page = Page(path)
        assert path.stat().st_size < 10e6
        assert not page.all("script", "link", "iframe", "object", "embed")
        for _, attributes in page.all("img"):
            assert attributes["src"].startswith("data:image/jpeg;base64,")
        for _, attributes in page.tags:
            assert not attributes.get("href", "").startswith(("http:", "https:", "//")) and not any(
                name.startswith("on") for name in attributes
            )
        style = page.html[page.html.index("<style>") : page.html.index("</style>")]
        assert "url(" not in style and "@import" not in style
        assert set(re.findall(r"url\((.)", page.html)) <= {"#"}


def test_a_page_can_be_read_by_a_screen_reader(built, study):
    _, out, _ = built
    for path in [*out.rglob("index.html"), *study[1].parent.rglob("index.html")]:
        page = Page(path)
        levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
        assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
        assert len(page.all("table")) == len(page.all("caption"))
        assert all(attributes.get("scope") in ("row", "col", "colgroup") for _, attributes in page.all("th"))
        assert all(attributes.get("alt") for _, attributes in page.all("img"))
        assert all(attributes.get("aria-label") for _, attributes in page.tags if attributes.get("role") == "img")
        assert page.all("html")[0][1]["lang"] == "en" and len(page.all("main")) == 1
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        within = [a[name][1:] for _, a in page.tags for name in ("href", "xlink:href") if a.get(name, "").startswith("#")]
        assert within or path.parent in (out, study[1].parent)
        assert set(within) <= set(ids)
        for _, attributes in page.all("a"):
            if not attributes["href"].startswith("#"):
                assert (path.parent / attributes["href"]).exists(), attributes["href"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(scheme):
    css = (ROOT / "reports/templates/style.css").read_text()
    roots = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", roots[scheme == "dark"]))
    for ground in ("page", "panel"):
        assert all(contrast(colors[ink], colors[ground]) >= 4.5 for ink in ("ink", "quiet", "accent", "warn"))
    cycle = re.findall(r"'([0-9A-F]{6})'", STYLE.read_text())
    assert len(cycle) == 7 and all(contrast("#" + color, colors["page"]) >= 3 for color in cycle)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two #rrggbb colours."""

    def luminance(color: str) -> float:
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_strangers_text_stays_text(tmp_path):
    make_results(tmp_path / "results", names=("convnext", "resnet"), images=12, evil=EVIL, experiments=("../../encoders" + EVIL,))
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    page = Page(tmp_path / "reports/demo/index.html")
    assert not page.all("script") and EVIL in page.text
    assert not Page(tmp_path / "reports/index.html").all("script")
    for svg in (tmp_path / "reports/demo/figures").glob("*.svg"):
        assert "<script" not in svg.read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"results", "reports"}
    assert "<script" not in (tmp_path / "reports/demo/tables/protocols.md").read_text()


def test_a_half_written_record_is_named_and_not_counted(tmp_path):
    records = make_results(tmp_path / "results", names=("convnext", "resnet", "vit"), images=6, photos=False)
    runs = tmp_path / "results/demo/runs"
    broken = runs / f"{records[1]['run_id']}.json"
    broken.write_bytes(broken.read_bytes()[:900])
    (tmp_path / "results/demo" / records[2]["files"]["captions"]["path"]).write_bytes(b"not what was scored")
    (runs / records[0]["training"]["curve"]).write_text('{"epoch": 1, "val_bleu')
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    text = Page(tmp_path / "reports/demo/index.html").text
    assert "2 finished" in text and "half written" in text
    assert f"{records[2]['run_id']}: its captions file" in text and "sha256 differs" in text
    assert f"{records[0]['run_id']}: its curve" in text


def test_a_file_outside_the_profile_is_not_read(tmp_path):
    record = make_results(tmp_path / "results", names=("convnext",), images=6)[0]
    record["files"]["attention"]["path"] = "../../secret.npz"
    (tmp_path / "results/demo/runs" / f"{record['run_id']}.json").write_text(json.dumps(record))
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    assert "lies outside demo/; not read" in Page(tmp_path / "reports/demo/index.html").text


def test_committed_pages_hold_no_photos_but_drawn_scenes(built):
    results, out, _ = built
    assert list((results / "evidence/flickr8k/attention").iterdir())
    page = Page(out / "evidence/flickr8k/index.html")
    assert not page.all("img") and "may not be passed on" in page.text
    assert Page(out / "demo/index.html").all("img")
    assert "See to its licence" in Page(out / "flickr8k/index.html").text


def test_the_readers_scores_stand_beside_the_committed_ones(built):
    _, out, _ = built
    rows = rows_of(out / "flickr8k/tables/yours-and-evidence.csv")
    assert {row["Model"] for row in rows} == {"ResNet (small member)"} and len(rows) == 3
    assert all(float(row["Difference"]) == pytest.approx(-0.7) for row in rows)
    assert not (out / "demo/tables/yours-and-evidence.csv").exists()


def test_the_entry_leads_with_the_strongest_evidence_and_ends_with_the_demo(built):
    _, out, _ = built
    links = [attributes["href"] for _, attributes in Page(out / "index.html").all("a") if not attributes["href"].startswith("#")]
    assert links == ["evidence/flickr8k/index.html", "flickr8k/index.html", "demo/index.html"]


def test_equal_results_give_equal_bytes(built):
    results, out, _ = built
    again = out.with_name("again")  # as far from the results: a page links them
    build_reports(results, results / "evidence", again)
    for path in sorted(out.rglob("*.*")):
        if "evidence" not in path.relative_to(out).parts and path != out / "index.html":
            assert path.read_bytes() == (again / path.relative_to(out)).read_bytes(), path


def test_making_evidence_builds_the_committed_page_and_keeps_the_readers_in_the_entry(built):
    results, out, _ = built
    made = out.with_name("made")
    build_reports(results / "evidence", results / "evidence", made)
    page = "evidence/flickr8k/index.html"
    assert [str(path.relative_to(made)) for path in made.rglob("index.html")] == ["index.html", page]
    assert (made / page).read_bytes() == (out / page).read_bytes()
    assert "demo · your own runs" in Page(made / "index.html").text


def test_a_page_says_where_its_records_lie_and_how_it_is_built_again(built, tmp_path):
    """A reader's other folder is not results/demo/ of the checkout, and the command for that would build another page."""
    results, out, _ = built
    for page, home, option in (("demo", results / "demo", "--results"), ("evidence/flickr8k", results / "evidence/flickr8k", "--evidence")):
        read = Page(out / page / "index.html")
        (link,) = [a["href"] for _, a in read.all("a") if a["href"].startswith("../") and not a["href"].endswith("index.html")]
        assert (out / page / link).resolve() == home.resolve()
        assert f"python reports/build.py {option} DIR --out DIR" in read.text and str(out) not in read.html
    own = origin_of(ROOT / "results/demo", ROOT / "reports/demo", False)
    assert own == {"href": "../../results/demo/", "text": "results/demo/", "command": "python reports/build.py"}
    committed = origin_of(ROOT / "results/evidence/coco", ROOT / "reports/evidence/coco", True)
    assert committed["text"] == "results/evidence/coco/" and committed["command"] == "python reports/build.py --evidence-only"


def test_the_entry_of_another_folder_leads_to_the_evidence_where_that_is_kept(tmp_path):
    make_results(tmp_path / "results", names=("convnext",), images=6, photos=False)
    build_reports(tmp_path / "results", ROOT / "results/evidence", tmp_path / "reports")
    links = [
        attributes["href"] for _, attributes in Page(tmp_path / "reports/index.html").all("a") if not attributes["href"].startswith("#")
    ]
    assert (tmp_path / "reports" / links[0]).resolve() == ROOT / "reports/evidence/flickr8k/index.html" and links[-1] == "demo/index.html"


@pytest.mark.parametrize(
    ("results", "reports"),
    [
        (ROOT / "results", ROOT / "reports"),
        (ROOT / "results/evidence", ROOT / "reports"),
        (Path("/somewhere/results"), Path("/somewhere/reports")),
        (Path("/somewhere/results-2"), Path("/somewhere/reports-2")),
        (ROOT / "results/other", ROOT / "results/other-reports"),
    ],
)
def test_pages_of_another_folder_overwrite_nobodys(results, reports):
    assert reports_of(results) == reports
    assert pages_of(results, ROOT / "results/evidence", reports) == (reports / "evidence" if results.name == "evidence" else reports)


@pytest.fixture(scope="module")
def latex(study, tmp_path_factory):
    """The study's tables, the committed ones, and one of whatever a stranger may write."""
    folder = tmp_path_factory.mktemp("latex")
    ranges = (range(33, 127), range(0xA0, 0x180), range(0x2010, 0x2027), (7, 0x2212, 0x2264, 0x2265, 0x4E2D, 0x1F600))
    rest = "".join(chr(number) for numbers in ranges for number in numbers)
    cells = [f"[{rest}]", "*", Missing(rest), Published(1.0, "−1", "derived", rest), Value(1.0, "≥ 1", -1, 2), "--weights ---", ""]
    Table("strange", rest, [Column(rest, rest, False)], [[cell] for cell in cells], [rest]).write(folder)
    return [*study[1].glob("tables/*.tex"), *(ROOT / "reports/evidence").glob("*/tables/*.tex"), folder / "strange.tex"]


# Commands that stand in a table and that plain LaTeX has in its first encoding, OT1.
COMMANDS = (
    "begin end caption centering small toprule midrule bottomrule par footnotesize multicolumn textbackslash textasciitilde textasciicircum textless "
    "textgreater textbar textbullet textregistered texttrademark pm times cdot div geq leq neq approx infty rightarrow leftarrow surd circ mu sigma alpha "
    "beta Delta frac ldots copyright ss ae AE oe OE aa AA o O l L i S u H r v c"
)


def test_a_latex_table_is_ascii_of_known_commands(latex):
    assert len(latex) > 40
    for path in latex:
        text = path.read_text(encoding="utf-8")
        assert text.isascii() and text.replace("\n", "").isprintable(), path
        assert set(re.findall(r"\\([A-Za-z]+)", text.replace("\\\\", ""))) <= set(COMMANDS.split()), path
        bare = re.sub(r"\\[^A-Za-z]", "", text)  # without what is escaped
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0 and not set("#%~") & set(bare), path
        assert not re.search(r"\\\\\s*[\[*]", text), path  # taken for the line end's own
    strange = latex[-1].read_text()
    assert "$\\geq$ 1 ($-$1.0 to 2.0)" in strange and "-{}-weights -{}-{}-" in strange
    assert "[U+4E2D][U+1F600]" in strange and "\\'{e}" in strange and "$^2$" in strange


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_pdflatex_sets_every_table(latex, tmp_path):
    rules = r"\let\toprule\hline \let\midrule\hline \let\bottomrule\hline"  # booktabs' own, which not every TeX has
    lines = [
        r"\documentclass{article}",
        rules,
        r"\begin{document}",
        *(rf"\input{{{path}}} \clearpage" for path in latex),
        r"\end{document}",
    ]
    (tmp_path / "all.tex").write_text("\n".join(lines))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, [line for line in done.stdout.decode("latin-1").splitlines() if line.startswith("!")]


def test_a_second_build_removes_tables_that_are_no_more(tmp_path):
    make_results(tmp_path / "results", names=("convnext",), images=6, photos=False)
    stale = tmp_path / "reports/demo/tables/old-free.csv"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    (stale.parent / "mine.txt").write_text("")
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    assert not stale.exists() and (stale.parent / "mine.txt").exists()


def test_of_two_records_with_one_name_and_seed_the_newer_stands(tmp_path):
    make_results(tmp_path / "results", names=("convnext",), images=6, photos=False, day=20)
    make_results(tmp_path / "results", names=("convnext",), images=6, photos=False, day=22, shift=3)
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    rows = rows_of(tmp_path / "reports/demo/tables/encoders-free.csv")
    assert [float(row["Validation BLEU-4"]) for row in rows] == [pytest.approx(33.4)]
    assert "Left out, because a run of the same name and seed" in Page(tmp_path / "reports/demo/index.html").text


def test_a_profile_of_failed_runs_alone_is_a_page(tmp_path):
    add_failed(tmp_path / "results", "demo", "vgg", "no weights")
    build_reports(tmp_path / "results", tmp_path / "none", tmp_path / "reports")
    assert "No run of this experiment has finished." in Page(tmp_path / "reports/demo/index.html").text


def test_no_record_at_all_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="run_all.py"):
        build_reports(tmp_path, tmp_path / "evidence", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_needs_no_torch_and_no_display_and_a_hundred_records_are_quick(tmp_path):
    """5 s is the aim for 100 records on an idle core; three times that of processor time is a fault on any machine."""
    names = tuple(f"model{k:02d}" for k in range(20))
    make_results(tmp_path / "results", names=names, seeds=5, images=400)
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])['main']();"
        "heavy = {'torch', 'timm', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, str(ROOT / "reports/build.py"), "--results", tmp_path / "results"]
    command += ["--evidence", tmp_path / "none", "--out", tmp_path / "reports"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": "", "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "reports/index.html")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15
    assert (tmp_path / "reports/demo/index.html").stat().st_size < 10e6


words = st.lists(st.sampled_from(["a", "dog", "cat", "runs", "on", "grass"]), min_size=1, max_size=9)


@settings(max_examples=80, deadline=None)
@given(words, st.lists(words, min_size=1, max_size=3))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_ranking_measure_is_nltks_smoothed_sentence_bleu(candidate, references):
    expected = 100 * sentence_bleu(references, candidate, smoothing_function=SmoothingFunction().method2)
    assert sentence_bleu4([candidate], [references])[0] == pytest.approx(expected)
