"""The presets: every switch is a setting of its own that works, and `as-published` trains, resumes and keeps no regions."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import train as training
from captioning.bad_input import BadInput, run_command
from captioning.config import RunConfig
from captioning.data import load_data
from captioning.inputs import keep_regions
from captioning.presets import PRESETS, SWITCHES, preset, switched
from models import build_model
from tests.tiny import make_data
from train import Training, Where, train

ROOT = Path(__file__).resolve().parents[1]
# What a run of a second can afford; none of it belongs to a switch but the encoder.
SMALL = {"embed_dim": 16, "attention_dim": 16, "hidden_dim": 32, "pretrained": False, "encoder": "convnext_atto", "grid": 0}
SMALL |= {"minimum_count": 1, "max_words": 12, "batch_size": 4, "epochs": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("tiny"))


def small(config: RunConfig, **changes) -> RunConfig:
    return dataclasses.replace(config, **{**SMALL, "image_size": 64, **changes})


def test_presets_are_made_of_switches_alone():
    fields = [name for switch in SWITCHES for name in switch.published]
    assert len(fields) == len(set(fields))
    for switch in SWITCHES:
        assert switch.published.keys() == switch.corrected.keys() and switch.elsewhere.keys() in (set(), switch.published.keys())
        assert switch.published != switch.corrected or switch.elsewhere, f"{switch.name} switches nothing"
    published, corrected = (dataclasses.asdict(PRESETS[name]) for name in ("as-published", "corrected"))
    assert {name for name in published if published[name] != corrected[name]} - {"name"} <= set(fields)


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
def test_a_switch_alone_changes_its_fields_and_trains(switch, folder, tmp_path):
    one, base = (dataclasses.asdict(config) for config in (switched(switch.name), PRESETS["corrected"]))
    changed = {name for name in one if one[name] != base[name]} - {"name"}
    assert changed and changed <= set(switch.published)
    fixed = {name: value for name, value in SMALL.items() if name not in changed - {"encoder", "epochs", "grid"}}
    if "batch_size" in changed:
        fixed["batch_size"] = 4
    config = dataclasses.replace(switched(switch.name), **fixed, image_size=64)
    out = train(config, Where(data=str(folder), out=str(tmp_path / "out"), cache=str(tmp_path), workers=0, device="cpu"))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all(np.isfinite(line["train_loss"]) for line in lines)


def test_unknown_names_are_refused():
    with pytest.raises(BadInput, match="--preset published: choose as-published, corrected"):
        preset("published")
    with pytest.raises(BadInput, match="no switch 'norm'; there are selection, train-mode"):
        switched("norm")


def test_as_published_is_the_paper_s_code():
    config = PRESETS["as-published"]
    assert (config.encoder, config.image_size, config.resize, config.normalise) == ("convnext_small.tv_in1k", 256, "squash", "imagenet")
    assert (config.batching, config.batch_size, config.epochs, config.decoder_lr) == ("captions", 32, 120, 4e-4)
    assert (config.schedule, config.patience, config.clip_value, config.clip_norm) == ("plateau", 20, 5.0, 0.0)
    assert (config.vocabulary, config.minimum_count, config.select, config.encoder_mode) == ("all", 6, "published", "train")


def test_as_published_keeps_no_regions_and_says_why(folder, tmp_path, capsys):
    config = small(PRESETS["as-published"], encoder="resnet10t")
    data = load_data(folder)
    with pytest.raises(BadInput, match="regions can't be kept: .*train mode"):
        keep_regions(data, build_model(config, 20, weights="none").encoder, config, tmp_path, workers=0)
    out = train(config, Where(out=str(tmp_path / "out"), cache=str(tmp_path), workers=0, device="cpu"), data)
    assert (out / "model.safetensors").is_file()
    assert "regions are not kept: an encoder in train mode" in capsys.readouterr().err
    assert not list(tmp_path.glob("regions-*"))
    with pytest.raises(BadInput, match="regions can't be kept: an encoder in train mode gives other regions at every step"):
        train(config, Where(out=str(tmp_path / "kept"), cache=str(tmp_path), workers=0, device="cpu", regions="keep"), data)


def test_kept_and_encoded_regions_give_the_same_run(folder, tmp_path):
    config, data, found = small(PRESETS["corrected"], final_norm=False), load_data(folder), []
    for regions in ("keep", "encode"):
        where = Where(out=str(tmp_path / regions), cache=str(tmp_path / regions), workers=0, device="cpu", regions=regions)
        lines = (train(config, where, data) / "metrics.jsonl").read_text().splitlines()
        found.append([json.loads(line)["train_loss"] for line in lines])
        assert bool(list((tmp_path / regions).glob("regions-*.npy"))) == (regions == "keep")
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_train_mode_costs_nothing_where_it_changes_nothing(folder, tmp_path):
    """timm's ConvNeXt-Atto drops no path and has no BatchNorm: its regions are the same at every step, so they are kept."""
    config = small(PRESETS["as-published"])
    assert config.encoder_mode == "train"
    out = train(config, Where(data=str(folder), out=str(tmp_path / "out"), cache=str(tmp_path), workers=0, device="cpu"))
    assert out.is_dir() and list(tmp_path.glob("regions-*.npy"))


