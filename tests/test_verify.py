"""`python -m captioning.verify`: an untouched copy holds; one byte changed anywhere is found and named; what a record leaves out or adds is found too."""

import dataclasses
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reports.build
from benchmarks.experiments import systems
from benchmarks.profiles import PROFILES
from captioning import record_facts, verify
from captioning.bad_input import BadInput
from captioning.claims_file import make_claims, read_claims, write_claims
from captioning.config import RunConfig, run_id
from captioning.data import CaptionData, Example
from captioning.demo_encoders import card
from captioning.difference import table_difference
from captioning.published import FOLDER
from captioning.records import list_records, read_plan, write_plan
from captioning.token_rules import token_rules
from tests.test_claims_file import about, cut_evidence

ROOT = Path(__file__).resolve().parents[1]
NO_JAVA = "/nowhere/java"  # METEOR loads for ten seconds


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """results/evidence/demo and reports/evidence/demo, with the page really built."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECAP_JAVA", NO_JAVA)
        cut_evidence(folder / "results/evidence/demo", images=30)
        reports.build.build_reports(folder / "none", folder / "results/evidence", folder / "reports", evidence_only=True)
    write_page_claims(folder)
    return folder


def write_page_claims(folder: Path) -> None:
    home = folder / "results/evidence/demo"
    write_claims(folder / "reports/evidence/demo/claims.json", make_claims(home, list_records(home / "runs")[0]))


@pytest.fixture
def copy(built, tmp_path, monkeypatch):
    """A copy to spoil. Its tables are built again by copying the whole page's: building takes seconds, and test_an_untouched_copy_holds really builds."""
    monkeypatch.setenv("RECAP_JAVA", NO_JAVA)

    def build(results, evidence, out, evidence_only=False):
        shutil.copytree(built / "reports/evidence/demo/tables", out / "evidence/demo/tables")

    monkeypatch.setattr(reports.build, "build_reports", build)
    return Path(shutil.copytree(built, tmp_path / "copy"))


def differences(folder: Path, **options) -> list[str]:
    return verify.verify(folder / "results/evidence", folder / "reports/evidence", **options).differences


def one(folder: Path, pattern: str) -> Path:
    (path,) = (folder / "results/evidence/demo").glob(pattern)
    return path


