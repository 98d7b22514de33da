"""Kept regions: computed once, named by all they depend on, trusted only when whole; equal to what the encoder gives at once."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from captioning import regions as regions_module
from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.data import load_data
from captioning.inputs import KeptRegions, Pixels, open_inputs
from captioning.regions import cached_regions, regions_key
from captioning.trunks import Preprocessing, TrunkSource
from models import build_encoder
from tests.tiny import SETTINGS, make_data

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (5, 4, 3)
VALUES = np.arange(60, dtype=np.float16).reshape(SHAPE)
OWN = {**SETTINGS, "encoder": f"{ROOT}/tests/tiny_encoder.py:make", "image_size": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_data(make_data(tmp_path_factory.mktemp("tiny")))


def encode():
    yield VALUES[:2]
    yield VALUES[2:]


def never():
    raise AssertionError("the regions are there already")


def test_computed_once_and_bit_equal(tmp_path):
    path = tmp_path / "cache" / "regions.npy"
    assert np.array_equal(cached_regions(path, SHAPE, encode), VALUES)
    again = cached_regions(path, SHAPE, never)
    assert isinstance(again, np.memmap) and again.dtype == np.float16 and np.array_equal(again, VALUES)


def test_where_there_are_no_locks_regions_are_still_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("captioning.cache._lock", lambda *_: False)
    cached_regions(tmp_path / "regions.npy", SHAPE, encode)
    assert np.array_equal(cached_regions(tmp_path / "regions.npy", SHAPE, never), VALUES)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY half", "shape"], ids=["empty", "cut", "other-shape"])
def test_a_damaged_file_is_made_again(tmp_path, content):
    path = tmp_path / "regions.npy"
    np.save(path, np.zeros((9, 4, 3), np.float16))
    if content != "shape":
        path.write_bytes(content)
    assert np.array_equal(cached_regions(path, SHAPE, encode), VALUES)


def test_a_killed_build_leaves_nothing_that_is_trusted(tmp_path):
    script = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom captioning.regions import cached_regions\n"
        "def encode():\n    yield np.zeros((2, 4, 3), np.float16)\n    print('half', flush=True)\n    sys.stdin.read()\n"
        f"cached_regions(Path({str(tmp_path / 'regions.npy')!r}), {SHAPE}, encode)\n"
    )
    builder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert builder.stdout.readline() == b"half\n"
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert list(tmp_path.glob(".*.partial")) and not (tmp_path / "regions.npy").exists()
    assert np.array_equal(cached_regions(tmp_path / "regions.npy", SHAPE, encode), VALUES)
    assert not list(tmp_path.glob(".*.partial"))


def test_no_space_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "regions.npy"

    def full():
        yield VALUES[:2]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(BadInput, match="regions need .* GB are free; .*--cache"):
        cached_regions(path, SHAPE, full)
    monkeypatch.setattr(regions_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(BadInput, match="--cache"):
        cached_regions(path, SHAPE, never)
    assert [p.name for p in tmp_path.iterdir()] == [".regions.npy.lock"]


def test_the_key_names_all_that_the_numbers_depend_on():
    source = TrunkSource("resnet10t", "resnet10t.c3_in1k", "timm", None, "abc")
    size = Preprocessing(64, (0.5,) * 3, (0.5,) * 3)
    own = regions_key(source, size, 0, "data", 0)
    others = [
        regions_key(dataclasses.replace(source, weights_sha256="abd"), size, 0, "data", 0),
        regions_key(dataclasses.replace(source, tag="resnet10t.other"), size, 0, "data", 0),
        regions_key(dataclasses.replace(source, file_sha256="f"), size, 0, "data", 0),
        regions_key(source, dataclasses.replace(size, size=96), 0, "data", 0),
        regions_key(source, dataclasses.replace(size, resize="crop"), 0, "data", 0),
        regions_key(source, size, 7, "data", 0),
        regions_key(source, size, 0, "other data", 0),
        regions_key(source, size, 0, "data", 0, probe=b"other weights"),
    ]
    assert len({own, *others}) == 9
    assert regions_key(source, size, 0, "data", 1) == own  # the weights are the same, whatever the seed
    random = dataclasses.replace(source, weights_sha256="none")
    assert regions_key(random, size, 0, "data", 1) != regions_key(random, size, 0, "data", 0)


def test_kept_regions_are_what_the_encoder_gives(data, tmp_path):
    config = RunConfig(**SETTINGS)
    encoder = build_encoder(config)
    kept = open_inputs(data, encoder, config, tmp_path, workers=0)
    assert isinstance(kept, KeptRegions)
    pixels = open_inputs(data, encoder, dataclasses.replace(config, augment="crop"), tmp_path, workers=0)
    assert isinstance(pixels, Pixels)  # augmented pictures have no lasting regions
    with torch.no_grad():
        direct = encoder(encoder.scale(pixels.get([7, 0, 3])))
    assert torch.allclose(kept.get([7, 0, 3]).float(), direct, atol=2e-3)
    encoder.trunk.forward_features = never
    assert torch.equal(open_inputs(data, encoder, config, tmp_path, workers=0).get(range(14)), kept.get(range(14)))


def test_a_users_file_that_loads_other_weights_gets_other_regions(data, tmp_path):
    """The file is the same, what it loads is not: no hash in the configuration tells."""
    config = RunConfig(**OWN)
    encoder = build_encoder(config)
    first = open_inputs(data, encoder, config, tmp_path, workers=0).get([0]).clone()
    with torch.no_grad():
        encoder.trunk.layers[0].weight.mul_(2)
    assert not torch.equal(open_inputs(data, encoder, config, tmp_path, workers=0).get([0]), first)
