"""Model cards: the Hub's own library reads them back, their numbers are the record's, and a name is text, whatever is in it."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from captioning import model_card
from captioning.bad_input import BadInput
from captioning.checkpoint import load_checkpoint, read_description
from captioning.config import RunConfig
from captioning.licences import DATA, LANGUAGE_MODEL_LICENCES, TIMM_LICENCES
from captioning.model_card import CARD, find_distilled, make_card, write_card
from captioning.records import read_record
from captioning.systems import SYSTEMS
from captioning.weight_tags import WEIGHTS
from models import build_model
from tests.tiny import SETTINGS, make_data
from train import Where, train

ROOT = Path(__file__).resolve().parents[1]
RECORDS = sorted((ROOT / "results/evidence/flickr8k/runs").glob("*.json"))


def describes(record: dict, **changes) -> dict:
    """config.json of the checkpoint that a committed record is of, as save_checkpoint would have written it."""
    encoder = record["encoder"]
    description = {
        "run_id": record["run_id"],
        "data": {"name": record["data"]["name"], "fingerprint": record["data"]["fingerprint"]},
        "epoch": record["training"]["best_epoch"],
        "scores": {"val_bleu4_free": 12.345},
        "config": record["config"],
        "vocabulary": ["a"] * record["data"]["vocabulary"],
        "encoder": {**encoder, "kind": encoder["source"], "weights_sha256": encoder["sha256"], "stored": False},
        "model_sha256": record["files"]["checkpoint"]["sha256"],
    }
    return description | {name: record[name] for name in ("language_model",) if name in record} | changes


@pytest.fixture(scope="module")
def record() -> dict:
    return read_record(next(path for path in RECORDS if path.name.startswith("deit-tiny-0-")))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    return train(RunConfig(**SETTINGS), place(data, tmp_path_factory.mktemp("trained") / "run"))


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def place(data: Path, out: Path) -> Where:
    return Where(data=str(data), out=str(out), cache=str(data / "cache"), device="cpu", workers=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_the_hubs_library_reads_the_records_numbers_back(path):
    record = read_record(path)
    text = make_card(describes(record), record)
    card = ModelCard(text)
    assert card.content == text  # nothing is lost or added where the library writes it again
    meta = card.data.to_dict()
    assert (meta["pipeline_tag"], meta["library_name"], meta["language"], meta["datasets"]) == (
        "image-to-text",
        "recap",
        "en",
        ["flickr8k"],
    )
    assert meta["license"] == "other" and meta["license_name"] and meta["license_link"].startswith("http")
    assert len(card.data.eval_results) == 4 + 4 + 7  # published, free at beam 5, coco without SPICE
    for result in card.data.eval_results:
        how, metric = result.metric_args, result.metric_name.partition(" ")[0]
        stated = record["scores"][result.dataset_split][how["protocol"]]
        stated = stated["5"] if "beam" in how else stated
        assert result.metric_value == pytest.approx(stated["scores"][metric], abs=0.005)
        assert how["confidence_interval_95"] == pytest.approx(stated["intervals"][metric], abs=0.005)
        assert how["signature"] == stated["signature"] and f"`{stated['signature']}`" in text
        low, high = stated["intervals"][metric]
        assert f"{stated['scores'][metric]:.1f} ({low:.1f} to {high:.1f})" in text


def test_before_it_is_scored_a_card_has_what_training_measured(record):
    card = ModelCard(make_card(describes(record)))
    (only,) = card.data.eval_results
    assert (only.metric_value, only.metric_args, only.dataset_split) == (12.35, {"protocol": "free", "beam": 1}, "validation")
    assert "| val | free, beam 1 | 12.3 |" in card.text


def test_equal_input_gives_equal_bytes(record, tmp_path):
    """In a process of its own, with another seed of string hashes, too."""
    (tmp_path / "d.json").write_text(json.dumps([describes(record), record]))
    program = f"import json; from captioning.model_card import make_card; print(make_card(*json.load(open({str(tmp_path / 'd.json')!r}))), end='')"
    other = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, env={"PYTHONHASHSEED": "7"}, check=True)
    assert other.stdout.decode() == make_card(describes(record), record)


EVIL = [
    "</code><script>alert(1)</script>",
    "x` <img src=x onerror=alert(1)> ``` [a](javascript:alert(1)) ![b](http://h/i.png)",
    "a\n---\nlicense: mit\n---\n# Buy\n\n| a | b |\n|---|---|",
    "`" * 7,
    "yes: [no, {{ x }}] !!python/object:os.system # & *",
    "\u202egnp.exe\u0000\x1b[31m www.example.org me@example.org",
    "  ",
]


class Page(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags, self.spans, self.open = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, _):
        self.tags.append(tag)
        self.open = tag == "code"
        self.spans += [""] * self.open

    def handle_endtag(self, tag):
        self.open = self.open and tag != "code"

    def handle_data(self, text):
        if self.open:
            self.spans[-1] += text


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_text(record, name):
    """Rendered by a CommonMark library, HTML let through, a card with evil names has the elements and keys of one with plain names."""
    named = {}
    for text in (name, "plain"):
        described = describes(
            record, run_id=text, data={"name": text, "fingerprint": text}, language_model={"name": text.strip() or "plain"}
        )
        described["encoder"] |= {"tag": text, "kind": "file"}
        own = json.loads(json.dumps(record)) | {"run_id": text}
        own["cost"]["device"] = own["provenance"]["commit"] = text
        own["scores"]["test"]["coco"]["5"]["signature"] = text
        own["scores"]["val"]["coco"]["5"]["not_available"] = {text: text}
        named[text] = make_card(described, own)
    meta, plain = (yaml.safe_load(text.split("\n---\n")[0]) for text in named.values())
    assert shape(meta) == shape(plain) and meta["license"] == plain["license"] == "unknown" and "language" not in meta
    assert ModelCard(named[name]).data.to_dict().keys() == plain.keys()
    page, expected = (Page(MarkdownIt("commonmark").enable("table").render(ModelCard(text).text)) for text in named.values())
    assert page.tags == expected.tags and not {"script", "img", "a"} & set(page.tags)
    printable = lambda text: "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))  # noqa: E731
    for one, other in zip(page.spans, expected.spans, strict=True):
        assert one.strip() in (printable(name), printable(name[:16])) or one == other  # fingerprints are cut


def shape(value):
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)


def test_licences_are_those_that_timm_states():
    from timm.models import get_pretrained_cfg

    for licence, tags in TIMM_LICENCES.items():
        for tag in tags:
            config = get_pretrained_cfg(tag)
            assert config.license == licence and config.hf_hub_id.removesuffix("/") in ("timm", f"timm/{tag}"), tag


def test_weights_that_this_project_names_have_a_licence():
    known = {tag for tags in TIMM_LICENCES.values() for tag in tags}
    assert {row.tag for row in WEIGHTS if row.row == "main"} <= known
    settings = [{"encoder": RunConfig().encoder, **system.settings} for system in SYSTEMS.values()]
    assert {one["encoder"] for one in settings} <= known
    assert {one["language_model"] for one in settings if "language_model" in one} == LANGUAGE_MODEL_LICENCES.keys()


def test_what_is_inside_and_whose_it_is(record):
    fetched = make_card(describes(record), record)
    assert "its weights are not inside but fetched by that name" in fetched and "deit_tiny_patch16_224.fb_in1k`: apache-2.0" in fetched
    assert "hf:OWNER/NAME --download --img" in fetched and 'load_captioner("hf:OWNER/NAME", download=True)' in fetched
    assert ModelCard(fetched).data.base_model == ["timm/deit_tiny_patch16_224.fb_in1k"]
    assert "Hodosh, Young, Hockenmaier" in fetched and "non-commercial research" in fetched and "photographs" not in fetched
    described = describes(record)
    inside = make_card(described | {"encoder": described["encoder"] | {"stored": True}})
    assert "`; its weights are inside" in inside
    own = make_card(described | {"encoder": described["encoder"] | {"kind": "file", "tag": "make"}})
    assert "neither its weights nor its code are inside" in own and "hf:OWNER/NAME --encoder path/to/file.py:FACTORY --img" in own
    assert "`make`: not known here, see the source" in own and ModelCard(own).data.base_model is None
    made = make_card(described | {"encoder": described["encoder"] | {"kind": "timm", "tag": "convnext_femto.own", "stored": True}})
    assert "its weights are inside; they are nobody's published ones, so it stands in for no encoder of the paper" in made
    assert (
        "`convnext_femto.own`: its maker's; where `benchmarks/distill.py` made them: MIT" in made
        and ModelCard(made).data.base_model is None
    )
    named = make_card(described | {"language_model": {"name": "openai-community/gpt2"}, "data": {"name": "coco2014", "fingerprint": "f"}})
    assert "openai-community/gpt2" in ModelCard(named).data.base_model and "`openai-community/gpt2`: mit" in named
    assert ModelCard(named).data.license_name == DATA["coco"].name and "CC BY 4.0" in named


def test_the_demo_is_free_and_says_what_it_does_not_know(record):
    drawn = {"data": {"name": "demo", "fingerprint": "f"}}
    encoder = {"name": "demo_vit", "tag": "demo_vit", "kind": "demo", "weights_sha256": "0" * 64, "stored": True}
    text = make_card(describes(record, **drawn, encoder=encoder))
    assert ModelCard(text).data.license == "mit" and "of a photograph it says nonsense" in text
    assert ModelCard(make_card(describes(record, **drawn))).data.license == "unknown"  # weights of others are in it


def test_a_finished_training_has_a_card_and_a_killed_one_gets_it(trained, copy, data, monkeypatch):
    assert ModelCard.load(trained / CARD).data.pipeline_tag == "image-to-text"
    before = contents(copy)
    (copy / CARD).unlink()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        train(RunConfig(**SETTINGS), place(data, copy))
    monkeypatch.undo()
    assert contents(copy) == {name: content for name, content in before.items() if name != CARD}
    load_checkpoint(copy, build_model)  # whole without its card
    train(RunConfig(**SETTINGS), place(data, copy))
    assert contents(copy) == before


def test_a_card_is_no_part_of_the_weights_and_its_makers_words_stay(trained, copy, data):
    (copy / CARD).write_text("# mine\n")
    train(RunConfig(**SETTINGS), place(data, copy))
    assert (copy / CARD).read_text() == "# mine\n"
    assert load_checkpoint(copy, build_model)[2] == load_checkpoint(trained, build_model)[2]
    write_card(copy)
    assert contents(copy) == contents(trained)


def test_the_command_finds_the_record_beside(copy, record, tmp_path):
    run_id = read_description(copy)["run_id"]
    folder = Path(shutil.move(copy, tmp_path / "demo/checkpoints" / run_id))
    own = record | {"run_id": run_id, "files": {"checkpoint": {"sha256": read_description(folder)["model_sha256"]}}}
    command = [sys.executable, "-m", "captioning.model_card", str(folder)]

    def run(*more: str) -> str:
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        assert "Traceback" not in done.stderr and done.returncode == (2 if done.stderr else 0)
        return done.stderr or done.stdout

    unscored = (folder / CARD).read_text()
    (tmp_path / "demo/runs").mkdir()
    (tmp_path / "demo/runs" / f"{run_id}.json").write_text(json.dumps(own))
    assert run() == f"{folder / CARD}\n"
    scored = (folder / CARD).read_text()
    assert "coco, beam 5" in scored and "coco, beam 5" not in unscored
    assert "not of this checkpoint" in run("--record", str(RECORDS[0]))
    assert (folder / CARD).read_text() == scored
    lacking = own | {"cost": {}}
    (tmp_path / "demo/runs" / f"{run_id}.json").write_text(json.dumps(lacking))
    assert "lacks what a card says" in run() and "KeyError('train_seconds')" in run()
    failed = {name: own[name] for name in model_card.read_record(RECORDS[0]) if name not in ("scores", "files")}
    (tmp_path / "demo/runs" / f"{run_id}.json").write_text(json.dumps(failed | {"status": "failed", "reason": "out of memory"}))
    assert "the run failed, so it has no scores" in run()


def test_records_of_other_weights_are_refused(record):
    for changes in ({"run_id": "other-0-abc"}, {"model_sha256": "0" * 64}):
        with pytest.raises(BadInput, match="not of this checkpoint"):
            make_card(describes(record, **changes), record)


def test_what_ships_is_described():
    """checkpoints/README.md names every folder there; a captioner there has the card that its config.json and its record give."""
    text = (ROOT / "checkpoints" / CARD).read_text(encoding="utf-8")
    folders = [path for path in (ROOT / "checkpoints").iterdir() if path.is_dir()]
    assert folders and all(f"`{path.name}/`" in text for path in folders)
    captioners, home = [path for path in folders if (path / "config.json").exists()], ROOT / "results/evidence/flickr8k"
    for path in captioners:
        description = read_description(path)
        made = make_card(description, read_record(home / "runs" / f"{description['run_id']}.json"), find_distilled(home, description))
        assert (path / CARD).read_text(encoding="utf-8") == made
    assert len(captioners) >= 2
    ours = (ROOT / "checkpoints/flickr8k-convnext" / CARD).read_text(encoding="utf-8")
    assert (
        "`deit_tiny_patch16_224.fb_in1k` and `mobilenetv2_100.ra_in1k`, which were trained on ImageNet's labels, from 6,000 training"
        in ours
    )


def test_a_file_that_tells_nothing_of_the_distillation_is_named(record, tmp_path):
    (tmp_path / "distilled").mkdir()
    own = describes(record) | {"encoder": describes(record)["encoder"] | {"tag": "convnext_femto.own"}}
    assert find_distilled(tmp_path, own) is None
    (tmp_path / "distilled/x.json").write_text('{"schema": 1}')
    assert find_distilled(tmp_path, describes(record)) is None
    with pytest.raises(BadInput, match=r"x\.json: not what benchmarks/distill\.py writes"):
        find_distilled(tmp_path, own)
