"""Data sets: the same set from a folder and from tars, both fingerprints equal, and one line for everything that can be wrong with one."""

import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from photo_sets import make_set, rows, write_json

from captioning import fingerprint as fingerprints
from captioning.bad_input import BadInput
from captioning.data import broken_images, describe, load_data
from captioning.images import open_image
from captioning.vocabulary import SPECIALS, Vocabulary

ROOT = Path(__file__).parents[1]
FLICKR8K = os.environ.get("RECAP_TEST_FLICKR8K", "")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECAP_CACHE", str(folder))
    return folder


def to_tars(source: Path, target: Path, prefix: str = "") -> Path:
    """The set at `source` (made by make_set) with its images in two tars."""
    target.mkdir()
    (target / "dataset_small.json").write_bytes((source / "dataset_small.json").read_bytes())
    files = sorted((source / "images").rglob("*.jpg"))
    for number, part in enumerate((files[:3], files[3:])):
        with tarfile.open(target / f"images-{number}.tar", "w") as tar:
            for file in part:
                tar.add(file, prefix + str(file.relative_to(source / "images")))
    return target


def test_rows_become_examples(tmp_path):
    data = load_data(make_set(tmp_path / "set"))
    first = data.examples[0]
    assert (data.name, len(data), data.root) == ("small", 8, tmp_path / "set")
    assert (first.image_id, first.file, first.split) == ("photo-0", "photo-0.jpg", "train")
    assert first.captions == ("a dog runs", "two dogs run 0")
    assert first.raw == ("A dog runs.", "Two dogs run 0.")
    assert data.split("train") == [0, 1, 2, 5] and data.split("val") == [3, 6] and data.split("test") == [4, 7]
    with pytest.raises(BadInput, match="train, val, test"):
        data.split("restval")


@pytest.mark.parametrize("images", ["", "images", "Images", "Flicker8k_Dataset", "my photos"])
def test_images_are_found_in_the_usual_folders_and_in_others(tmp_path, images):
    data = load_data(make_set(tmp_path / "set", images=images))
    assert np.array_equal(data.open_image(5), open_image(tmp_path / "set" / images / "photo-5.jpg"))


@pytest.mark.parametrize("images", ["", "images"])
def test_coco_has_folders_and_ids_of_its_own(tmp_path, images):
    data = load_data(make_set(tmp_path / "set", images=images, folder="val2014"))
    assert (data.examples[2].image_id, data.examples[2].file) == ("1002", "val2014/photo-2.jpg")
    assert data.open_image(2).size == (40, 30)


def test_path_of_the_json_works_too(tmp_path):
    path = make_set(tmp_path / "set") / "dataset_small.json"
    assert load_data(path).fingerprint == load_data(str(path.parent)).fingerprint


@pytest.mark.parametrize("prefix", ["", "./", "Images/"])
@pytest.mark.parametrize("folder", [None, "train2014"])
def test_tars_hold_the_same_set_as_folders(tmp_path, prefix, folder):
    in_folder = load_data(make_set(tmp_path / "set", folder=folder))
    for _ in range(2):  # the second time from the kept index
        in_tars = load_data(to_tars(tmp_path / "set", tmp_path / "tars", prefix) if not (tmp_path / "tars").exists() else tmp_path / "tars")
        assert in_tars.examples == in_folder.examples
        assert in_tars.fingerprint == in_folder.fingerprint
        for index in range(8):
            assert in_tars.images.read(index) == in_folder.images.read(index)
            assert np.array_equal(in_tars.open_image(index), in_folder.open_image(index))


def test_tar_members_survive_a_fork_and_a_pickle(tmp_path):
    make_set(tmp_path / "set")
    data = load_data(to_tars(tmp_path / "set", tmp_path / "tars"))
    expected = data.images.read(7)  # opens the tar in the parent
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"1" if all(data.images.read(i) for i in range(8)) and data.images.read(7) == expected else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    assert pickle.loads(pickle.dumps(data)).images.read(7) == expected


def test_fingerprint_moves_with_captions_splits_and_images_only(tmp_path):
    root = make_set(tmp_path / "set")
    first = load_data(root).fingerprint
    assert load_data(root).fingerprint == first and len(first) == 64

    changed = rows()
    changed[0]["sentences"][0]["tokens"] = ["a", "cat", "runs"]
    write_json(root, changed)
    assert load_data(root).fingerprint != first
    changed = rows()
    changed[0]["split"] = "val"
    write_json(root, changed)
    assert load_data(root).fingerprint != first
    write_json(root, rows())
    assert load_data(root).fingerprint == first

    photo = root / "images" / "photo-4.jpg"
    content = bytearray(photo.read_bytes())
    content[-5] ^= 1  # the same size
    photo.write_bytes(bytes(content))
    os.utime(photo, ns=(1, 1))
    assert load_data(root).fingerprint != first


