"""claims.json: what it holds, that equal inputs give equal bytes, and that a finding is taken over only where all it rests on is unchanged."""

import copy
import dataclasses
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.experiments.encoders import row_named
from benchmarks.profiles import PROFILES
from captioning import claims_file, findings
from captioning.bad_input import BadInput
from captioning.claims import NOT_RUN, RULES
from captioning.claims_file import is_as_written, make_claims, read_claims, write_claims
from captioning.config import run_id
from captioning.findings import file_sha256
from captioning.pointing import score_saved
from captioning.protocols import score_predictions
from captioning.published import FOLDER
from captioning.record_facts import ended_shares
from captioning.records import list_records, write_plan, write_record

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "results/evidence/flickr8k"
RUNS = {"convnext": "deit-tiny", "resnet101": "resnet50-v1", "vit": "deit-tiny-none"}  # name here -> run whose real captions it is given


def cut_evidence(home: Path, images: int = 40) -> None:
    """A profile with a record for each of RUNS: captions of the first images of val and test from the committed evidence, everything else made to fit."""
    records = {record["name"]: record for record in list_records(EVIDENCE / "runs")[0] if record["config"]["seed"] == 0}
    for name, of in RUNS.items():
        _cut_run(home, name, records[of], images)


def _cut_run(home: Path, name: str, source: dict, images: int) -> None:
    label, config = row_named(PROFILES["demo"], name)
    encoder = source["encoder"] | {"name": config.encoder, "tag": config.encoder, "source": "demo", "grid": [8, 8]}
    own = run_id(config, data=source["data"]["fingerprint"], weights=encoder["sha256"], encoder_file=encoder["file_sha256"])
    first = _first(source, "references", images)
    references = _write(home, "references-d561bc08aef49822", first)
    header, *lines = _read(source, "captions")
    header |= {"run_id": own, "beams": list(config.beams)}
    ids = {line["id"] for line in first}
    beams = [str(beam) for beam in config.beams]  # of photographs there may be more
    kept = [line | {"pointing": POINTED, "free": {beam: line["free"][beam] for beam in beams}} for line in lines if line["id"] in ids]
    captions = _write(home, own, [header, *kept])
    curve = home / f"runs/{own}.metrics.jsonl"
    curve.parent.mkdir(parents=True, exist_ok=True)
    lines = (EVIDENCE / source["files"]["curve"]["path"]).read_text().splitlines(keepends=True)[: config.epochs]
    curve.write_text("".join(lines))
    bleu4 = [json.loads(line)["val_bleu4_free"] for line in lines]
    files = {
        "captions": captions,
        "references": references,
        "curve": about(home, curve),
        "checkpoint": {"path": "gone", "sha256": "0" * 64},
    }
    record = {
        **source, "run_id": own, "name": name, "label": label, "labels": {"encoders": label}, "experiments": ["encoders"], "profile": home.name,
        "config": dataclasses.asdict(config), "encoder": encoder, "files": files,
        "training": source["training"] | {"curve": curve.name, "epochs": len(lines), "best_epoch": 1 + bleu4.index(max(bleu4))},
        "data": source["data"] | {"name": home.name, "images": {"train": 9, "val": images, "test": images},
                                  "captions": {"train": 9, "val": 5 * images, "test": 5 * images}},
    }  # fmt: skip
    predictions = home / captions["path"]
    record["scores"] = {split: score_predictions(predictions, split) for split in ("val", "test")}
    record["ended"] = ended_shares(kept)
    record["pointing"] = {split: score_saved(predictions, split) for split in ("val", "test")}
    write_record(home / "runs", json.loads(json.dumps(record)))


POINTED = {"forced": [["circle", 1.0, 0.5, 0.25], ["square", 0.0, 0.25, 0.125]], "free": [["circle", 1.0, 0.75, 0.25]], "absent": ["star"]}


def _read(source: dict, kind: str) -> list[dict]:
    return [json.loads(line) for line in gzip.decompress((EVIDENCE / source["files"][kind]["path"]).read_bytes()).splitlines()]


def _first(source: dict, kind: str, images: int) -> list[dict]:
    lines = _read(source, kind)
    return [line for split in ("val", "test") for line in [one for one in lines if one["split"] == split][:images]]


