"""Data sets that are not Karpathy's: COCO's own files, Kaggle's tables, a table of one's own; splits made by name; the size of COCO."""

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_sets import make_set, picture, rows, write_json

from captioning.bad_input import BadInput
from captioning.caption_tables import read_rows
from captioning.data import SPLITS, describe, load_data
from captioning.made_splits import make_splits
from captioning.tokens import tokenize

ROOT = Path(__file__).parents[1]
FLICKR8K = os.environ.get("RECAP_TEST_FLICKR8K", "")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECAP_CACHE", str(folder))
    return folder


def photos(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / name)


def write_table(root: Path, text: str | bytes, name: str = "captions.csv", images: str = "") -> Path:
    """The table in `root`, with photos a.jpg to e.jpg in root/`images`."""
    photos(root / images, *(f"{letter}.jpg" for letter in "abcde"))
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def table(*lines: str, photos: str = "abcde") -> str:
    """`lines`, and a row for each of `photos` that they are not about."""
    own = [line.split(",")[0] for line in lines]
    others = [f"{letter}.jpg,A dog runs." for letter in photos if f"{letter}.jpg" not in own]
    return "\n".join(("image,caption", *lines, *others)) + "\n"


# --- tables


def test_kaggles_flickr8k(tmp_path, capsys):
    text = (
        "image,caption\n"
        "a.jpg,A child in a pink dress is climbing up a set of stairs in an entry way .\n"
        'a.jpg,"A girl , alone , says ""hello"" ."\n'
        "b.jpg,Men play rugby .\nb.jpg,Men play rugby .\nc.jpg,x\nd.jpg,y\ne.jpg,z\n"
    )
    data = load_data(write_table(tmp_path / "flickr8k", text, "captions.txt", images="Images"))
    first = data.examples[0]
    assert (data.name, first.image_id, first.file) == ("flickr8k", "a", "a.jpg")
    assert first.raw == (
        "A child in a pink dress is climbing up a set of stairs in an entry way .",
        'A girl , alone , says "hello" .',
    )
    assert first.captions == ("a child in a pink dress is climbing up a set of stairs in an entry way", "a girl alone says hello")
    assert len(data.examples[1].captions) == 2, "two people may write the same"
    assert data.open_image(0).size == (40, 30)
    assert data.split_rule == "made by sha256 of image name, seed 0, 80/10/10" and all(data.split(name) for name in SPLITS)
    assert f"splits: {data.split_rule}" in describe(data)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("images", ["", "flickr30k_images", "flickr30k_images/flickr30k_images"])
def test_kaggles_flickr30k_and_its_broken_row(tmp_path, capsys, images):
    header = "image_name| comment_number| comment\n"
    lines = [f'{letter}.jpg| {n}|  "Two" dogs , {n} of them , run .\n' for letter in "bcde" for n in range(3)]
    text = header + "a.jpg| 3| A dog | a cat .\na.jpg| 4   A dog runs across the grass .\n" + "".join(lines)
    data = load_data(write_table(tmp_path / "set", text, "results.csv", images=images))
    assert data.examples[0].raw == ("A dog | a cat .", "A dog runs across the grass .")
    assert data.examples[0].captions[1] == "a dog runs across the grass"
    assert data.examples[1].raw[2] == '"Two" dogs , 2 of them , run .'
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("results.csv: mended 1 row (line" in line for line in said)
    assert "(line 3): the separator between number and comment was missing" in "\n".join(said)


@pytest.mark.parametrize("image", ["image", "File", "filename", "file_name", "image_name"])
@pytest.mark.parametrize("caption", ["caption", "comment", " Text"])
@pytest.mark.parametrize(("separator", "name"), [(",", "my.csv"), (";", "my.csv"), ("\t", "my.tsv")])
def test_a_table_of_ones_own(tmp_path, image, caption, separator, name):
    splits = ["train", "validation", "TEST", "val", "train"]
    lines = [separator.join(("7", f'"Photo {x}, a dog."', f"{x}.jpg", s)) for x, s in zip("abcde", splits, strict=True)]
    text = "\r\n".join([separator.join(("stars", caption, image, "split")), *lines, separator * 3, ""])
    data = load_data(write_table(tmp_path / "photos", text, name, images="2024/summer"))
    assert [e.split for e in data.examples] == ["train", "val", "test", "val", "train"]
    assert [e.raw for e in data.examples] == [(f"Photo {x}, a dog.",) for x in "abcde"]
    assert data.split_rule == "given"
    assert load_data(tmp_path / "photos" / name).fingerprint == data.fingerprint