def change_record(folder: Path, change, name: str = "vit") -> Path:
    """A record, changed, with a claims.json made to fit: as somebody would who wants to be believed."""
    path = one(folder, f"runs/{name}*.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    write_page_claims(folder)
    return path


def replace_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# ---- Nothing changed ----


def test_an_untouched_copy_holds(built):
    """The command itself, with tables built again."""
    command = [sys.executable, "-m", "captioning.verify", str(built / "results/evidence"), "--reports", str(built / "reports/evidence")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "RECAP_JAVA": NO_JAVA}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "demo: 3 records" and sum(line.startswith("  holds  ") for line in lines) == 3
    assert "  holds as reported  bleu4-hard: not run" in lines and any(
        line.startswith("  holds as reported  bleu4-vit: ") for line in lines
    )
    assert not any("DIFFERS" in line for line in lines) and lines[-1].startswith("everything holds: 3 records, 9 files, ")
    assert "not checked: checkpoint files that are not here (3 times)" in done.stderr.splitlines()


def test_nothing_to_verify_and_bad_options(tmp_path, built):
    (tmp_path / "demo/runs").mkdir(parents=True)
    with pytest.raises(BadInput, match="no records"):
        verify.verify(tmp_path, tmp_path)
    done = subprocess.run([sys.executable, "-m", "captioning.verify", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
    with pytest.raises(BadInput, match="no such data folder"):
        verify.verify(built / "results/evidence", tmp_path, data=str(tmp_path / "gone"))
    with pytest.raises(SystemExit) as end:
        verify.arguments(["--help"])
    assert end.value.code == 0


# ---- One byte ----


@pytest.mark.parametrize(
    "pattern, word",
    [("captions/vit*", "captions"), ("captions/references*", "references"), ("runs/vit*.metrics.jsonl", "curve")],
)
@pytest.mark.parametrize("place", [-1, 40])
def test_a_byte_of_a_file(copy, pattern, word, place):
    path = one(copy, pattern)
    replace_byte(path, place)
    found = differences(copy)
    vit = one(copy, "runs/vit*.json").stem
    assert any(line.startswith(f"{vit}: {word} {path.parent.name}/{path.name}: sha256 stated ") for line in found)
    assert any(line.startswith(f"demo/claims.json: files {path.parent.name}/{path.name}: stated ") for line in found)
    claims = [line for line in found if line.startswith("bleu4-vit: ")]
    assert len(claims) == (word != "curve")  # claims rest on captions and references


def test_a_byte_of_a_record(copy):
    path = one(copy, "runs/vit*.json")
    path.write_text(path.read_text().replace('"threads": ', '"threads": 1', 1))
    found = differences(copy)
    assert any(line.startswith(f"demo/claims.json: files runs/{path.name}: stated ") for line in found)
    path.write_text(path.read_text()[:-20])
    found = differences(copy)
    assert found[0].startswith("record: record ") and path.name in found[0] and "no whole JSON text" in found[0]


@pytest.mark.parametrize("name", ["numbers.json", "claims.json"])
def test_a_byte_of_the_published_data(copy, tmp_path, name):
    published = Path(shutil.copytree(FOLDER, tmp_path / "published"))
    text = (published / name).read_text()
    place = text.index('"note": "') + len('"note": "')
    (published / name).write_text(text[:place] + "#" + text[place + 1 :])
    assert any(line.startswith(f"demo/claims.json: published {name}: stated ") for line in differences(copy, published=published))
    (published / name).write_text(text[:-5])
    (broken,) = differences(copy, published=published)
    assert broken.startswith("demo/claims.json: the findings cannot be made again") and f"{name}: no JSON text" in broken


def test_a_number_a_word_and_a_space_of_claims_json(copy):
    path = copy / "reports/evidence/demo/claims.json"
    whole = path.read_text()
    content = read_claims(path)
    top5 = next(claim for claim in content["claims"] if claim["id"] == "top5-resnet101")
    stated = top5["parts"][0]["interval"][1]
    path.write_text(whole.replace(repr(stated), repr(stated + 0.01), 1))
    (found,) = differences(copy)
    assert found == f"top5-resnet101: {top5['finding']}: parts[0] interval[1]: stated {stated + 0.01!r}, recomputed {stated!r}"
    path.write_text(whole.replace('"finding": "not run"', '"finding": "not ran"', 1))
    assert differences(copy) == ["bleu4-soft: not run: finding: stated 'not ran', recomputed 'not run'"]
    path.write_text(whole.replace('"draws": ', '"draws":  ', 1))
    assert len(differences(copy)) == 1 and "not laid out" in differences(copy)[0]
    content["claims"].pop(3)
    write_claims(path, content)
    assert differences(copy)[0] == "bleu4-deit: not in claims.json"
    path.write_text(whole[:-5])
    assert len(differences(copy)) == 1 and "no whole JSON text" in differences(copy)[0]
    path.unlink()
    assert len(differences(copy)) == 1 and "No such file" in differences(copy)[0]


def test_a_table(copy):
    tables = copy / "reports/evidence/demo/tables"
    path = tables / "scores.csv"
    text = path.read_text()
    place = text.rindex("5")
    path.write_text(text[:place] + "6" + text[place + 1 :])
    (found,) = differences(copy)
    assert found.startswith("demo/tables: scores.csv: line ") and "stated " in found and ", built again " in found
    path.unlink()
    (tables / "more.csv").write_text("a\n")
    assert differences(copy) == [
        "demo/tables: more.csv: beside the page, but the records do not give it",
        "demo/tables: scores.csv: not beside the page",
    ]


def test_records_from_which_no_report_can_be_made_are_said(copy, monkeypatch):
    def fail(*_, **__):
        raise KeyError("cost")

    monkeypatch.setattr(reports.build, "build_reports", fail)
    (found,) = differences(copy)
    assert found.startswith("tables: the report cannot be built again") and "KeyError: 'cost'" in found


# ---- A record that says something else than its predictions ----


def test_a_score_moved_by_a_hundredth(copy, capsys):
    stated = {}

    def change(record):
        scores = record["scores"]["test"]["free"]["5"]["scores"]
        stated["true"] = scores["BLEU-4"]
        scores["BLEU-4"] += 0.01

    path = change_record(copy, change)
    wrong, true = stated["true"] + 0.01, stated["true"]
    assert differences(copy) == [f"{path.stem}: test free beam 5 scores BLEU-4: stated {wrong!r}, recomputed {true!r}"]
    assert f"  DIFFERS  {path.stem}: test free beam 5 scores BLEU-4: stated {wrong!r}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, difference",
    [
        (
            lambda r: r["scores"]["val"]["published"]["intervals"]["top-5"].__setitem__(0, 1.0),
            "val published intervals top-5[0]: stated 1.0",
        ),
        (lambda r: r["scores"]["val"]["free"]["1"]["scores"].pop("BLEU-2"), "val free beam 1 scores BLEU-2: not there, recomputed"),
        (lambda r: r["scores"]["val"]["free"]["1"]["scores"].update(Best=99.0), "val free beam 1 scores Best: stated 99.0, not known"),
        (lambda r: r["scores"]["val"]["free"]["1"]["intervals"].pop("BLEU-2"), "val free beam 1 intervals BLEU-2: not there"),
        (lambda r: r["scores"]["val"]["free"].pop("5"), "val free beam 5: not in the record"),
        (lambda r: r["scores"]["val"]["free"].update({"9": r["scores"]["val"]["free"]["5"]}), "val free beam 9: in the record, but"),
        (lambda r: r["scores"].pop("test"), "test published: not in the record"),
        (lambda r: r["scores"]["val"]["published"].update(signature="free"), "val published signature: stated 'free'"),
        (lambda r: r["scores"]["val"]["published"].update(n_images=41), "val published n_images: stated 41, recomputed 30"),
        (lambda r: r["scores"]["val"]["coco"]["5"]["not_available"].pop("METEOR"), "val coco beam 5 METEOR: not in the record"),
        (lambda r: r["scores"]["val"]["coco"]["5"]["not_available"].update(Best="-"), "val coco beam 5 Best: stated as not available"),
        (
            lambda r: r["scores"]["val"]["free"]["5"].update(not_available={"BLEU-4": "-"}),
            "val free beam 5 BLEU-4: stated both as",
        ),
        (lambda r: r["pointing"]["val"]["free"]["scores"].update(mass=80.0), "val pointing free scores mass: stated 80.0"),
        (lambda r: r["pointing"]["val"]["free"].update(n_absent=0), "val pointing free n_absent: stated 0, recomputed 30"),
        (lambda r: r.pop("pointing"), "val pointing forced: not in the record"),
        (lambda r: r["config"].update(dropout=0.1), "run_id: stated vit-0-"),
        (lambda r: r["data"].update(fingerprint="0" * 64), "run_id: stated vit-0-"),
        (lambda r: r["encoder"].update(sha256="0" * 64), "run_id: stated vit-0-"),
        (lambda r: r["config"].update(attention="hard"), "run_id: stated vit-0-"),
        (lambda r: r["config"].pop("dropout"), "config: field 'dropout' is missing"),
        (lambda r: r["config"].update(colour="red"), "config: field 'colour' is not known"),
        (lambda r: r["provenance"].update(numerics=0), "provenance numerics: stated 0"),
        (lambda r: r.update(profile="coco"), "it is of profile 'coco'"),
        (lambda r: r["data"]["images"].update(val=1000), "data images of val: stated 1000, found 30"),
        (lambda r: r["training"].update(epochs=99), "training epochs: stated 99"),
        (lambda r: r["training"].update(best_epoch=1), "training best_epoch: stated 1, found 4"),
        (
            lambda r: r["training"].update(selection="loss, val"),
            "training selection: stated 'loss, val', found 'BLEU-4, free, greedy, val'",
        ),
        (lambda r: r["encoder"].update(name="demo_deit"), "encoder name: stated 'demo_deit', found 'demo_vit'"),
        (lambda r: r["encoder"].update(tag="convnext_base.fb_in1k"), "encoder tag: stated 'convnext_base.fb_in1k', found 'demo_vit'"),
        (lambda r: r["encoder"].update(source="timm"), "encoder source: stated 'timm', found 'demo'"),
        (lambda r: r["encoder"].update(frozen=False), "encoder frozen: stated False, found True"),
        (lambda r: r["encoder"].update(grid=[7, 7]), "encoder grid: stated [7, 7], found [8, 8]"),
        (lambda r: r["labels"].update(encoders="DeiT"), "label in encoders: stated 'DeiT', found 'ViT (small member)'"),
        (lambda r: r["files"].pop("curve"), "curve: the record names no such file"),
        (lambda r: r["files"]["curve"].update(path="../elsewhere"), "curve ../elsewhere: lies outside demo/"),
        (lambda r: r["files"]["curve"].update(path="runs/gone"), "curve runs/gone: no such file"),
    ],
)
def test_what_a_record_leaves_out_adds_or_alters(copy, change, difference):
    path = change_record(copy, change)
    found = [line for line in differences(copy) if line.startswith(path.stem)]
    assert found and found[0].startswith(f"{path.stem}: {difference}"), found


def reidentify(record: dict) -> None:
    """As who wants to be believed would: the id made to fit what the record now says. Its files keep their names."""
    config = RunConfig(**record["config"] | {"beams": tuple(record["config"]["beams"])})
    record["run_id"] = run_id(config, data=record["data"]["fingerprint"], weights=record["encoder"]["sha256"], encoder_file="")


@pytest.mark.parametrize(
    "config, encoder, differences",
    [
        # A worse net under the name of a row.
        (
            {"encoder": "demo_deit"},
            {"name": "demo_deit", "tag": "demo_deit"},
            ["config encoder of a run called 'ViT (small member)': stated 'demo_deit', found 'demo_vit'"],
        ),
        ({"hidden_dim": 64}, {}, ["config hidden_dim of a run called 'ViT (small member)': stated 64, found 128"]),
        ({"attention": "hard"}, {}, ["config attention of a run called 'ViT (small member)': stated 'hard', found 'soft'"]),
        ({"pretrained": False, "seed": 3}, {}, []),  # --weights none --seed 3
        (
            {"encoder": "deit_tiny_patch16_224", "grid": 7},
            {
                "name": "deit_tiny_patch16_224",
                "tag": "deit_tiny_patch16_224.fb_in1k",
                "source": "timm",
                "grid": [7, 7],
                "accuracy": {"shape": 1.0},
            },
            ["encoder accuracy: stated {'shape': 1.0}, found None", "config encoder of a run called", "config grid of a run called"],
        ),
        (
            {"encoder": "deit_tiny_patch16_224"},
            {"name": "deit_tiny_patch16_224", "tag": "convnext_tiny.fb_in1k", "source": "timm"},
            ["encoder tag: stated 'convnext_tiny.fb_in1k', found 'deit_tiny_patch16_224'", "config encoder of a run called"],
        ),
        # An encoder of the reader's own may be called as it likes.
        ({"encoder": "mine.py:my_vit", "name": "my-vit"}, {"name": "my_vit", "tag": "my_vit", "source": "file"}, []),
    ],
)
def test_a_record_whose_id_fits_another_model(copy, config, encoder, differences):
    record = json.loads(one(copy, "runs/vit*.json").read_text())
    record["config"] |= config
    record["encoder"] |= encoder
    reidentify(record)
    found = [
        *record_facts.check_run_id(record | {"name": config.get("name", "vit")}),
        *record_facts.check_encoder(record),
        *record_facts.check_row(record, {}),
    ]
    assert len(found) == len(differences), found
    assert all(line.startswith(start) for line, start in zip(found, differences, strict=True)), found


def test_the_id_covers_the_language_models_weights_and_tokenizer(copy):
    """Record and plan agree: another model, or another tokenizer, under the name of a run is seen."""
    record = json.loads(one(copy, "runs/vit*.json").read_text())
    record["config"] |= {"system": "sep", "language_model": "distilbert/distilgpt2"}
    identity = {"language_model": "a" * 64, "tokenizer": "b" * 64}
    config = RunConfig(**record["config"] | {"beams": tuple(record["config"]["beams"])})
    own = run_id(config, data=record["data"]["fingerprint"], weights=record["encoder"]["sha256"], language=identity)
    record |= {"run_id": own, "language_model": {"architecture": "gpt2", "name": "distilbert/distilgpt2", "identity": identity}}
    assert not list(record_facts.check_run_id(record))
    for name in identity:
        other = record | {"language_model": record["language_model"] | {"identity": identity | {name: "c" * 64}}}
        assert [line.startswith(f"run_id: stated {own} of 'vit'") for line in record_facts.check_run_id(other)] == [True]
    del record["language_model"]
    assert [line.startswith(f"run_id: stated {own} of 'vit'") for line in record_facts.check_run_id(record)] == [True]


def test_a_row_without_weights_has_no_language_model_either():
    """As --weights none makes it. With the encoder's weights but another language model it is no row."""
    label, row = next((label, row) for label, row in systems.runs(PROFILES["coco"]) if row.name == "sep")
    record = {"profile": "coco", "experiments": ["systems"], "label": label, "config": json.loads(json.dumps(dataclasses.asdict(row)))}
    assert row.language_model and not list(record_facts.check_row(record, {}))
    record["config"] |= {"language_model": ""}
    (found,) = record_facts.check_row(record, {})
    assert found == f"config language_model of a run called {label!r}: stated '', found {row.language_model!r}"
    record["config"] |= {"pretrained": False}
    assert not list(record_facts.check_row(record, {}))


def test_how_many_captions_ended_is_counted_again(copy):
    record = json.loads(one(copy, "runs/vit*.json").read_text())
    header, *lines = [json.loads(line) for line in gzip.decompress(one(copy, "captions/vit*").read_bytes()).splitlines()]
    (beam, *_), val = header["beams"], [line for line in lines if line["split"] == "val"]
    shares = record_facts.ended_shares(lines)
    assert shares["val"][str(beam)] == 100 * sum(line["free"][str(beam)]["ended"] for line in val) / len(val)
    home = copy / "results/evidence/demo"
    assert not list(record_facts.check_facts(home, record | {"ended": shares}))
    shares["test"][str(beam)] += 0.5
    (found,) = record_facts.check_facts(home, record | {"ended": shares})
    assert found.startswith("ended: stated ")


def test_the_pointing_game_is_played_on_all_images_or_by_gradients_on_the_first(copy, monkeypatch):
    """Not only where the model points well. The record's hash is made to fit."""
    captions = one(copy, "captions/vit*")
    header, *lines = [json.loads(line) for line in gzip.decompress(captions.read_bytes()).splitlines()]
    home = copy / "results/evidence/demo"

    def facts(keep, system="attend", features="regions") -> list[str]:
        played = {split: 0 for split in ("val", "test")}
        kept = []
        for line in lines:
            line = {name: value for name, value in line.items() if name != "pointing" or keep(played[line["split"]])}
            played[line["split"]] += 1
            kept.append(line)
        captions.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in [header, *kept]).encode(), mtime=0))
        record = json.loads(one(copy, "runs/vit*.json").read_text())
        record["config"] |= {"system": system, "features": features}
        return [line for line in record_facts.check_facts(home, record) if "pointing" in line]

    monkeypatch.setattr(record_facts, "BY_GRADIENTS", 10)
    assert facts(lambda k: True) == facts(lambda k: False) == []  # from before the game: no line has it
    assert facts(lambda k: k < 10)[0] == "captions' images of val with pointing: stated 10, found 30"
    assert facts(lambda k: k != 4) == [
        f"captions' images of {split} with pointing: stated 'others than the first', found 30" for split in ("val", "test")
    ]
    for system, features in (("prefix", "vector"), ("t5", "vector")):
        assert facts(lambda k: k < 10, system, features) == []
        assert len(facts(lambda k: k < 9, system, features)) == len(facts(lambda k: 0 < k < 11, system, features)) == 2
    assert len(facts(lambda k: k < 10, "t5")) == 2


