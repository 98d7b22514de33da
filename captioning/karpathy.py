"""Karpathy's layout, which Flickr8k, Flickr30k and COCO share: one JSON with images[].filename, split, sentences[].tokens and .raw.

`load_karpathy(json_path, root)` checks every row and finds every image. restval counts as train, as in most papers that use the split, unless it is left
out (`restval=False`: COCO's 82,783 training images, as in Xu et al., arXiv:1502.03044).
"""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from captioning.bad_input import BadInput
from captioning.data import SPLITS, CaptionData, Example
from captioning.fingerprint import fingerprint
from captioning.image_files import FIRST_FEW, ImageFiles, find_images

SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
LAYOUT = "images[].filename, split, sentences[].tokens and .raw"


class _Sentence(NamedTuple):
    tokens: object
    raw: object


def load_karpathy(path: Path, root: Path, restval: bool = True) -> CaptionData:
    """The data set in the JSON `path`, its images under `root`. Raises BadInput for a file that is not Karpathy's layout and for images that are missing."""
    content = read_json(path)
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        raise BadInput(f"{path}: in COCO's own layout; name the file captions_{path.name} to have it read as that")
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise BadInput(f"{path}: not in Karpathy's layout ({LAYOUT}); give the dataset_*.json of the Karpathy split")
    examples = [_example(path, number, row) for number, row in enumerate(content["images"])]
    _refuse_equal_numbers(path, content["images"])
    count = len(examples)
    if not restval:
        examples = [example for example, row in zip(examples, content["images"], strict=True) if row["split"] != "restval"]
    name = str(content.get("dataset") or path.stem.removeprefix("dataset_"))
    del content
    check_examples(path, examples)
    images = find_images(root, [example.file for example in examples])
    check_places(path, examples, images)
    rule = "given" if len(examples) == count else f"given, {count - len(examples)} restval images left out"
    return CaptionData(name, root, examples, fingerprint(examples, images), images, rule)


def read_json(path: Path) -> object:
    """The JSON in `path`, sentences as small tuples the moment they close: COCO's 616,767 would fill gigabytes as dictionaries of token lists."""
    try:
        return json.loads(path.read_bytes(), object_hook=_shrink)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}: wrong JSON at line {error.lineno}, column {error.colno} ({error.msg}); download it again or mend that place"
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text at byte {error.start}; download it again or save it as UTF-8") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except RecursionError as error:
        raise BadInput(f"{path}: JSON nested too deep for a captions file; give the dataset_*.json of the Karpathy split") from error


def _shrink(row: dict) -> object:
    if "tokens" not in row or "sentences" in row:
        return row
    raw, tokens = row.get("raw"), None
    if isinstance(row["tokens"], list):
        with contextlib.suppress(TypeError):  # a token that is no string: `_example` names the image
            tokens = " ".join(" ".join(row["tokens"]).lower().split())
    return _Sentence(tokens, tokens if raw == tokens else raw)  # one string where both are equal


def _example(path: Path, number: int, row: object) -> Example:
    if not isinstance(row, dict) or not isinstance(row.get("filename"), str) or not row["filename"].strip():
        raise BadInput(f"{path}: images[{number}] has no filename; every image needs {LAYOUT}")
    file = row["filename"]
    if isinstance(row.get("filepath"), str) and row["filepath"]:
        file = f"{sys.intern(row['filepath'])}/{file}"
    split = row.get("split")
    if not isinstance(split, str) or split not in SPLIT_OF:
        raise BadInput(f"{path}: image {file} has the split {split!r}; it must be one of {', '.join(SPLIT_OF)}")
    sentences = row.get("sentences", [])
    if not isinstance(sentences, list) or not all(isinstance(s, _Sentence) and isinstance(s.tokens, str) for s in sentences):
        raise BadInput(f"{path}: image {file} has a sentence without a list of tokens; every sentence needs tokens and raw")
    captions = tuple(sentence.tokens for sentence in sentences)
    raw = tuple(s.raw if isinstance(s.raw, str) and s.raw.strip() else s.tokens for s in sentences)
    image_id = str(row["cocoid"]) if "cocoid" in row else Path(file).stem
    return Example(image_id, file, SPLIT_OF[split], captions, raw)


def _refuse_equal_numbers(path: Path, rows: Sequence[dict]) -> None:
    first: dict[object, str] = {}
    for row in rows:
        number = row.get("imgid")
        if isinstance(number, int) and first.setdefault(number, row["filename"]) != row["filename"]:
            raise BadInput(
                f"{path}: {first[number]} and {row['filename']} share the imgid {number}, a duplicate id; give one of them another"
            )


def check_examples(path: Path, examples: Sequence[Example]) -> None:
    """Raise BadInput, in the name of the captions file `path`, for what no data set may have; each says how many and names the first few."""
    if not examples:
        raise BadInput(f"{path}: holds no image; give a captions file with at least one image in each of {', '.join(SPLITS)}")
    _refuse(path, examples, "without captions", "give each a caption or take it out", lambda e: not e.captions)
    _refuse(path, examples, "with an empty caption", "write the caption or take it out", lambda e: not all(c.strip() for c in e.captions))
    ids = Counter(example.image_id for example in examples)
    _refuse(
        path,
        examples,
        "with a duplicate id (COCO's id, or the file's name without its ending)",
        "keep one of them",
        lambda e: ids[e.image_id] > 1,
    )
    files = Counter(example.file for example in examples)
    _refuse(path, examples, "with a duplicate file", "keep one of them", lambda e: files[e.file] > 1)
    sizes = Counter(example.split for example in examples)
    for split in SPLITS:
        if not sizes[split]:
            raise BadInput(f"{path}: the split {split!r} is empty; mark at least one image with it")


def check_places(path: Path, examples: Sequence[Example], images: ImageFiles) -> None:
    """Raise BadInput where two names led to one image: train/1.jpg is not what val/1.jpg means, and an image in two splits would be a leak."""
    first: dict[tuple[str, str], str] = {}
    for index, (example, place) in enumerate(zip(examples, images.places, strict=True)):
        other = first.setdefault((place.path, place.member), example.file)
        if other != example.file:
            raise BadInput(
                f"{path}: {other} and {example.file} are one image, {images.name(index)}; put the missing image back or give each image one name"
            )


def _refuse(path: Path, examples: Sequence[Example], what: str, way_out: str, is_bad: Callable[[Example], bool]) -> None:
    bad = [example.file for example in examples if is_bad(example)]
    if bad:
        few = ", ".join(bad[:FIRST_FEW]) + (", ..." if len(bad) > FIRST_FEW else "")
        raise BadInput(f"{path}: {len(bad)} of {len(examples)} images {what} ({few}); {way_out}")