def test_utf8_with_a_byte_order_mark(tmp_path):
    text = table("a.jpg,Ein Hündchen läuft.").encode("utf-8-sig")
    assert load_data(write_table(tmp_path, text)).examples[0].captions == ("ein hündchen läuft",)


def test_rows_name_images_by_path_or_by_name(tmp_path):
    photos(tmp_path, "cats/1.jpg", "dogs/1.jpg", "dogs/deep/2.jpg", "3.jpg", "other/3.jpg")
    shutil.copy(tmp_path / "3.jpg", tmp_path / "cats/3.jpg")
    names = ["cats/1.jpg", r"dogs\1.jpg", "2.jpg", "./3.jpg", str(tmp_path / "other/3.jpg")]
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(f"{name},A dog.\n" for name in names))
    data = load_data(tmp_path)
    assert [e.image_id for e in data.examples] == ["cats/1", "dogs/1", "2", "3", "other/3"]
    where = ["cats/1.jpg", "dogs/1.jpg", "dogs/deep/2.jpg", "3.jpg", "other/3.jpg"]
    assert [data.images.name(i) for i in range(5)] == [str(tmp_path / place) for place in where]


def test_a_tables_images_may_lie_in_a_tar_or_behind_a_link(tmp_path):
    root = write_table(tmp_path / "set", table(), images="photos")
    expected = load_data(root).fingerprint
    with tarfile.open(root / "photos.tar", "w") as tar:
        for file in sorted((root / "photos").iterdir()):
            tar.add(file, f"photos/{file.name}")
    shutil.move(root / "photos", tmp_path / "elsewhere")
    assert load_data(root).fingerprint == expected
    (root / "photos.tar").unlink()
    (root / "a").mkdir()
    (root / "a" / "link").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "circle").symlink_to(root)
    assert load_data(root).fingerprint == expected


def test_empty_cells_at_the_end_are_no_caption(tmp_path, capsys):
    assert load_data(write_table(tmp_path, table("a.jpg,A dog.,,"))).examples[0].raw == ("A dog.",)
    assert capsys.readouterr().err == ""


def test_images_without_a_row_are_said_and_left_out(tmp_path, capsys):
    data = load_data(write_table(tmp_path, table(photos="abc")))
    assert len(data) == 3
    assert capsys.readouterr().err == f"{tmp_path / 'captions.csv'}: 2 image files have no row and are left out (d.jpg, e.jpg)\n"


def test_a_comma_without_quotes_is_mended_where_the_caption_is_last(tmp_path, capsys):
    data = load_data(write_table(tmp_path, table('a.jpg,One dog, two cats, a "bird"')))
    assert data.examples[0].raw == ('One dog, two cats, a "bird"',)
    assert "mended 1 row (line 2): the caption held the separator (comma) without quotes" in capsys.readouterr().err


