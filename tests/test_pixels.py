"""Pixels: what the map holds, who may build it and be killed at it, streaming, and augmentation that depends on nothing but its seed."""

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_sets import make_set, picture

from captioning import pixels as pixels_file
from captioning.augment import KINDS, augment, mentions_side
from captioning.bad_input import BadInput
from captioning.data import load_data
from captioning.pixels import PixelStore, StreamedPixels, open_pixels, resize
from captioning.workers import map_chunks

ROOT = Path(__file__).parents[1]
ALL_KINDS = tuple(KINDS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECAP_CACHE", str(folder))
    return folder


@pytest.fixture
def data(tmp_path, cache):
    return load_data(make_set(tmp_path / "set", count=70))


@pytest.mark.parametrize("rule", ["squash", "crop"])
@pytest.mark.parametrize("size", [(64, 64), (90, 60), (50, 131)])
def test_resize_is_torchvisions(rule, size):
    from torchvision.transforms import v2

    image = picture(1, size)
    steps = (
        [v2.Resize((32, 32), v2.InterpolationMode.BICUBIC)]
        if rule == "squash"
        else [v2.Resize(32, v2.InterpolationMode.BICUBIC), v2.CenterCrop(32)]
    )
    expected = np.asarray(v2.Compose(steps)(image), dtype=int)
    ours = np.asarray(resize(image, 32, rule, "bicubic"), dtype=int)
    # torchvision rounds the longer side and the crop's corner to whole pixels; the cropped square here is exact.
    assert np.abs(ours - expected).mean() <= (0 if rule == "squash" or size[0] == size[1] else 3)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.integers(1, 40),
    st.sampled_from(["squash", "crop"]),
    st.sampled_from(["nearest", "bilinear", "lanczos"]),
)
def test_resize_of_any_picture(width, height, size, rule, interpolation):
    assert resize(picture(0, (width, height)), size, rule, interpolation).size == (size, size)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_map_holds_every_image_in_its_place(data, cache, workers):
    store = open_pixels(data, 24, "squash", "bilinear", workers=workers)
    assert isinstance(store, PixelStore) and len(store) == 70
    assert store.path == cache / f"pixels-{data.fingerprint[:16]}-24-squash-bilinear.npy"
    for index in (0, 31, 32, 69):
        assert np.array_equal(store[index], resize(data.open_image(index), 24, "squash", "bilinear"))
    batch = store.get_batch([5, 2, 5])
    assert batch.dtype == np.uint8 and batch.shape == (3, 24, 24, 3) and type(batch) is np.ndarray
    assert np.array_equal(batch, np.stack([store[5], store[2], store[5]]))
    assert batch.flags.writeable and store[0].flags.writeable
    assert np.array_equal(np.load(store.path), store.array)
    assert [name for name in os.listdir(cache) if name.endswith(".partial")] == []


def test_second_opening_builds_nothing(data, monkeypatch):
    open_pixels(data, 16, workers=0)
    monkeypatch.setattr(pixels_file, "_build", lambda *_: pytest.fail("built again"))
    assert len(open_pixels(data, 16, workers=0)) == 70


def test_works_when_the_parent_has_computed_with_torch(data):
    import torch

    assert (torch.ones(64, 64) @ torch.ones(64, 64)).sum() == 64**3
    assert len(open_pixels(data, 16, workers=2)) == 70


def test_store_travels_as_its_path(data):
    store = open_pixels(data, 64, workers=0)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent)[3], store[3])


def test_streamed_equals_mapped(data):
    store = open_pixels(data, 24, "crop", "bicubic", workers=0)
    for workers in (0, 2):
        streamed = open_pixels(data, 24, "crop", "bicubic", workers=workers, limit_bytes=1000)
        assert isinstance(streamed, StreamedPixels) and len(streamed) == 70
        assert np.array_equal(streamed[4], store[4])
        assert np.array_equal(streamed.get_batch(range(3, 9)), store.get_batch(range(3, 9)))
        assert np.array_equal(pickle.loads(pickle.dumps(streamed)).get_batch([1, 0]), store.get_batch([1, 0]))


@pytest.mark.parametrize("limit", [0, 10e9])
def test_batches_come_in_order_and_transformed(data, limit):
    pixels = open_pixels(data, 16, workers=2, limit_bytes=limit)
    lists = [[0, 1, 2], [69], [], [5, 5], *[[i, i + 1] for i in range(20)]]
    plain = list(pixels.batches(lists))
    assert len(plain) == len(lists)
    assert all(np.array_equal(batch, pixels.get_batch(indices)) for batch, indices in zip(plain, lists, strict=True))
    changed = list(pixels.batches(lists, lambda image, index: np.full_like(image, index)))
    assert all((batch == np.reshape(indices, (-1, 1, 1, 1))).all() for batch, indices in zip(changed, lists, strict=True) if indices)