def test_the_shipped_encoders_card_says_how_well_it_knows_its_objects(copy):
    record = json.loads(one(copy, "runs/vit*.json").read_text())
    shipped = card("demo_vit")
    record["encoder"] |= {"sha256": shipped["sha256"], "accuracy": shipped["accuracy"]}
    assert not list(record_facts.check_encoder(record))
    record["encoder"]["accuracy"] = shipped["accuracy"] | {"shape": 1.0}
    assert [line.startswith("encoder accuracy: stated ") for line in record_facts.check_encoder(record)] == [True]


def test_the_plans_labels_are_checked_for_the_tables_go_by_them(copy):
    vit = json.loads(one(copy, "runs/vit*.json").read_text())
    entry = {name: vit[name] for name in ("run_id", "name", "label", "experiments", "labels")}
    write_plan(copy / "results/evidence/demo", [entry])
    assert differences(copy) == []
    write_plan(copy / "results/evidence/demo", [entry | {"labels": {"encoders": "ConvNeXt (small member)"}}])
    (found,) = differences(copy)
    assert found == f"{vit['run_id']}: label in encoders: stated 'ConvNeXt (small member)', found 'ViT (small member)'"


def test_a_field_that_came_later_and_stands_at_its_default_stays_out_of_the_id(copy):
    def change(record):
        for field in ("attention", "gate"):
            del record["config"][field]

    change_record(copy, change, "convnext")
    assert differences(copy) == []