HEADERLESS = "a.jpg,A dog runs.\nb.jpg,A cat runs.\n"
WRONG_TABLES = {
    "empty file": ("", "captions.csv: empty"),
    "only a mark": (b"\xef\xbb\xbf\n", "captions.csv: empty"),
    "only a header": ("image,caption\n", "no row below its header"),
    "no header": (HEADERLESS, "line 1: no header with a column image or file"),
    "empty first line": ("\n" + table(), "but an empty line; write one"),
    "no caption column": ("image,words\na.jpg,A dog.\n", "line 1: no header"),
    "cp1252": (table("a.jpg,Ein Hündchen.").encode("cp1252"), "line 2: byte 0xfc is not UTF-8, the file may be in Windows' cp1252"),
    "utf-16": (table().encode("utf-16"), "UTF-16 text"),
    "empty caption": (table("a.jpg,"), "1 row with an empty caption or one without a word (line 2)"),
    "no caption cell": (table("a.jpg"), "1 row with an empty caption or one without a word (line 2)"),
    "no word": (table('a.jpg,"..."', "b.jpg,!"), "2 rows with an empty caption or one without a word (lines 2, 3)"),
    "no image": (table(",A dog."), "1 row without the name of an image (line 2)"),
    "same row twice": (table("a.jpg,A dog.", "a.jpg,A cat.", "a.jpg,A dog."), "1 row equal to an earlier one (line 4)"),
    "many rows twice": (table() + "".join(table().splitlines(True)[1:]), "5 rows equal to an earlier one (lines 7, 8, 9, ...)"),
    "missing image": (table("gone.jpg,A dog."), "1 of 6 images are missing (gone.jpg in line 2)"),
    "missing folder": (table("cats/a.jpg,A dog.", photos="bcde"), "1 of 5 images are missing (cats/a.jpg in line 2)"),
    "outside": (table("../a.jpg,A dog.", photos="bcde"), "1 of 5 images are missing (../a.jpg in line 2)"),
    "same stem": (table("a.jpg,A dog.", "a.png,A dog."), "2 of 6 images with a duplicate id"),
    "open quotes": (table('a.jpg,"A dog.', 'b.jpg,A "cat".'), "line 2: the quotes of this row do not fit"),
    "quotes inside": (table("b.jpg,A cat.", 'a.jpg,"A "big" dog."'), "line 3: the quotes of this row do not fit"),
    "too many cells": ("caption,image\nA dog, red,a.jpg\n", "line 2: 3 cells, but the header has 2"),
    "two images": (table(photos="ab"), "too few images (2) for the splits train, val, test"),
    "unknown split": (
        "image,caption,split\na.jpg,A dog.,dev\n",
        "line 2: the split is 'dev'; it must be one of train, val, validation, test",
    ),
    "no split": ("image,caption,split\na.jpg,A dog.,\n", "line 2: the split is ''"),
    "two splits": (
        "image,caption,split\na.jpg,A dog.,val\na.jpg,A cat.,test\n",
        "line 3: a.jpg is in the split test, but in val at line 2",
    ),
    "no test": ("image,caption,split\na.jpg,A dog.,train\nb.jpg,A dog.,val\n", "the split 'test' is empty"),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_what_is_wrong_in_a_table_is_named(tmp_path, name):
    text, says = WRONG_TABLES[name]
    root = write_table(tmp_path / "set", text)
    photos(root, "a.png")
    with pytest.raises(BadInput) as caught:
        load_data(root)
    message = str(caught.value)
    assert says in message and str(root / "captions.csv") in message and ";" in message and "\n" not in message


def test_one_name_for_different_images(tmp_path):
    write_table(tmp_path, table(photos="abc"))
    photos(tmp_path, "x/f.jpg")
    picture(1, (400, 300)).save(tmp_path / "x" / "z.jpg")
    (tmp_path / "y").mkdir()
    shutil.copy(tmp_path / "x/z.jpg", tmp_path / "y/f.jpg")
    (tmp_path / "captions.csv").write_text(table("f.jpg,A dog.", photos="abc"))
    with pytest.raises(
        BadInput, match=r"captions\.csv, line 2: f\.jpg is the name of different images, x/f\.jpg and y/f\.jpg; write its path"
    ):
        load_data(tmp_path)


def test_two_names_for_one_image(tmp_path):
    write_table(tmp_path, table("a.jpg,A dog.", "photos/a.jpg,A cat.", photos="bc"), images="photos")
    with pytest.raises(BadInput, match=r"a\.jpg and photos/a\.jpg are one image"):
        load_data(tmp_path)


# Line ends of other kinds, quotes and separators inside a caption: what spreadsheets write.
CAPTIONS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40).map(lambda text: f"dog{text}")


