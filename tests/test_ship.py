"""What is put under checkpoints/: a finished run's own weights with its card, nobody else's, none too large, and all of it or nothing."""

import copy
import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.ship import ship
from captioning.bad_input import BadInput
from captioning.checkpoint import SCHEMA
from captioning.records import read_record
from tests.test_model_card import RECORDS, describes

WEIGHTS = b"weights" * 1000


@pytest.fixture
def made(tmp_path):
    """(checkpoint, record) as a run leaves them; `change(description, record)` alters what they say."""
    record = read_record(next(path for path in RECORDS if path.name.startswith("deit-tiny-0-")))

    def make(change=lambda description, record: None) -> tuple[Path, Path]:
        found = copy.deepcopy(record)
        description = {"schema": SCHEMA, **describes(found)}
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        description["model_sha256"] = found["files"]["checkpoint"]["sha256"] = digest
        description["preprocessing"] = {}
        change(description, found)
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(description))
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        (folder / "state.pt").write_bytes(b"to go on with")
        (tmp_path / f"{found['run_id']}.json").write_text(json.dumps(found))
        return folder, tmp_path / f"{found['run_id']}.json"

    return make


def test_weights_config_and_card_and_nothing_else(made, tmp_path):
    to = ship(*made(), tmp_path / "checkpoints/shipped")
    assert sorted(path.name for path in to.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (to / "README.md").read_text()
    assert "CIDEr" in card and "non-commercial research" in card and (to / "model.safetensors").read_bytes() == WEIGHTS
    (to / "old.txt").write_text("of before")
    ship(*made(), to)
    assert not (to / "old.txt").exists() and [path.name for path in to.parent.iterdir()] == ["shipped"]


def began_elsewhere(description, record):
    description["encoder"] |= {"stored": True}


def of_another_run(description, record):
    record["files"]["checkpoint"]["sha256"] = "0" * 64


def a_published_language_model(description, record):
    description["language_model"], description["config"]["language_model"] = {"vocab_size": 3}, "openai-community/gpt2"


@pytest.mark.parametrize("change, said", [
    (began_elsewhere, "began as deit_tiny_patch16_224.fb_in1k, which are not ours"), (of_another_run, "not of this checkpoint"),
    (a_published_language_model, "weights of openai-community/gpt2"),
])  # fmt: skip
def test_what_is_not_ours_to_give_is_refused_and_nothing_is_left(made, tmp_path, change, said):
    with pytest.raises(BadInput, match=said):
        ship(*made(change), tmp_path / "checkpoints/shipped")
    assert not list(tmp_path.glob("checkpoints/*")) and not list(tmp_path.glob("checkpoints/.*"))


def test_weights_that_the_configuration_does_not_describe_are_refused(made, tmp_path):
    checkpoint, record = made()
    (checkpoint / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(BadInput, match="is not the file that its config.json describes"):
        ship(checkpoint, record, tmp_path / "checkpoints/shipped")
    assert not (tmp_path / "checkpoints").exists()


def test_a_folder_of_something_else_is_left_alone(made, tmp_path):
    (tmp_path / "checkpoints/demo").mkdir(parents=True)
    (tmp_path / "checkpoints/demo/weights").write_bytes(b"of years")
    for to in (tmp_path / "checkpoints", tmp_path / "checkpoints/demo/weights"):
        with pytest.raises(BadInput, match="a captioner takes a folder of its own, like"):
            ship(*made(), to)
    assert (tmp_path / "checkpoints/demo/weights").read_bytes() == b"of years"


def test_our_own_tuned_encoder_is_ours_and_too_large_is_refused(made, tmp_path):
    def ours(description, record):
        description["encoder"] |= {"stored": True, "tag": "convnext_femto.own"}

    assert ship(*made(ours), tmp_path / "shipped").is_dir()
    with pytest.raises(BadInput, match="at most 0.001 are shipped"):
        ship(*made(ours), tmp_path / "other", most=0.001)


@pytest.mark.parametrize("fault", [OSError("full"), KeyboardInterrupt()])
def test_what_lay_there_stays_where_the_new_one_cannot_take_its_place(made, tmp_path, monkeypatch, fault):
    to = ship(*made(), tmp_path / "checkpoints/shipped")
    (to / "old.txt").write_text("of before")
    rename = Path.rename

    def fail(self, target):
        if self.parent.name.startswith(".ship-") and self.name == to.name:
            raise fault
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(type(fault)):
        ship(*made(), to)
    assert (to / "old.txt").read_text() == "of before" and [path.name for path in to.parent.iterdir()] == ["shipped"]