@pytest.mark.parametrize("encoder", ["convnext_atto", "resnet10t"])
def test_a_drifting_encoder_is_resumed_exactly(encoder, folder, tmp_path):
    """Stochastic depth draws at every step, BatchNorm's statistics are part of the state."""
    config = small(PRESETS["as-published"], encoder=encoder)
    data = load_data(folder)
    results = []
    for name, stops in (("unbroken", ()), ("broken", (3, 2))):
        where = Where(out=str(tmp_path / name), cache=str(tmp_path), workers=0, device="cpu")
        for steps in stops:
            with pytest.raises(SystemExit):
                train(config, where, data, stop_after_steps=steps)
        out = train(config, where, data)
        lines = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (out / "metrics.jsonl").read_text().splitlines()]
        results.append((lines, (out / "model.safetensors").read_bytes()))
    assert results[0] == results[1]


def test_the_command_takes_a_preset_and_what_changes_it(monkeypatch):
    seen = []
    monkeypatch.setattr(training, "train", lambda config, where: seen.append((config, where)) or Path("out"))
    monkeypatch.setattr(sys, "argv", ["train.py", "--data", "x", "--preset", "as-published", "--epochs", "3"])
    training.main()
    assert seen[0][0] == dataclasses.replace(PRESETS["as-published"], epochs=3) and seen[0][1].data == "x"
    monkeypatch.setattr(sys, "argv", ["train.py", "--switch", "penalty", "gate", "--hidden-dim", "64"])
    training.main()
    one = seen[1][0]
    assert (one.penalty_over, one.gate, one.hidden_dim, one.activation) == ("sum", "scalar", 64, "relu")
    monkeypatch.setattr(sys, "argv", ["train.py", "--preset", "fixed"])
    with pytest.raises(SystemExit) as left:
        run_command(training.main)
    assert left.value.code == 2
    shown = subprocess.run([sys.executable, "train.py", "--preset", "as-published", "--help-all"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and "--preset" in shown.stdout and "as-published" in shown.stdout and "plateau" in shown.stdout


def test_the_plateau_lowers_the_rate_after_eight_epochs_without_a_better_score(folder, tmp_path, monkeypatch):
    """A score that is best in its second epoch: x0.8 at the end of the 10th and the 18th, the end after 20 without a better one."""
    config = small(PRESETS["as-published"], encoder="resnet10t", encoder_mode="eval", epochs=40, batch_size=100)
    run = Training(config, Where(out=str(tmp_path / "out"), cache=str(tmp_path), workers=0, device="cpu"), load_data(folder))
    rates = []
    score = {"val_bleu4_free": 0.0, "val_cross_entropy": 1.0, "val_top5": 1.0, "val_penalty": 1.0}
    monkeypatch.setattr(run, "_validate", lambda: score | {"val_bleu4_published": 2.0 if run.epoch == 1 else 1.0})
    learn = run._learn

    def note(chosen, batches):
        learn(chosen, batches)
        rates.append(run.optimiser.param_groups[0]["lr"])

    monkeypatch.setattr(run, "_learn", note)
    run.run()
    assert len(rates) == 22
    assert rates == pytest.approx([4e-4] * 10 + [3.2e-4] * 8 + [2.56e-4] * 4)


def test_gradients_are_cut_element_by_element(folder, tmp_path):
    config = small(PRESETS["as-published"], encoder="resnet10t", encoder_mode="eval", clip_value=1e-4)
    run = Training(config, Where(out=str(tmp_path / "out"), cache=str(tmp_path), workers=0, device="cpu"), load_data(folder))
    run.model.train()
    run._learn(np.arange(6), 1)
    gradients = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    assert float(gradients.abs().max()) == pytest.approx(1e-4) and int((gradients.abs() > 0.99e-4).sum()) > 100