@given(
    captions=st.lists(CAPTIONS, min_size=1, max_size=6, unique_by=str.strip),
    separator=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    everything_quoted=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_captions_come_back_as_the_csv_module_wrote_them(tmp_path_factory, captions, separator, line_end, mark, everything_quoted):
    quoting = csv.QUOTE_ALL if everything_quoted else csv.QUOTE_MINIMAL
    text = io.StringIO(newline="")
    if line_end == "\n":
        # Here Python 3.11 writes a carriage return without quotes, which no reader can tell from the end of a row.
        captions = list(dict.fromkeys(caption.replace("\r", " ").strip() for caption in captions))
    writer = csv.writer(text, delimiter=separator, lineterminator=line_end, quoting=quoting)
    writer.writerows([("image", "caption"), *(("a.jpg", caption) for caption in captions)])
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    path.write_bytes(text.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    assert [row.caption for row in read_rows(path, path.parent)] == [caption.strip() for caption in captions]


# --- tokens and splits


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's T-shirt, No. 7!", "a man's t shirt no 7"),
        ("' free dinner '", "free dinner"),
        ("snake_case & more", "snake case more"),
        ("Un niño — dos GATOS", "un niño dos gatos"),
        ("cafe\u0301 l\u2019e\u0301te\u0301", "caf\u00e9 l'\u00e9t\u00e9"),
        ("हिन्दी में", "हिन्दी में"),
        ("’ ... '", ""),
    ],
)
def test_tokens(caption, tokens):
    assert tokenize(caption) == tokens


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_tokens_are_one_space_apart_and_stay_what_they_are(caption):
    tokens = tokenize(caption)
    assert tokens == " ".join(tokens.split())
    assert tokenize(tokens) == tokens or not caption.isascii()
    if caption.isascii():
        # The rule for every alphabet gives the same as the short one for ASCII.
        assert tokenize(caption + " é") == f"{tokens} é".strip()


def split_by_name(names, **arguments):
    return dict(zip(names, make_splits(Path("t.csv"), names, **arguments), strict=True))


def test_splits_follow_from_names_alone():
    names = [f"IMG_{i:04d}.jpg" for i in range(2000)]
    all_of_them = split_by_name(names)
    shuffled = random.Random(0).sample(names, len(names))
    assert split_by_name(shuffled) == all_of_them
    assert split_by_name(names, seed=1) != all_of_them
    counts = [list(all_of_them.values()).count(split) for split in SPLITS]
    assert 1540 < counts[0] < 1660 and 150 < counts[1] < 250 and 150 < counts[2] < 250


def test_the_rule_by_hand():
    """printf '0\\0IMG_0001.jpg' | sha256sum starts with 55df = 0.335 * 2^16, below 0.8; IMG_0007 with cd0d = 0.801; IMG_0011 with fbb3 = 0.983."""
    splits = split_by_name([f"IMG_{i:04d}.jpg" for i in range(40)])
    assert [splits[f"IMG_{i:04d}.jpg"] for i in (1, 7, 11)] == ["train", "val", "test"]


@pytest.mark.parametrize("seed", range(40))
def test_added_images_move_no_other_and_no_split_is_empty(seed):
    names = [f"{seed}-{i}.jpg" for i in range(60)]
    by_number = split_by_name([*names, *(f"IMG_{i:04d}.jpg" for i in range(40))])
    for count in range(3, 61):
        splits = split_by_name(names[:count])
        assert set(splits.values()) == set(SPLITS)
        stand_ins = [name for name in splits if splits[name] != by_number[name]]
        assert len(stand_ins) == len(set(SPLITS) - {by_number[name] for name in splits})


def test_adding_photos_keeps_splits_and_changes_the_fingerprint(tmp_path):
    names = [f"p{i}.jpg" for i in range(30)]
    photos(tmp_path, *names)
    write = (tmp_path / "t.csv").write_text
    write("image,caption\n" + "".join(f"{name},A dog.\n" for name in names[:20]))
    before = load_data(tmp_path)
    write("image,caption\n" + "".join(f"{name},A dog.\n" for name in sorted(names, reverse=True)))
    after = load_data(tmp_path)
    splits = {e.file: e.split for e in after.examples}
    assert {e.file: e.split for e in before.examples}.items() <= splits.items()
    assert before.fingerprint != after.fingerprint


# --- COCO's own files


def coco_json(first: int, count: int, letter: str, captions: int = 2) -> dict:
    images = [{"id": first + i, "file_name": f"COCO_{letter}_{first + i:012d}.jpg", "license": 1} for i in range(count)]
    annotations = [
        {"image_id": image["id"], "id": 10 * image["id"] + n, "caption": f"A dog's {n}th run, no. {image['id']}."}
        for n in range(captions)
        for image in reversed(images)
    ]
    return {"info": {}, "images": images, "annotations": annotations, "licenses": []}


