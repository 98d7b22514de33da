"""Kept regions: computed once, named by all they depend on, trusted only when whole; equal to what the encoder gives at once."""

import dataclasses
import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from captioning import regions as regions_module
from captioning import trunks
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


def encode(first):
    for place in range(first, 5, 2):
        yield VALUES[place : place + 2]


def never(*_):
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


KILLED = """
import sys, numpy as np
from pathlib import Path
from captioning import regions
regions.NOTED_EVERY_SECONDS = {noted}
def encode(first):
    yield np.full((2, 4, 3), {value}, np.float16)
    yield np.full((2, 4, 3), 0, np.float16)[: {second}]
    print('half', flush=True)
    sys.stdin.read()
regions.cached_regions(Path({path!r}), {shape}, encode)
"""


def kill_a_build(path, noted, value=0, second=0):
    script = KILLED.format(noted=noted, value=value, second=second, path=str(path), shape=SHAPE)
    builder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert builder.stdout.readline() == b"half\n"
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert not path.exists() and list(path.parent.glob(".*.partial"))


def test_a_killed_build_leaves_nothing_that_is_trusted(tmp_path):
    """What it had not surely brought to the disk is encoded again."""
    kill_a_build(tmp_path / "regions.npy", noted=1000)
    assert np.array_equal(cached_regions(tmp_path / "regions.npy", SHAPE, encode), VALUES)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".regions.npy.lock"] == ["regions.npy"]


def test_a_killed_build_is_gone_on_with(tmp_path):
    path, asked = tmp_path / "regions.npy", []
    kill_a_build(path, noted=-1, value=7)

    def rest(first):
        asked.append(first)
        yield from encode(first)

    found = cached_regions(path, SHAPE, rest)
    assert asked == [2] and (found[:2] == 7).all() and np.array_equal(found[2:], VALUES[2:])


def test_a_build_that_was_killed_at_another_shape_is_not_gone_on_with(tmp_path):
    kill_a_build(tmp_path / "regions.npy", noted=-1, value=7)
    assert not cached_regions(tmp_path / "regions.npy", (5, 3, 4), lambda _: [np.zeros((5, 3, 4))]).any()


def test_rows_that_a_crash_took_from_the_disk_are_encoded_again(tmp_path):
    kill_a_build(tmp_path / "regions.npy", noted=-1, value=7)
    partial = next(tmp_path.glob(".*.partial"))
    os.truncate(partial, partial.stat().st_size - 1)
    assert np.array_equal(cached_regions(tmp_path / "regions.npy", SHAPE, encode), VALUES)


def test_no_space_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "regions.npy"

    def full(_first):
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
    ]
    assert len({own, *others}) == 8
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


def test_a_users_file_that_loads_other_weights_is_another_encoder(tmp_path):
    """The file is the same, what it loads is not."""
    (tmp_path / "own.py").write_text(
        "import torch\nfrom pathlib import Path\nfrom tests.tiny_encoder import TinyEncoder\n"
        "def make():\n    module = TinyEncoder()\n    value = float(Path(__file__).with_name('weight').read_text())\n"
        "    for p in module.parameters():\n        p.data = torch.linspace(0, value, p.numel()).view(p.shape)\n    return module\n"
        "def draw():\n    return TinyEncoder()\n"
        "def partly():\n    module = make()\n    module.head = torch.nn.Linear(3, 3)\n    return module\n"
    )
    sources = []
    for value, factory in (("1.5", "make"), ("2.5", "make"), ("1.5", "make"), ("1.5", "partly"), ("2.5", "partly"), ("2.5", "draw")):
        (tmp_path / "weight").write_text(value)
        trunks._weights_of_users_file.cache_clear()
        sources.append(trunks.locate(f"{tmp_path}/own.py:{factory}", True))
    hashes = [source.weights_sha256 for source in sources]
    assert hashes[0] == hashes[2] and len(set(hashes)) == 5
    assert [source.follows_seed for source in sources] == [False, False, False, True, True, True]
    assert hashes[5] == "none" and all(h.endswith("+seed") for h in hashes[3:5])


def test_what_a_users_file_prints_is_not_taken_for_its_weights(tmp_path):
    """At the end too; and a file that ends the process is named."""
    found = []
    for name, line in (("quiet", ""), ("loud", "import atexit; atexit.register(lambda: print('bye'))\nprint('hello', end='')\n")):
        (tmp_path / f"{name}.py").write_text(
            f"{line}from tests.tiny_encoder import TinyEncoder\nimport torch\ndef make():\n    torch.manual_seed(0)\n    return TinyEncoder()\n"
        )
        trunks._weights_of_users_file.cache_clear()
        found.append(trunks.locate(f"{tmp_path}/{name}.py:make", True).weights_sha256)
    assert found[0] == found[1] and re.fullmatch("[0-9a-f]{64}", found[0])
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(BadInput, match="the file left before its factory was called"):
        trunks.locate(f"{tmp_path}/leaves.py:make", True)


def test_out_of_memory_encodes_in_halves(data, tmp_path):
    """14 images: as asked for, memory holds 3."""
    config = RunConfig(**SETTINGS)
    encoder = build_encoder(config)
    expected = open_inputs(data, encoder, config, tmp_path / "one", workers=0).get(range(14)).clone()
    features = encoder.trunk.forward_features

    def small(images):
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return features(images)

    encoder.trunk.forward_features = small
    found = open_inputs(data, encoder, config, tmp_path / "two", workers=0).get(range(14))
    assert torch.allclose(found.float(), expected.float(), atol=2e-3)
    encoder.trunk.forward_features = lambda images: small(torch.cat([images] * 4))
    with pytest.raises(BadInput, match="out of memory with one image"):
        open_inputs(data, encoder, config, tmp_path / "three", workers=0)