def test_predictions_that_fit_their_hash_but_not_their_scores(copy):
    """Captions of another run under this one's name, the record's hash made to fit."""
    captions = one(copy, "captions/vit*")
    header, *lines = gzip.decompress(captions.read_bytes()).splitlines(keepends=True)
    _, *others = gzip.decompress(one(copy, "captions/resnet101*").read_bytes()).splitlines(keepends=True)
    captions.write_bytes(gzip.compress(b"".join([header, *others]), mtime=0))
    home = copy / "results/evidence/demo"
    path = change_record(copy, lambda record: record["files"].update(captions=about(home, captions)))
    (found,) = differences(copy)
    assert found.startswith(f"{path.stem}: val published scores BLEU-1: stated ")


def test_a_missing_file_and_a_large_one_that_is_there(copy):
    one(copy, "captions/vit*").unlink()
    assert any(": captions captions/vit" in line and line.endswith("no such file") for line in differences(copy))
    (copy / "results/evidence/demo/gone").write_text("not the checkpoint")
    assert sum(": checkpoint gone: sha256 stated" in line for line in differences(copy)) == 3


def test_what_needs_another_program_is_said_and_not_believed(copy, capsys):
    """The record has METEOR, from a machine with Java; there is none here."""

    def change(record):
        coco = record["scores"]["val"]["coco"]["5"]
        del coco["not_available"]["METEOR"]
        coco["scores"]["METEOR"], coco["intervals"]["METEOR"] = 20.0, [19.0, 21.0]

    change_record(copy, change)
    folder = [str(copy / "results/evidence"), "--reports", str(copy / "reports/evidence")]
    assert verify.main(folder) == 0
    captured = capsys.readouterr()
    reason = f"RECAP_JAVA={NO_JAVA} is not an executable file"
    assert f"not checked: METEOR, not available here: the PTB tokenizer needs Java: {reason}" in captured.err.splitlines()
    assert captured.out.splitlines()[-1].endswith("; 4 not checked")  # METEOR and three checkpoints


