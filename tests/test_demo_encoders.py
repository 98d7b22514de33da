"""The demo's encoders: every member is a whole captioning encoder, every committed weight file is what its card says, and the script remakes such files."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from captioning import demo_encoders
from captioning.bad_input import BadInput
from captioning.scenes import COLOURS, RADII, SHAPES, SIDE, Stream, shape_stencil
from captioning.trunks import create_trunk, locate

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import pretrain_demo  # noqa: E402


def regions_of(encoder, images):
    features = encoder.forward_features(images)
    if features.dim() == 4:
        return features.flatten(2).transpose(1, 2)
    return features[:, encoder.num_prefix_tokens :]


@pytest.mark.parametrize("name", demo_encoders.names())
def test_members_have_a_grid_and_every_weight_learns(name):
    torch.manual_seed(0)
    encoder = demo_encoders.create(name)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # a residual branch that starts at zero hides its weights from the gradient
    stated = demo_encoders.preprocessing(name)
    regions = regions_of(encoder, torch.randn(3, 3, stated["size"], stated["size"]))
    assert regions.shape[:2] == (3, demo_encoders.GRID[0] * demo_encoders.GRID[1])
    (regions * torch.randn_like(regions)).sum().backward()
    without = [key for key, parameter in encoder.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    without = [key for key in without if not key.startswith("head.")]  # behind forward_features
    assert not without


@pytest.mark.parametrize("name", demo_encoders.names())
def test_committed_weights_are_what_the_card_says(name):
    path, card = demo_encoders.weights_path(name), demo_encoders.card(name)
    assert path.stat().st_size <= 1_000_000
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]
    assert card["steps"] == demo_encoders.MEMBERS[name].steps, "the script's defaults would make other weights than these"
    encoder, _ = create_trunk(locate(name, pretrained=True))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == card["parameters"]
    assert set(pretrain_demo.ATTRIBUTES) < set(card["accuracy"])


@pytest.mark.parametrize("name", demo_encoders.names())
@torch.inference_mode()
def test_regions_tell_shapes_apart(name):
    """The card's accuracy came from heads that are not kept. Without any training, a picture's nearest neighbour among others shows what the regions know."""
    encoder, preprocessing = create_trunk(locate(name, pretrained=True))
    encoder.eval()
    pixels, masks, attributes = pretrain_demo.draw_singles(0, 300)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    regions = regions_of(encoder, (pixels / 255 - mean) / std)
    shares = torch.nn.functional.adaptive_avg_pool2d(masks, demo_encoders.GRID).flatten(1).unsqueeze(2)  # (300, 64, 1)
    means = (regions * shares).sum(1) / shares.sum(1)
    means = torch.nn.functional.normalize(means - means.mean(0), dim=1)
    nearest = (means @ means.T).fill_diagonal_(-1).argmax(1)
    hits = (attributes[nearest] == attributes).float().mean(0)  # shape, colour, size, count, place
    assert hits[0] > 0.5 and hits[1] > 2 / len(COLOURS), f"chance is {1 / len(SHAPES):.2f} and {1 / len(COLOURS):.2f}"


def test_unknown_names_are_refused_in_one_line():
    for ask in (demo_encoders.create, demo_encoders.preprocessing, demo_encoders.weights_path, demo_encoders.card):
        with pytest.raises(BadInput, match="demo_convnext"):
            ask("demo_nothing")


def test_single_groups_are_whole_and_labelled_right():
    for number in range(60):
        side = (pretrain_demo.CROP, SIDE)[number % 2]
        picture, mask, (shape, colour, size, count, place) = pretrain_demo.draw_single(Stream(9, number), side)
        assert picture.shape == (side, side, 3) and mask.shape == (side, side)
        names, values = list(COLOURS), np.array(list(COLOURS.values()))
        assert names[np.abs(values - picture[mask].mean(0)).sum(1).argmin()] == names[colour]
        radii = RADII[tuple(RADII)[size]]
        assert mask.sum() in {(count + 1) * shape_stencil(SHAPES[shape], radius).sum() for radius in radii}, (
            "cut, or wrong shape, size or count"
        )
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        cell = side / pretrain_demo.PLACES
        for line, found in ((rows, place // pretrain_demo.PLACES), (columns, place % pretrain_demo.PLACES)):
            assert abs((line[0] + line[-1]) / 2 / cell - (found + 0.5)) < 0.5 + 1.5 / cell  # a drawn thing may stand a pixel off its square


def test_script_makes_the_same_bytes_again(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_demo, "HELD_OUT", 20)
    cards, threads = [], torch.get_num_threads()
    try:
        for folder in (tmp_path / "one", tmp_path / "two"):
            monkeypatch.setattr(sys, "argv", ["pretrain_demo.py", "--only", "demo_resnet", "--steps", "20", "--out", str(folder)])
            pretrain_demo.main()
            cards.append(json.loads((folder / "demo_resnet.json").read_text()))
            assert cards[-1]["sha256"] == hashlib.sha256((folder / "demo_resnet.safetensors").read_bytes()).hexdigest()
    finally:
        torch.set_num_threads(threads)
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["steps"] == 20 and cards[0]["command"].endswith("--only demo_resnet --steps 20")


@pytest.mark.parametrize("wrong", [["--only", "demo_nothing"], ["--steps", "3"]])
def test_script_refuses_in_one_line(wrong, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "pretrain_demo.py"), "--out", str(tmp_path), *wrong]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
