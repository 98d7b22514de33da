"""The captions of many photos as files to download: as `caption.py --format csv` and `--format coco` write them."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from captioning.caption_output import COCO_NAME, FORMATS, describe_decode
from captioning.captioner import Caption
from captioning.config import Decode


class Row(NamedTuple):
    """photo: its name. checkpoint: the label of who said it. model: the first digits of its weights' SHA-256."""

    photo: str
    caption: Caption
    checkpoint: str
    model: str
    decode: Decode


def to_csv(rows: Sequence[Row]) -> bytes:
    """A line a row, in UTF-8."""
    return _file("csv", [_entry(row) for row in rows])


def to_coco_results(rows: Sequence[Row]) -> bytes:
    """[{"image_id", "caption"}]: the number in COCO's own file names where all have one of their own, else the name as `unlike` has it."""
    stems = unlike([row.photo for row in rows])
    numbers = [COCO_NAME.fullmatch(stem) for stem in stems]
    ids = [int(found[1]) for found in numbers] if all(numbers) else stems
    if len(set(ids)) < len(ids):  # two files may have one number, as COCO_val2014_... and COCO_train2014_...
        ids = stems
    return _file("coco", [_entry(row) | {"image_id": identity} for identity, row in zip(ids, rows, strict=True)])


def unlike(names: Sequence[str]) -> list[str]:
    """Names without ending, each once: phones call every photo image.jpg, and COCO's results have one caption an image."""
    taken, found = set(), []
    for path in map(PurePath, names):
        stem, copy = path.stem, 2
        while stem in taken:
            stem, copy = f"{path.stem} ({copy})", copy + 1
        taken.add(stem)
        found.append(stem)
    return found


def _entry(row: Row) -> dict:
    said = {"caption": row.caption.text, "score": row.caption.score, "ended": row.caption.ended, "words": row.caption.words}
    return {"image": row.photo, **said, "checkpoint": row.checkpoint, "model": row.model, "decode": describe_decode(row.decode)}


def _file(format: str, entries: Sequence[dict]) -> bytes:
    layout = FORMATS[format]
    return (layout.head + layout.between.join(map(layout.row, entries)) + layout.tail).encode("utf-8", "replace")
