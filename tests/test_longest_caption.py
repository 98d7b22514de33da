"""Decoders with a fixed number of positions: what they can say at most is the default, and asking for more is one sentence."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import caption
from captioning.bad_input import BadInput
from captioning.checkpoint import save_checkpoint
from captioning.config import Decode, RunConfig
from captioning.vocabulary import END, Vocabulary
from models import build_model
from tests.tiny import SETTINGS

SMALL = {"encoder": "demo_resnet", "pretrained": True, "layers": 1, "heads": 2, "width": 16, "penalty_weight": 0.0}


@pytest.fixture(params=["transformer", "sep"])
def checkpoint(request, tmp_path):
    """A captioner that never ends by itself, with 7 places for words."""
    config = RunConfig(**{**SETTINGS, **SMALL, "system": request.param, "max_words": 7})
    vocabulary = Vocabulary.build(["a red square"], 1)
    torch.manual_seed(0)
    model = build_model(config, len(vocabulary))
    if request.param == "sep":
        model.decoder.longest = 7  # as a language model of few positions has it
    with torch.no_grad():
        say = model.decoder.embedding if request.param == "transformer" else model.decoder.model.wte
        say.weight[END] = 0.0
    facts = {"run_id": "x", "data": {"name": "tiny", "fingerprint": "f"}, "epoch": 1, "scores": {"val_bleu4_free": 0.0}}
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_checkpoint(folder, model, config, vocabulary, facts)
    return caption.Captioner(model, vocabulary, {"config": {"system": request.param, "features": "regions"}}, torch.device("cpu")), folder


def test_the_default_is_what_the_decoder_can_say(checkpoint):
    captioner, _ = checkpoint
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (found,) = captioner.caption([picture])
    assert len(found.words) <= 7 == captioner.most_words()
    assert captioner.caption([picture], Decode(max_words=7)) == [found]
    with pytest.raises(BadInput, match=r"--max-words 8: this captioner has positions for 7"):
        captioner.caption([picture], Decode(max_words=8))


def test_the_command_line_goes_by_it(checkpoint, tmp_path, capsys, monkeypatch):
    captioner, folder = checkpoint
    Image.new("RGB", (80, 60), "red").save(tmp_path / "p.png")
    monkeypatch.setattr(caption, "load_captioner", lambda *_: _described(captioner))
    monkeypatch.setattr("sys.argv", ["caption.py", "--img", str(tmp_path / "p.png"), "--checkpoint", str(folder)])
    assert caption.main() == 0
    assert len(capsys.readouterr().out.split()) <= 7
    monkeypatch.setattr("sys.argv", [*sys.argv, "--max-words", "50"])
    with pytest.raises(BadInput, match="positions for 7"):
        caption.main()


def _described(captioner):
    captioner.description |= {"data": {"name": "tiny"}}
    return captioner
