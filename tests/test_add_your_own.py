"""README's section "Add your own": each block is run as it stands."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from benchmarks.profiles import PROFILES
from captioning import config as configs
from captioning import load_captioner
from captioning.config import RunConfig
from captioning.data import CaptionData, Example
from captioning.decoder_state import Decoder, Forced, State, captions_in_turn
from captioning.decoding import search
from captioning.fingerprint import fingerprint
from captioning.image_files import find_images
from captioning.systems import SYSTEMS, System
from captioning.tokens import tokenize
from models import DECODERS, build_model
from tests.tiny import SETTINGS, make_data
from train import Where, train

ROOT = Path(__file__).resolve().parents[1]
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Add your own\n")[2].partition("\n## ")[0]
ENCODER, DECODER, DATA, EXPERIMENT = re.findall(r"```python\n(.*?)```", SECTION, re.S)


def test_they_are_short():
    lengths = [len([line for line in block.splitlines() if line.strip()]) for block in (ENCODER, DECODER, DATA, EXPERIMENT)]
    assert max(lengths) <= 20, lengths


def test_an_encoder(tmp_path):
    (tmp_path / "my_encoder.py").write_text(ENCODER)
    data = make_data(tmp_path / "data")
    config = RunConfig(**SETTINGS | {"encoder": f"{tmp_path / 'my_encoder.py'}:small", "epochs": 1, "image_size": 0})
    out = train(config, Where(data=str(data), out=str(tmp_path / "out"), cache=str(tmp_path / "cache"), device="cpu", workers=0))
    (caption,) = load_captioner(out, "cpu", encoder=config.encoder).caption([data / "images" / "test011.png"])
    assert isinstance(caption.text, str) and json.loads((out / "config.json").read_text())["encoder"]["kind"] == "file"


def test_a_decoder(tmp_path, monkeypatch):
    scope = {"Decoder": Decoder, "State": State, "Forced": Forced, "captions_in_turn": captions_in_turn, "nn": nn, "torch": torch}
    exec(DECODER, scope)
    monkeypatch.setattr(configs, "SYSTEM_NAMES", (*configs.SYSTEM_NAMES, "mean"))
    monkeypatch.setitem(SYSTEMS, "mean", System("the mean region into a GRU", "README"))
    monkeypatch.setitem(DECODERS, "mean", lambda D, R, V, config, language: scope["MeanDecoder"](D, V, config))
    data = make_data(tmp_path / "data")
    config = RunConfig(**SETTINGS | {"system": "mean", "epochs": 30, "penalty_weight": 0.0, "dropout": 0.0, "decoder_lr": 1e-2})
    out = train(config, Where(data=str(data), out=str(tmp_path / "out"), cache=str(tmp_path / "cache"), device="cpu", workers=0))
    captioner = load_captioner(out, "cpu")
    (caption,) = captioner.caption([data / "images" / "train000.png"], attend=True)
    assert "square" in caption.text or "thing" in caption.text
    assert caption.attention.shape[0] == len(caption.words)
    # What forward says is what stepping says.
    model = build_model(config, 12).eval()
    regions, words = torch.randn(2, 4, model.encoder.dim), torch.tensor([[1, 5, 6], [1, 7, 0]])
    logits, state = model.decoder(regions, words), model.decoder.start(regions)
    first, state = model.decoder.step(words[:, 0], state)
    assert torch.allclose(logits[:, 0], first, atol=1e-5)
    assert len(search(model.decoder, regions, configs.Decode(3, max_words=5))[0]) == 3


def test_a_data_set(tmp_path):
    scope = {"json": json, "Example": Example, "CaptionData": CaptionData, "find_images": find_images, "fingerprint": fingerprint}
    exec(DATA, scope | {"tokenize": tokenize}, own := {})
    folder = make_data(tmp_path / "data")
    rows = [
        {"id": entry["filename"], "file": entry["filename"], "split": entry["split"], "captions": [s["raw"] for s in entry["sentences"]]}
        for entry in json.loads((folder / "dataset_tiny.json").read_text())["images"]
    ]
    (folder / "mine.json").write_text(json.dumps(rows))
    own["load_mine"].__globals__.update(scope | {"tokenize": tokenize})
    data = own["load_mine"](folder)
    where = Where(data=str(folder), out=str(tmp_path / "out"), cache=str(tmp_path / "cache"), device="cpu", workers=0)
    out = train(RunConfig(**SETTINGS | {"epochs": 1}), where, data)
    assert json.loads((out / "config.json").read_text())["data"]["fingerprint"] == data.fingerprint


def test_an_experiment(tmp_path):
    (tmp_path / "widths.py").write_text(EXPERIMENT)
    code = "import sys; import widths; from benchmarks.profiles import PROFILES; rows = widths.runs(PROFILES['demo']);"
    code += "print([(l, c.name, c.hidden_dim) for l, c in rows], 'torch' in sys.modules)"
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    main = PROFILES["demo"].base
    assert f"half as wide', 'convnext-half', {main.hidden_dim // 2})]" in answer.stdout and answer.stdout.strip().endswith("False")
    assert dataclasses.is_dataclass(main)