def make_coco(root: Path, year: str = "2014", captions: str = "annotations", images: str = "{split}{year}") -> Path:
    (root / captions).mkdir(parents=True, exist_ok=True)
    for split, first, count in (("train", 100, 6), ("val", 200, 8)):
        content = coco_json(first, count, split)
        (root / captions / f"captions_{split}{year}.json").write_text(json.dumps(content))
        photos(root / images.format(split=split, year=year), *(image["file_name"] for image in content["images"]))
    return root


@pytest.mark.parametrize("year", ["2014", "2017"])
@pytest.mark.parametrize("captions", ["annotations", ""])
@pytest.mark.parametrize("images", ["{split}{year}", "", "images/{split}{year}"])
def test_coco(tmp_path, capsys, year, captions, images):
    data = load_data(make_coco(tmp_path / "coco", year, captions, images))
    assert (data.name, len(data), data.root) == (f"coco{year}", 14, tmp_path / "coco")
    assert (data.examples[1].image_id, data.examples[1].file) == ("101", f"train{year}/COCO_train_000000000101.jpg")
    assert data.examples[1].raw == ("A dog's 0th run, no. 101.", "A dog's 1th run, no. 101.")
    assert data.examples[1].captions[0] == "a dog's 0th run no 101"
    assert data.split("train") == list(range(6)) and sorted(data.split("val") + data.split("test")) == list(range(6, 14))
    assert data.split("val") and data.split("test")
    assert data.split_rule == (
        f"captions_train{year}.json is train, captions_val{year}.json is val and test in halves made by sha256 of image name, seed 0, 50/50"
    )
    assert data.open_image(13).size == (40, 30)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "dataset_coco.json (Karpathy's split)" in said


def test_coco_in_tars_is_the_same(tmp_path):
    root = make_coco(tmp_path / "coco")
    expected = load_data(root).fingerprint
    for split in ("train", "val"):
        with tarfile.open(root / f"{split}.tar", "w") as tar:
            tar.add(root / f"{split}2014", f"{split}2014")
        shutil.rmtree(root / f"{split}2014")
    assert load_data(root).fingerprint == expected
    assert load_data(root / "annotations").fingerprint == expected


def test_one_coco_file_alone(tmp_path):
    root = make_coco(tmp_path / "coco")
    data = load_data(root / "annotations" / "captions_val2014.json")
    assert (data.name, len(data), data.split_rule) == ("captions_val2014", 8, "made by sha256 of image name, seed 0, 80/10/10")
    assert all(data.split(name) for name in SPLITS) and data.root == root
    own = tmp_path / "own"
    own.mkdir()
    (own / "captions.json").write_text(json.dumps(coco_json(200, 8, "val")))
    shutil.copytree(root / "val2014", own / "val2014")
    alone = load_data(own)
    assert alone.name == "captions" and [e.split for e in alone.examples] == [e.split for e in data.examples]


def test_coco_layout_with_three_files_has_given_splits(tmp_path, capsys):
    root = make_coco(tmp_path / "coco")
    content = coco_json(300, 2, "test")
    (root / "annotations" / "captions_test2014.json").write_text(json.dumps(content))
    photos(root / "test2014", *(image["file_name"] for image in content["images"]))
    data = load_data(root)
    assert data.split_rule == "given" and [len(data.split(name)) for name in SPLITS] == [6, 8, 2]
    assert capsys.readouterr().err == ""


def test_karpathys_split_is_taken_first_and_tables_last(tmp_path):
    root = make_coco(tmp_path / "set")
    write_table(root, table())
    assert load_data(root).name == "coco2014"
    make_set(root)
    assert load_data(root).name == "small"


def change(part, number, **fields):
    def apply(content):
        content[part][number] |= fields

    return apply