def test_a_metric_hidden_as_not_available_is_a_difference_where_no_other_program_is_needed(copy):
    def change(record):
        scores = record["scores"]["val"]["free"]["5"]
        scores["not_available"] = {"BLEU-4": "-"}
        del scores["scores"]["BLEU-4"], scores["intervals"]["BLEU-4"]

    change_record(copy, change)
    assert "val free beam 5 BLEU-4: stated as not available, recomputed" in differences(copy)[0]


def test_scores_under_every_token_rule(copy):
    vit = one(copy, "runs/vit*.json").stem
    captions = one(copy, "captions/vit*")
    content = {"schema": 1, "run_id": vit, "captions_sha256": about(captions.parent, captions)["sha256"], "tool": verify.TOOL}
    content["splits"] = {split: token_rules(captions, split) for split in ("val", "test")}
    path = captions.parents[1] / f"protocols/{vit}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    assert differences(copy) == []
    row = content["splits"]["test"][1]
    row["scores"]["scores"]["BLEU-4"] += 0.01
    path.write_text(json.dumps(content))
    (found,) = differences(copy)
    assert found.startswith(f"{vit}: protocols/{vit}.json: test {row['rule']} scores BLEU-4: stated ")


# ---- The data ----


def test_references_are_what_the_data_give(copy, monkeypatch):
    lines = gzip.decompress(one(copy, "captions/references*").read_bytes()).splitlines()
    examples = [Example(e["id"], "", e["split"], tuple(e["tokens"]), tuple(e["raw"])) for e in map(json.loads, lines)]
    fingerprint = json.loads(one(copy, "runs/vit*.json").read_text())["data"]["fingerprint"]

    def data(path, restval, name="demo", examples=tuple(examples), fingerprint=fingerprint):
        return CaptionData(name, Path(path), list(examples), fingerprint, None)

    monkeypatch.setattr(verify, "load_data", data)
    assert differences(copy, data="somewhere") == []
    other = [*examples[:3], Example(examples[3].image_id, "", "val", ("a dog",), examples[3].raw), *examples[4:]]
    monkeypatch.setattr(verify, "load_data", lambda path, restval: data(path, restval, examples=other))
    (found,) = differences(copy, data="somewhere")
    assert found.startswith("data: captions/references-") and f"image {examples[3].image_id}: tokens: stated " in found
    monkeypatch.setattr(verify, "load_data", lambda path, restval: data(path, restval, examples=examples[:-1]))
    assert f"image {examples[-1].image_id}: " in differences(copy, data="somewhere")[0]
    monkeypatch.setattr(verify, "load_data", lambda path, restval: data(path, restval, fingerprint="0" * 64))
    assert sum(": fingerprint stated " in line for line in differences(copy, data="somewhere")) == 3
    monkeypatch.setattr(verify, "load_data", lambda path, restval: data(path, restval, name="flickr8k"))
    with pytest.raises(BadInput, match="holds flickr8k; the records are of demo"):
        differences(copy, data="somewhere")


