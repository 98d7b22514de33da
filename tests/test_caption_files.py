"""Every layout of candidates and references reads alike; every bad file is one line that names it and the image or line."""

import gzip
import json

import pytest

from captioning.bad_input import BadInput
from captioning.caption_files import read_candidates, read_references


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "name, content",
    [
        ("c.json", [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a\u2028cat"}]),
        ("c.json", [{"image_id": 1, "id": 77, "caption": "a dog"}, {"image_id": 2, "id": 78, "caption": "a\u2028cat"}]),
        ("c.json", {"1": "a dog", "2": "a\u2028cat"}),
        ("c.jsonl", '{"id": "1", "caption": "a dog"}\n\n{"id": 2, "caption": "a\u2028cat"}\n'),
        ("c.data", '{"id": "1", "caption": "a dog"}\n{"id": 2, "caption": "a\u2028cat"}'),
        ("c.txt", "a dog\r\na\u2028cat\r\n"),
        ("c", "\ufeffa dog\na\u2028cat"),
        # Without its time: the bytes are in the test's name, and every worker names its tests itself.
        ("c.json.gz", gzip.compress(b'{"1": "a dog", "2": "a\xe2\x80\xa8cat"}', mtime=0)),
    ],
)
def test_candidates(tmp_path, name, content):
    found = read_candidates(write(tmp_path / name, content))
    assert found.captions == {"1": "a dog", "2": "a\u2028cat"}
    assert found.by_line == (name in ("c.txt", "c"))


def karpathy(splits=("test", "train", "test")):
    files = ["a.jpg", "b.jpg", "COCO_val2014_000000000042.jpg"]
    images = [
        {"filename": f, "split": s, "sentences": [{"raw": f"A Dog {f[0]}.", "tokens": ["a", "dog", f[0]]}]}
        for f, s in zip(files, splits, strict=True)
    ]
    return {"dataset": "x", "images": [*images[:2], images[2] | {"cocoid": 42}]}


def test_karpathy(tmp_path):
    found = read_references(write(tmp_path / "k.json", karpathy()))
    assert found.raw == {"a": ["A Dog a."], "42": ["A Dog C."]}
    assert found.tokens == {"a": ["a dog a"], "42": ["a dog C"]}
    assert found.names["COCO_val2014_000000000042.jpg"] == found.names["COCO_val2014_000000000042"] == "42"
    restval = write(tmp_path / "k.json", karpathy(("restval", "train", "test")))
    assert list(read_references(restval, "train").raw) == ["a", "b"]


@pytest.mark.parametrize(
    "name, content",
    [
        ("r.json", {"1": ["a dog", "dogs"], "2": ["a cat"]}),
        ("r.jsonl", '{"id": 1, "references": ["a dog", "dogs"]}\n{"id": "2", "references": ["a cat"]}'),
        ("r.tsv", "a dog\tdogs\na cat\n"),
        (
            "r.json",
            {
                "images": [{"id": 1}, {"id": 2, "file_name": "x.jpg"}],
                "annotations": [{"image_id": i, "caption": c} for i, c in ((1, "a dog"), (2, "a cat"), (1, "dogs"))],
            },
        ),
    ],
)
def test_references(tmp_path, name, content):
    assert read_references(write(tmp_path / name, content)).raw == {"1": ["a dog", "dogs"], "2": ["a cat"]}


def test_our_own_references_file(tmp_path):
    lines = [{"id": str(i), "split": s, "tokens": ["a dog"], "raw": ["A dog ."]} for i, s in enumerate(("val", "test"))]
    path = write(tmp_path / "r.jsonl.gz", gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    found = read_references(path, "val")
    assert (found.raw, found.tokens, found.split) == ({"0": ["A dog ."]}, {"0": ["a dog"]}, "val")


COCO = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a"}]}


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "empty"),
        ('{"1": "a",\n "2": }', "line 2, column 7: wrong JSON"),
        ('{"id": 1, "caption": "a"}\n{"id": 2, "caption": }\n', "line 2, column 22: wrong JSON"),
        ('{"id": 1, "caption": "a"}\n{"id": 2}\n', "line 2: expected"),
        ('{"1": "a", "1": "b"}', '"1" is there twice'),
        ([{"image_id": 1, "caption": "a"}, {"image_id": "1", "caption": "b"}], "entry 1: image 1 is there twice"),
        ([{"image_id": 1, "text": "a"}], "entry 0: expected"),
        ([{"image_id": 1, "caption": None}], "caption of image 1 is NoneType"),
        ([{"image_id": 1.5, "caption": "a"}], "not 1.5"),
        ({"1": ["a"]}, "caption of image 1 is list"),
        ([], "no captions in it"),
        ("3", "expected a list"),
        (b"[\xff", "byte 1 is not UTF-8"),
        (b"\x1f\x8b\x08cut", "damaged gzip"),
        ("[" * 100_000, "wrong JSON"),
    ],
)
def test_bad_candidates(tmp_path, content, says):
    path = write(tmp_path / "c.json", content)
    with pytest.raises(BadInput) as error:
        read_candidates(path)
    assert says in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "content, says",
    [
        ({"1": []}, "image 1 has no caption"),
        ({"1": [1]}, "image 1: expected a list of captions"),
        (COCO | {"images": [{"id": 1}, {"id": 2}]}, "image 2 has no caption"),
        (COCO | {"images": []}, "names image 1, which is not among its images"),
        (COCO | {"images": [{"id": 1}, {"id": 1}]}, "image 1 is there twice"),
        (COCO | {"annotations": [{"caption": "a"}]}, "no 'image_id'"),
        (COCO | {"annotations": [{"image_id": 1, "caption": 3}]}, "annotation 0 (image 1): the caption is int"),
        (karpathy(("train", "train", "train")), "no image of split 'test'; it has train"),
        ({"images": [{"split": "test"}]}, "no 'filename'"),
        ([1], "expected COCO captions"),
        ("{}", "no references in it"),
        ('{"id": 1, "references": ["a"]}\n{"id": 1, "references": ["b"]}', "line 2: image 1 is there twice"),
    ],
)
def test_bad_references(tmp_path, content, says):
    path = write(tmp_path / "r.json", content)
    with pytest.raises(BadInput) as error:
        read_references(path)
    assert says in str(error.value) and str(path) in str(error.value)


def test_a_line_without_references(tmp_path):
    with pytest.raises(BadInput, match="line 2 has no caption"):
        read_references(write(tmp_path / "r.txt", "a\n\t\nb\n"))


def test_not_a_file(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_candidates(tmp_path / "none.json")
    with pytest.raises(BadInput, match="is a folder"):
        read_references(tmp_path)