WRONG_COCO = {
    "no caption": (change("annotations", 3, caption=None), "annotations[3] has no image_id or no caption"),
    "no image id": (lambda c: c["annotations"][3].pop("image_id"), "annotations[3] has no image_id or no caption"),
    "empty caption": (
        change("annotations", 3, caption=" \n"),
        "annotations[3] (image val2014/COCO_val_000000000204.jpg) has an empty caption",
    ),
    "no word": (change("annotations", 3, caption="?!"), "has an empty caption or one without a word"),
    "unknown image": (change("annotations", 3, image_id=7), "annotations[3] belongs to image 7, which is not in images[]"),
    "annotation twice": (change("annotations", 3, id=2000), "annotations[7] has the duplicate id 2000"),
    "image twice": (change("images", 3, id=200), "images[3] (COCO_val_000000000203.jpg) has the duplicate id 200"),
    "in both files": (
        lambda c: [
            c["images"].append(c["images"][0] | {"id": 100}),
            c["annotations"].append(c["annotations"][0] | {"image_id": 100, "id": 1}),
        ],
        "2 of 15 images with a duplicate id",
    ),
    "file twice": (change("images", 3, file_name="COCO_val_000000000200.jpg"), "2 of 14 images with a duplicate file"),
    "no file name": (change("images", 3, file_name=""), "images[3] has no id or no file_name"),
    "no captions": (lambda c: c["images"].append({"id": 5, "file_name": "5.jpg"}), "1 of 15 images without captions (val2014/5.jpg)"),
    "missing image": (change("images", 3, file_name="gone.jpg"), "1 of 14 images are missing (val2014/gone.jpg)"),
    "of the other folder": (change("images", 3, file_name="COCO_train_000000000100.jpg"), "are one image"),
    "one image": (
        lambda c: c.update(images=c["images"][:1], annotations=c["annotations"][7:8]),
        "too few images (1) for the splits val, test",
    ),
    "no lists": (lambda c: c.update(annotations={}), "not a captions file of COCO"),
    "results": (lambda c: c.pop("images"), "not a captions file of COCO"),
}


@pytest.mark.parametrize("name", WRONG_COCO)
def test_what_is_wrong_in_a_coco_file_is_named(tmp_path, name):
    apply, says = WRONG_COCO[name]
    root = make_coco(tmp_path / "coco")
    path = root / "annotations" / "captions_val2014.json"
    content = json.loads(path.read_text())
    apply(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput) as caught:
        load_data(root)
    message = str(caught.value)
    assert says in message and str(root) in message and ";" in message and "\n" not in message


# --- which file is meant


def test_an_ambiguous_folder_names_the_choices(tmp_path):
    root = make_coco(make_coco(tmp_path / "coco"), "2017")
    with pytest.raises(
        BadInput, match=r"more than one data set lie here \(annotations/captions_train2014\.json, .*2017\.json\).*the path of one file"
    ):
        load_data(root)
    for name in ("captions_train2014.json", "captions_val2017.json"):
        (root / "annotations" / name).unlink()
    with pytest.raises(BadInput, match="more than one data set"):
        load_data(root)
    (root / "annotations" / "captions_train2017.json").rename(root / "annotations" / "captions_test2014.json")
    with pytest.raises(BadInput, match=r"without a captions file of train and one of val; put the missing file beside them"):
        load_data(root)
    write_table(tmp_path / "tables", table())
    write_table(tmp_path / "tables", table(), "captions.txt")
    with pytest.raises(BadInput, match=r"2 data sets lie here \(captions\.csv, captions\.txt\); give the path of the one meant"):
        load_data(tmp_path / "tables")
    assert len(load_data(tmp_path / "tables" / "captions.txt")) == 5


def test_the_wrong_folder_or_file(tmp_path):
    write_table(tmp_path / "archive" / "flickr30k_images", table())
    with pytest.raises(BadInput, match=r"no dataset\*\.json .*captions\.txt in it; .*; captions lie in .*archive/flickr30k_images$"):
        load_data(tmp_path / "archive")
    (tmp_path / "val.json").write_text(json.dumps(coco_json(1, 3, "val")))
    with pytest.raises(BadInput, match=r"val\.json: in COCO's own layout; name the file captions_val\.json"):
        load_data(tmp_path / "val.json")
    picture(0).save(tmp_path / "photo.jpg")
    with pytest.raises(BadInput, match=r"photo\.jpg, line 1: .* is not UTF-8"):
        load_data(tmp_path / "photo.jpg")


def test_command_prints_how_splits_were_made_and_one_line_for_an_error(tmp_path, cache):
    def run(path):
        command = [sys.executable, "-m", "captioning.data", str(path), "--workers", "0"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "RECAP_CACHE": str(cache)})

    good = run(write_table(tmp_path / "good", table()))
    assert good.returncode == 0, good.stderr
    assert "splits: made by sha256 of image name, seed 0, 80/10/10" in good.stdout and "images opened: 5, broken: 0" in good.stdout
    bad = run(write_table(tmp_path / "bad", HEADERLESS))
    assert bad.returncode == 2 and bad.stdout == "" and len(bad.stderr.splitlines()) == 1 and "no header" in bad.stderr