def test_fingerprint_of_a_large_set_samples_contents_but_sees_every_size(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "SMALL_COUNT", 4)
    monkeypatch.setattr(fingerprints, "SAMPLE", 2)
    root = make_set(tmp_path / "set")
    make = load_data(root)
    read = []
    monkeypatch.setattr(type(make.images), "read", lambda self, index: read.append(index) or b"")
    fingerprints._hash_images([example.file for example in make.examples], make.images)
    assert len(read) == 2
    monkeypatch.undo()
    monkeypatch.setenv("RECAP_CACHE", str(tmp_path / "cache"))
    photo = root / "images" / "photo-4.jpg"
    photo.write_bytes(photo.read_bytes() + b"\0")
    assert load_data(root).fingerprint != make.fingerprint


def test_second_start_reads_no_image(tmp_path, monkeypatch):
    root = make_set(tmp_path / "set")
    first = load_data(root)
    monkeypatch.setattr(type(first.images), "read", lambda self, index: pytest.fail("hashed again"))
    assert load_data(root).fingerprint == first.fingerprint


def test_a_cache_folder_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RECAP_CACHE", str(tmp_path / "file" / "below"))
    make_set(tmp_path / "set")
    assert len(load_data(to_tars(tmp_path / "set", tmp_path / "tars"))) == 8


def change(number, **fields):
    def apply(images):
        images[number] |= fields

    return apply


def sentence(tokens, raw="x"):
    return {"tokens": tokens, "raw": raw, "imgid": 0, "sentid": 0}