def _write(home: Path, name: str, lines: list[dict]) -> dict:
    path = home / f"captions/{name}.jsonl.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), mtime=0))
    return about(home, path)


def about(home: Path, path: Path) -> dict:
    return {"path": path.relative_to(home).as_posix(), "sha256": file_sha256(path)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECAP_JAVA", "/nowhere/java")  # METEOR loads for ten seconds
        home = tmp_path_factory.mktemp("results") / "demo"
        cut_evidence(home)
    return home


@pytest.fixture
def home(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "demo"))


def made(home: Path, earlier: Path | None = None, **options) -> dict:
    return make_claims(home, list_records(home / "runs")[0], earlier, draws=300, **options)


def test_it_holds_what_a_machine_needs(home):
    content = made(home)
    assert content["rules"] == RULES and (content["profile"], content["draws"]) == ("demo", 300)
    assert content["published"]["claims.json"] == hashlib.sha256((FOLDER / "claims.json").read_bytes()).hexdigest()
    there = {f"{part}/{path.name}" for part in ("runs", "captions") for path in (home / part).iterdir()}
    assert set(content["files"]) == there and len(there) == 3 * 3 + 1
    assert all(value == file_sha256(home / path) for path, value in content["files"].items())
    claims = {claim["id"]: claim for claim in content["claims"]}
    judged = claims["top5-resnet101"]
    assert judged["p"] is not None and judged["holm_family"] == 3  # top-5, loss and ViT
    assert sorted(judged["records"]) == sorted(f"runs/{run}.json" for run in judged["runs"]) and len(judged["runs"]) == 2
    assert len(judged["predictions"]) == 3 and judged["predictions"].items() <= content["files"].items()
    assert claims["bleu4-hard"]["finding"] == "not run" and list(claims["bleu4-hard"]["records"]) == [
        next(path for path in there if path.startswith("runs/convnext") and path.endswith("json"))
    ]


def test_equal_inputs_give_equal_bytes_wherever_they_lie(home, tmp_path):
    write_claims(tmp_path / "a.json", made(home))
    moved = Path(shutil.move(home, tmp_path / "elsewhere" / "demo"))
    findings._measure.cache_clear()
    write_claims(tmp_path / "b.json", make_claims(moved, list_records(moved / "runs")[0][::-1], draws=300))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_claims(tmp_path / "a.json") == made(moved) and str(tmp_path) not in (tmp_path / "a.json").read_text()


def test_an_unchanged_finding_is_taken_over(home, tmp_path, monkeypatch):
    earlier, content = tmp_path / "claims.json", made(home)
    write_claims(earlier, content)
    monkeypatch.setattr(findings, "read_predictions", None)  # nothing may be scored
    monkeypatch.setattr(findings, "judge", None)
    findings._measure.cache_clear()
    assert made(home, earlier) == content


@pytest.mark.parametrize(
    "reason, again", [("vit-0 has no CIDEr: the PTB tokenizer needs Java: Java failed with status 137", True), ("vit was not run", False)]
)
def test_a_reason_that_may_have_passed_is_looked_at_again(home, tmp_path, reason, again):
    earlier, content = tmp_path / "claims.json", made(home)
    at = next(k for k, claim in enumerate(content["claims"]) if claim["id"] == "bleu4-vit")
    before = copy.deepcopy(content)
    before["claims"][at] |= {"finding": NOT_RUN, "reason": reason, "p": None}
    assert content["claims"][at]["finding"] != NOT_RUN
    write_claims(earlier, before)
    assert (made(home, earlier)["claims"][at]["finding"] == content["claims"][at]["finding"]) == again


def test_only_what_rests_on_changed_files_is_computed_again(home, tmp_path, monkeypatch):
    earlier, whole = tmp_path / "claims.json", made(home)
    (resnet,) = home.glob("runs/resnet101*.json")
    aside = resnet.rename(tmp_path / resnet.name)
    before = made(home)
    write_claims(earlier, before)
    aside.rename(resnet)
    judged = []
    monkeypatch.setattr(findings, "judge", lambda claim, *rest, **more: judged.append(claim.id) or JUDGE(claim, *rest, **more))
    again = made(home, earlier)
    assert again == whole and judged == ["top5-resnet101", "loss-resnet101"]
    # The family of Holm's adjustment grew, for the finding that was taken over too.
    vit = {content["claims"][2]["id"]: content["claims"][2]["holm_family"] for content in (before, again)}
    assert vit == {"bleu4-vit": 3} and before["claims"][2]["holm_family"] == 1