def test_the_committed_runs_are_the_rows_that_they_are_called():
    """Of rows that have come to be decoded at a wider beam too, and of none that was decoded at another."""
    homes = [path.parent for path in sorted((ROOT / "results/evidence").glob("*/runs"))]
    planned = {run["run_id"]: run for home in homes for run in read_plan(home)}
    found = [record for home in homes for record in list_records(home / "runs")[0]]
    assert found
    for record in found:
        assert list(record_facts.check_row(record, planned.get(record["run_id"], {}))) == [], record["run_id"]
    other = next(record for record in found if record["name"] == "deit-tiny-hard")
    other = other | {"config": other["config"] | {"beams": [1, 3, 5, 9]}}
    assert any("config beams" in said for said in record_facts.check_row(other, {}))


def test_a_csv_may_differ_by_rounding_and_nothing_else():
    """What was drawn beside other findings is summed in another order."""
    stated = 'Row,low\n"a, b",4.225463587591785\nc,10\n'
    for same in (stated, stated.replace("785", "743")):
        assert list(table_difference("t.csv", stated, same)) == []
    assert list(table_difference("t.md", stated, stated.replace("785", "743")))  # shown numbers are rounded: they are the same
    for other in ("4.225463687591785", "nan", "", "4,2"):
        assert list(table_difference("t.csv", stated, stated.replace("4.225463587591785", other))), other
    for other in (
        stated.replace("c,10", "c,11"),
        stated.replace("c,10", "c,10.0"),
        stated.replace('"a, b"', "a b"),
        stated[:-1],
        stated + "d,1\n",
    ):
        (found,) = table_difference("t.csv", stated, other)
        assert found.startswith("line ")


def test_a_table_that_is_no_table_any_more_differs():
    for broken in ("x,y\n1\r2,3\n", "x,y\n" + "1" * 140_000 + ",3\n"):
        (found,) = table_difference("t.csv", broken, "x,y\n1,3\n")
        assert found.startswith("line 2: stated ") and len(found) < 500