# --- restval


def test_restval_can_be_left_out(tmp_path):
    root = make_set(tmp_path / "set")
    full, without = load_data(root), load_data(root, restval=False)
    assert [e.file for e in full.examples if e not in without.examples] == ["photo-1.jpg"]
    assert (full.split_rule, without.split_rule) == ("given", "given, 1 restval images left out")
    assert full.fingerprint != without.fingerprint
    assert load_data(root / "dataset_small.json", restval=False).fingerprint == without.fingerprint
    write_json(root, [row for row in rows() if row["split"] != "restval"])
    same = load_data(root, restval=False)
    assert same.fingerprint == without.fingerprint == load_data(root).fingerprint and same.split_rule == "given"


def test_restval_means_nothing_to_other_data_sets(tmp_path):
    for root in (make_coco(tmp_path / "coco"), write_table(tmp_path / "own", table())):
        assert load_data(root).fingerprint == load_data(root, restval=False).fingerprint


# --- the size of COCO

COCO_IMAGES = 123_287
MEASURE = """
import resource, sys
from captioning.data import load_data
data = load_data(sys.argv[1])
used = resource.getrusage(resource.RUSAGE_SELF)
print(len(data), *(len(data.split(name)) for name in ("train", "val", "test")), used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def make_large_coco(root: Path) -> None:
    """Karpathy's JSON of COCO in its real size, and an empty file for each image: `load_data` looks every image up, but opens only those it samples."""
    random_words = random.Random(0)
    words = ["".join(random_words.choices("abcdefghijklmnopqrstuvwxyz", k=random_words.randint(1, 9))) for _ in range(10_000)]
    pool = []
    for _ in range(5_000):
        tokens = random_words.choices(words, k=11)
        pool.append(json.dumps({"tokens": tokens, "raw": " ".join(tokens).capitalize() + "."})[1:-1])
    splits = ["val"] * 5_000 + ["test"] * 5_000 + ["restval"] * 30_504
    folders = {folder: root / folder for folder in ("train2014", "val2014")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    with open(root / "dataset_coco.json", "w") as file:
        file.write('{"dataset": "coco", "images": [')
        for i in range(COCO_IMAGES):
            split, folder = (splits[i], "val2014") if i < len(splits) else ("train", "train2014")
            name = f"COCO_{folder}_{i:012d}.jpg"
            ids = range(5 * i, 5 * i + 5)
            sentences = ", ".join(f'{{{pool[(7 * n) % 5_000]}, "imgid": {i}, "sentid": {n}}}' for n in ids)
            file.write(
                f'{", " if i else ""}{{"filepath": "{folder}", "sentids": {list(ids)}, "filename": "{name}", "imgid": {i}, "split": "{split}", '
                f'"sentences": [{sentences}], "cocoid": {i}}}'
            )
            os.close(os.open(folders[folder] / name, os.O_CREAT | os.O_WRONLY))
        file.write("]}")


def test_coco_in_its_real_size_starts_in_seconds(tmp_path, cache, capsys):
    root = tmp_path / "coco"
    start = time.perf_counter()
    make_large_coco(root)
    made = time.perf_counter() - start
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURE, root], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(root)
    *counts, processor_seconds, kilobytes = map(float, done.stdout.split())
    gigabytes = kilobytes / 2**20
    with capsys.disabled():
        print(
            f"\nCOCO's size: load_data {seconds:.1f} s ({processor_seconds:.1f} s of processor), {gigabytes:.2f} GB; files made in {made:.1f} s"
        )
    assert counts == [COCO_IMAGES, 113_287, 5_000, 5_000]
    # Of the processor, because a busy machine must not fail the test.
    assert processor_seconds < 15 and gigabytes < 1.5


@pytest.mark.skipif(not Path(FLICKR8K, "dataset_flickr8k.json").is_file(), reason="RECAP_TEST_FLICKR8K names no Flickr8k folder")
def test_tokens_agree_with_karpathys_on_flickr8k():
    examples = load_data(FLICKR8K).examples
    pairs = [pair for example in examples for pair in zip(example.raw, example.captions, strict=True)]
    assert sum(tokenize(raw) == tokens for raw, tokens in pairs) > 0.999 * len(pairs)