JUDGE = findings.judge


@pytest.mark.parametrize("what", ["captions", "references", "record"])
def test_a_changed_file_makes_its_findings_new(home, tmp_path, what):
    earlier = tmp_path / "claims.json"
    write_claims(earlier, made(home))
    (path,) = home.glob({"captions": "captions/vit*", "references": "captions/references*", "record": "runs/vit*.json"}[what])
    if what == "record":
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    again = made(home, earlier)
    assert again == made(home)
    finding = next(claim for claim in again["claims"] if claim["id"] == "bleu4-vit")
    assert finding["command"].endswith("--seeds 2") if what == "record" else "sha256 differs" in finding["reason"]


def test_other_code_draws_or_published_data_take_nothing_over(home, tmp_path, monkeypatch):
    earlier = tmp_path / "claims.json"
    content = made(home)
    content["claims"][2]["finding"] = "taken over"
    write_claims(earlier, content)
    assert made(home, earlier)["claims"][2]["finding"] == "taken over"
    records = list_records(home / "runs")[0]
    assert make_claims(home, records, earlier, draws=299)["claims"][2]["finding"] != "taken over"
    published = Path(shutil.copytree(FOLDER, tmp_path / "published"))
    (published / "numbers.json").write_text((published / "numbers.json").read_text() + "\n")
    assert made(home, earlier, published=published)["claims"][2]["finding"] != "taken over"
    monkeypatch.setattr(claims_file, "TOOL", "claims-0")
    assert made(home, earlier)["claims"][2]["finding"] != "taken over"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": NaN}', "\udc80"])
def test_a_damaged_earlier_file_is_named_and_replaced(home, tmp_path, text):
    earlier = tmp_path / "claims.json"
    earlier.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(BadInput, match=r"claims\.json: .*; make it again") as error:
        read_claims(earlier)
    assert "\n" not in str(error.value)
    assert made(home, earlier) == made(home, tmp_path / "not there") == made(home)


def test_bytes_that_say_the_same_otherwise_are_seen(home, tmp_path):
    path, content = tmp_path / "claims.json", made(home)
    write_claims(path, content)
    assert is_as_written(path, read_claims(path))
    path.write_text(path.read_text().replace('"schema": 1,', '"schema":  1,'))
    assert not is_as_written(path, read_claims(path))


def test_of_one_name_and_seed_the_planned_record_counts(home):
    (path,) = home.glob("runs/vit*.json")
    record = json.loads(path.read_text())
    later = record | {"run_id": record["run_id"][:-1] + "z", "finished": "2027-01-01T00:00:00Z"}
    write_record(home / "runs", later)

    def vit() -> list[str]:
        return next(claim for claim in made(home)["claims"] if claim["id"] == "bleu4-vit")["runs"][1:]

    assert vit() == [later["run_id"]] and f"runs/{path.name}" not in made(home)["files"]
    write_plan(home, [{"run_id": record["run_id"], "name": "vit", "label": "vit", "experiments": ["encoders"], "labels": {}}])
    assert vit() == [record["run_id"]] and f"runs/{later['run_id']}.json" not in made(home)["files"]


def test_files_outside_the_profile_are_not_read_and_a_record_needs_its_file(home, tmp_path):
    records = list_records(home / "runs")[0]
    (tmp_path / "secret").write_text("x")
    records[0]["files"]["captions"]["path"] = "../secret"
    assert "../secret" not in make_claims(home, records, draws=300)["files"]
    (home / "runs" / f"{records[0]['run_id']}.json").unlink()
    with pytest.raises(BadInput, match="no such record"):
        make_claims(home, records, draws=300)


def test_no_torch():
    code = "import sys, captioning.claims_file, captioning.verify; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
