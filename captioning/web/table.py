"""The captions of many photos as files to download: as `caption.py --format csv` and `--format coco` write them."""

from collections.abc import Sequence
from pathlib import PurePath

from captioning.caption_output import FORMATS, coco_ids, describe_decode
from captioning.captioner import Caption
from captioning.config import Decode

Row = tuple[str, Caption, str, Decode]  # a photo's name, its caption, the checkpoint that said it, and by which search


def to_csv(rows: Sequence[Row]) -> bytes:
    """A line a row, in UTF-8."""
    return _file("csv", [_entry(*row) for row in rows])


def to_coco_results(rows: Sequence[Row]) -> bytes:
    """[{"image_id", "caption"}]: the number in COCO's own file names where all have one, else the name without ending, unlike any before it."""
    names = unlike([name for name, *_ in rows])
    ids = coco_ids(names)
    return _file("coco", [_entry(*row) | {"image_id": ids[name]} for name, row in zip(names, rows, strict=True)])


def unlike(names: Sequence[str]) -> list[str]:
    """Names whose part before the ending comes once: phones call every photo image.jpg, and COCO's results have one caption an image."""
    taken, found = set(), []
    for path in map(PurePath, names):
        stem, copy = path.stem, 2
        while stem in taken:
            stem, copy = f"{path.stem} ({copy})", copy + 1
        taken.add(stem)
        found.append(stem + path.suffix)
    return found


def _entry(name: str, caption: Caption, checkpoint: str, decode: Decode) -> dict:
    said = {"caption": caption.text, "score": caption.score, "ended": caption.ended, "words": caption.words}
    return {"image": name, **said, "checkpoint": checkpoint, "decode": describe_decode(decode)}


def _file(format: str, entries: Sequence[dict]) -> bytes:
    layout = FORMATS[format]
    return (layout.head + layout.between.join(map(layout.row, entries)) + layout.tail).encode("utf-8", "replace")