def test_streaming_survives_a_fork(data):
    streamed = StreamedPixels(data, 16, "squash", "bicubic", workers=2)
    expected = streamed.get_batch([0, 1])
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(streamed.get_batch([0, 1]), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_stop_the_build_by_name(data, cache, workers):
    folder = data.root / "images"
    (folder / "photo-40.jpg").write_bytes((folder / "photo-40.jpg").read_bytes()[:300])
    with pytest.raises(BadInput, match=r"photo-40\.jpg.*cut short"):
        open_pixels(data, 16, workers=workers)
    (folder / "photo-41.jpg").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        open_pixels(data, 16, workers=workers)
    assert "photo-40.jpg" in str(caught.value) and "photo-41.jpg" in str(caught.value)
    assert not [name for name in os.listdir(cache) if name.endswith((".npy", ".partial"))]
    with pytest.raises(BadInput, match=r"photo-41\.jpg"):
        list(open_pixels(data, 16, workers=workers, limit_bytes=0).batches([[41]]))


def test_a_full_disk_is_seen_before(data, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(BadInput, match="RECAP_CACHE"):
        open_pixels(data, 64, workers=0)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
def test_a_full_disk_while_reserving_leaves_nothing(data, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BadInput, match="RECAP_CACHE"):
        open_pixels(data, 64, workers=0)
    assert not [name for name in os.listdir(cache) if name.endswith((".npy", ".partial"))]


def test_a_damaged_map_is_built_again(data):
    path = open_pixels(data, 16, workers=0).path
    path.write_bytes(path.read_bytes()[:5000])
    assert np.array_equal(open_pixels(data, 16, workers=0)[69], resize(data.open_image(69), 16, "squash", "bicubic"))


@pytest.mark.parametrize("arguments", [(0, "squash", "bicubic"), (8, "stretch", "bicubic"), (8, "squash", "cubic")])
def test_wrong_settings_are_named(data, arguments):
    with pytest.raises(BadInput, match="image size|resize rule|interpolation"):
        open_pixels(data, *arguments)


SLOW_BUILD = """
import sys, time
from captioning.data import load_data
from captioning.image_files import ImageFiles
from captioning.pixels import open_pixels
root, pause = sys.argv[1], float(sys.argv[2])
data = load_data(root)
opened = ImageFiles.open
ImageFiles.open = lambda *a: (time.sleep(pause), opened(*a))[1]
print("start", flush=True)
print(open_pixels(data, 16, workers=2).array.sum(), flush=True)
"""


def start_build(data, pause):
    command = [sys.executable, "-c", SLOW_BUILD, str(data.root), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_remains(cache, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = list(cache.glob(".*.partial"))
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("the build never began")


def alive_in_group(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_build_is_never_trusted_and_its_workers_leave(data, cache):
    builder = start_build(data, 0.05)
    wait_for_remains(cache)
    time.sleep(0.3)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert list(cache.glob(".*.partial")) and not list(cache.glob("*.npy"))
    store = open_pixels(data, 16, workers=0)  # waits until the last worker has let go
    assert not list(cache.glob(".*.partial"))
    assert all(np.array_equal(store[i], resize(data.open_image(i), 16, "squash", "bicubic")) for i in range(70))
    end = time.monotonic() + 10
    while alive_in_group(builder.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive_in_group(builder.pid)
    builder.stdout.close(), builder.stderr.close()


def test_two_builders_at_once_do_the_work_once(data, cache):
    builders = [start_build(data, 0.02) for _ in range(2)]
    outputs = [builder.communicate(timeout=60) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert sum("waiting for another process" in err for _, err in outputs) <= 1
    assert len(list(cache.glob("pixels-*.npy"))) == 1 and not list(cache.glob(".*.partial"))


def leave(shared, chunk):
    os._exit(9)


def test_a_killed_worker_is_said():
    with pytest.raises(BadInput, match="memory"):
        list(map_chunks(leave, None, [range(3)] * 3, workers=2))


# Augmentation


def side(number=0, size=48):
    return np.asarray(picture(number, (size, size)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 500), st.integers(0, 10**6), st.lists(st.sampled_from(ALL_KINDS), unique=True))
def test_augmentation_depends_on_seed_epoch_and_image_alone(seed, epoch, index, kinds):
    pixels = side()
    first = augment(pixels, seed, epoch, index, kinds)
    np.random.rand()  # the global generator's state has no say
    again = augment(pixels, seed, epoch, index, list(reversed(kinds)))
    assert np.array_equal(first, again) and first.dtype == np.uint8 and first.shape == pixels.shape
    assert first.flags.c_contiguous and not np.shares_memory(first, pixels)
    assert np.array_equal(pixels, side())


def test_augmentation_leaves_global_generators_alone():
    import torch

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    augment(side(), 1, 2, 3, ALL_KINDS)
    assert (
        random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1] and torch.equal(torch.get_rng_state(), states[2])
    )


def test_epochs_images_and_seeds_differ():
    changed = {augment(side(), seed, epoch, index, ("crop",)).tobytes() for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)}
    assert len(changed) == 8


def test_one_more_kind_does_not_move_the_others():
    for index in range(20):
        flipped = augment(side(), 0, 0, index, ("flip",))
        both = augment(side(), 0, 0, index, ("colour", "flip"))
        coloured = augment(side(), 0, 0, index, ("colour",))
        assert np.array_equal(both, coloured if np.array_equal(flipped, side()) else coloured[:, ::-1])


def test_flips_are_mirrors_half_of_the_time():
    mirrored = [np.array_equal(augment(side(), 0, 0, i, ("flip",)), side()[:, ::-1]) for i in range(400)]
    kept = [np.array_equal(augment(side(), 0, 0, i, ("flip",)), side()) for i in range(400)]
    assert [a != b for a, b in zip(mirrored, kept, strict=True)] == [True] * 400
    assert 150 < sum(mirrored) < 250


def test_no_kind_changes_nothing_and_a_strange_one_is_named():
    assert np.array_equal(augment(side(), 0, 0, 0, ()), side())
    with pytest.raises(BadInput, match="crop, colour, flip"):
        augment(side(), 0, 0, 0, ("rotate",))


@pytest.mark.parametrize(
    ("caption", "says"),
    [
        ("a dog on the left", True),
        ("A Right-handed batter", True),
        ("the rightmost disc", True),
        ("a bright light", False),
        ("leftover pizza", False),
        ("a clefted rock", False),
        ("", False),
    ],
)
def test_captions_that_name_a_side(caption, says):
    assert mentions_side(("a dog", caption)) is says