WRONG = {
    "no captions": (change(3, sentences=[]), "without captions (photo-3.jpg)"),
    "empty caption": (change(3, sentences=[sentence([])]), "empty caption (photo-3.jpg)"),
    "blank caption": (change(3, sentences=[sentence([" ", ""])]), "empty caption (photo-3.jpg)"),
    "no tokens": (change(3, sentences=[{"raw": "A dog."}]), "photo-3.jpg has a sentence without a list of tokens"),
    "tokens are a text": (change(3, sentences=[sentence("a dog")]), "photo-3.jpg has a sentence without a list of tokens"),
    "tokens are numbers": (change(3, sentences=[sentence([1, 2])]), "photo-3.jpg has a sentence without a list of tokens"),
    "same file twice": (change(3, filename="photo-2.jpg"), "duplicate id"),
    "same stem twice": (change(3, filename="photo-2.png"), "duplicate id"),
    "same imgid twice": (change(3, imgid=2), "duplicate id"),
    "same cocoid twice": (lambda images: [image.update(cocoid=7) for image in images[:2]], "duplicate id"),
    "missing image": (change(3, filename="gone.jpg"), "1 of 8 images are missing (gone.jpg)"),
    "all images missing": (
        lambda images: [image.update(filename=f"x{i}.jpg") for i, image in enumerate(images)],
        "8 of 8 images are missing",
    ),
    "no filename": (change(3, filename=""), "images[3] has no filename"),
    "unknown split": (change(3, split="dev"), "photo-3.jpg has the split 'dev'"),
    "no validation": (
        lambda images: [image.update(split="train") for image in images if image["split"] == "val"],
        "the split 'val' is empty",
    ),
    "no training": (lambda images: [image.update(split="test") for image in images if "t" in image["split"]], "the split 'train' is empty"),
    "no image": (lambda images: images.clear(), "holds no image"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_captions_file_is_named(tmp_path, name):
    apply, says = WRONG[name]
    root = make_set(tmp_path / "set")
    images = rows()
    apply(images)
    write_json(root, images)
    with pytest.raises(BadInput) as caught:
        load_data(root)
    message = str(caught.value)
    assert says in message and str(root) in message and ";" in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"images": [\n{"filename": }', "wrong JSON at line 2, column 14"),
        ("", "wrong JSON at line 1"),
        ("[1, 2]", "not in Karpathy's layout"),
        ('{"annotations": []}', "not in Karpathy's layout"),
        ('{"images": [7]}', "images[0] has no filename"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_wrong_json_is_named_with_its_line(tmp_path, text, says):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(BadInput) as caught:
        load_data(tmp_path)
    assert says in str(caught.value) and "dataset.json" in str(caught.value)


def test_text_of_another_encoding(tmp_path):
    (tmp_path / "dataset.json").write_bytes(b'{"images": "\xff"}')
    with pytest.raises(BadInput, match="not UTF-8"):
        load_data(tmp_path)


def test_no_folder_no_json_several_json(tmp_path):
    with pytest.raises(BadInput, match="no such data folder"):
        load_data(tmp_path / "nothing")
    with pytest.raises(BadInput, match="no dataset"):
        load_data(tmp_path)
    make_set(tmp_path)
    (tmp_path / "dataset_other.json").write_text("{}")
    with pytest.raises(BadInput, match=r"dataset_other\.json, dataset_small\.json"):
        load_data(tmp_path)


def test_a_tar_cut_short_is_named(tmp_path):
    make_set(tmp_path / "set")
    root = to_tars(tmp_path / "set", tmp_path / "tars")
    tar = root / "images-1.tar"
    tar.write_bytes(tar.read_bytes()[:1800])
    with pytest.raises(BadInput, match=r"images-1\.tar: (cut short|not a readable tar)"):
        load_data(root)
    tar.write_bytes(b"no tar at all" * 100)
    with pytest.raises(BadInput, match=r"images-1\.tar: not a readable tar"):
        load_data(root)


def test_description_counts_what_is_there(tmp_path):
    text = "\n".join(describe(load_data(make_set(tmp_path / "set"))))
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    #                          images captions per image words different mean longest
    assert lines["train"][1:] == ["4", "8", "2", "28", "10", "3.5", "4"]
    assert lines["all"][1:] == ["8", "16", "2", "56", "14", "3.5", "4"]


def run_cli(*arguments, cache):
    command = [sys.executable, "-m", "captioning.data", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "RECAP_CACHE": str(cache)})


def test_command_lists_broken_images_by_name(tmp_path, cache):
    root = make_set(tmp_path / "set", count=70)
    clean = run_cli(root, cache=cache)
    assert clean.returncode == 0 and "images opened: 70, broken: 0" in clean.stdout
    (root / "images" / "photo-3.jpg").write_bytes(b"")
    (root / "images" / "photo-66.jpg").write_bytes((root / "images" / "photo-66.jpg").read_bytes()[:300])
    found = run_cli(root, "--workers", 2, cache=cache)
    broken = [line for line in found.stdout.splitlines() if line.startswith("broken: ")]
    assert found.returncode == 1 and len(broken) == 2 and "photo-3.jpg" in broken[0] and "photo-66.jpg" in broken[1]
    skipped = run_cli(root, "--no-images", cache=cache)
    assert skipped.returncode == 0 and "images opened" not in skipped.stdout


def test_command_says_one_line_for_bad_input(tmp_path, cache):
    result = run_cli(tmp_path / "nothing", cache=cache)
    assert result.returncode == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert "no such data folder" in result.stderr


def test_command_knows_the_demo(cache):
    result = run_cli("demo", "--no-images", cache=cache)
    assert result.returncode == 0 and "train" in result.stdout, result.stderr


def test_loading_needs_no_torch(tmp_path, cache):
    root = make_set(tmp_path / "set")
    code = f"import sys; from captioning.data import load_data; load_data({str(root)!r}).open_image(0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "RECAP_CACHE": str(cache)}).returncode == 0


@pytest.mark.skipif(not Path(FLICKR8K, "dataset_flickr8k.json").is_file(), reason="RECAP_TEST_FLICKR8K names no Flickr8k folder")
def test_flickr8k_has_its_known_numbers():
    data = load_data(FLICKR8K)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [6000, 1000, 1000]
    assert all(len(example.captions) == 5 for example in data.examples)
    sizes = {
        ("corrected", 1): 7374,
        ("corrected", 5): 2537,
        ("corrected", 6): 2274,
        ("published", 6): 2629,
    }
    for (rule, minimum_count), size in sizes.items():
        assert len(Vocabulary.from_data(data, rule, minimum_count)) == size + len(SPECIALS)
    assert broken_images(data, workers=0) == []


def test_small_json_stays_readable(tmp_path):
    """The loader reads what json.dump writes with any settings."""
    root = make_set(tmp_path / "set")
    content = json.loads((root / "dataset_small.json").read_text())
    first = load_data(root)
    (root / "dataset_small.json").write_text(json.dumps(content, indent=2, sort_keys=True))
    assert load_data(root).examples == first.examples
