"""Where captions go: text, JSON, CSV or COCO results, on stdout or in a file that a later call goes on from. Standard library only.

An entry is one photo: {"image", "caption", "score", "ended", "words", "checkpoint", "model", "decode"}, with --beams also "alternatives", a list
of {"caption", "score", "ended"}. model: the first digits of its weights' sha256, for a folder's weights may change. COCO results have no place for
more than {"image_id", "caption"}: what made them, and of which photos, stands in a file beside them. A file is written whole, by rename, at the end
and now and then: never so often that writing takes more than a twentieth of the time, so that a hundred thousand photos cost no quadratic time and
a kill loses seconds.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.config import Decode
from captioning.locks import held

MADE_BY = ("checkpoint", "model", "decode")
HASH_DIGITS = 12  # of the SHA-256 of the model's weights
COLUMNS = ("image", "caption", "rank", "score", "ended", *MADE_BY)
NOT_WRITTEN = ("image_id", "place")  # of an entry, in JSON
COCO_NAME = re.compile(r"(?:COCO_[A-Za-z]+[0-9]{4}_)?([0-9]{12})")
SAVE_SECONDS, SAVE_SHARE = 10.0, 1 / 20
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error)


class Format(NamedTuple):
    """A file is head, then the rows with `between` between them, then tail. key: what tells one photo from another.

    row: an entry as text. read: a file's text -> its entries, None where a file cannot be gone on from; raises ValueError, KeyError or TypeError.
    """

    head: str
    row: Callable[[dict], str]
    between: str
    tail: str
    key: str
    read: Callable[[str], list[dict]] | None


def _text_row(entry: dict) -> str:
    """A photo that is captioned alone has the name "": its caption stands for itself."""
    if "alternatives" not in entry:
        return f"{entry['image']}: {entry['caption']}\n" if entry["image"] else f"{entry['caption']}\n"
    name = f"{entry['image']}:\n" if entry["image"] else ""
    indent = "  " if name else ""
    cut = " (cut)"
    return name + "".join(f"{indent}{a['score']:8.3f}  {a['caption']}{'' if a['ended'] else cut}\n" for a in entry["alternatives"])


def _json_row(entry: dict) -> str:
    return " " + json.dumps({name: value for name, value in entry.items() if name not in NOT_WRITTEN}, ensure_ascii=False)


def _coco_row(entry: dict) -> str:
    return " " + json.dumps({"image_id": entry["image_id"], "caption": entry["caption"]}, ensure_ascii=False)


def _csv_row(entry: dict) -> str:
    """One line, or a line an alternative."""
    lines = io.StringIO(newline="")
    found = entry.get("alternatives", [entry])
    # Python quotes the line end that it was given; readers take a lone carriage return for one too.
    quoting = csv.QUOTE_NONNUMERIC if "\r" in "".join([entry["image"], *(one["caption"] for one in found)]) else csv.QUOTE_MINIMAL
    writer = csv.writer(lines, lineterminator="\n", quoting=quoting)
    for rank, one in enumerate(found, 1):
        score, ended = repr(float(one["score"])), str(one["ended"]).lower()
        writer.writerow([entry["image"], one["caption"], rank, score, ended, *(entry.get(name, "") for name in MADE_BY)])
    return lines.getvalue()


def _read_json(text: str) -> list[dict]:
    """Entries as they are; that they can be written again shows that nothing lacks."""
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise TypeError("no list")
    for entry in entries:
        if not all(isinstance(entry[name], str) for name in ("image", "caption", *MADE_BY)):
            raise TypeError("an entry without image, caption, checkpoint, model or decode")
    return entries


def _read_coco(text: str) -> list[dict]:
    entries = json.loads(text)
    if not isinstance(entries, list) or not all(e.keys() == {"image_id", "caption"} for e in entries):
        raise TypeError('no list of {"image_id", "caption"}')
    return entries


def _read_csv(text: str) -> list[dict]:
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ValueError(f"its first line is not {','.join(COLUMNS)}")
    entries: dict[str, dict] = {}
    for image, caption, _, score, ended, checkpoint, model, decode in rows[1:]:
        one = {"caption": caption, "score": float(score), "ended": ended == "true"}
        made_by = {"checkpoint": checkpoint, "model": model, "decode": decode}
        entry = entries.setdefault(image, {"image": image, **made_by, "alternatives": []})
        entry["alternatives"].append(one)
    return list(entries.values())


FORMATS = {
    "text": Format("", _text_row, "", "", "image", None),
    "json": Format("[\n", _json_row, ",\n", "\n]\n", "image", _read_json),
    "csv": Format(",".join(COLUMNS) + "\n", _csv_row, "", "", "image", _read_csv),
    "coco": Format("[\n", _coco_row, ",\n", "\n]\n", "image_id", _read_coco),
}


class CaptionStream:
    """Entries on stdout, one at a time."""

    def __init__(self, format: str):
        self.format, self.empty = FORMATS[format], True

    def has(self, entry: dict) -> bool:
        return False

    def add(self, entry: dict) -> None:
        print(self.format.head if self.empty else self.format.between, self.format.row(entry), sep="", end="", flush=True)
        self.empty = False

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            print(self.format.head if self.empty else "", self.format.tail, sep="", end="")


class CaptionFile:
    """Entries in a file, on top of those that are there already. What is not saved yet is saved on leaving, whatever the reason.

    made_by: checkpoint, model and decode of the entries to come. Raises BadInput: a file of another kind, or made by another checkpoint, other
    weights or another search, or one that another process is writing. It is this object's until
    `__exit__`.
    """

    def __init__(self, path: str | Path, format: str, made_by: dict[str, str]):
        self.path, self.name, self.format = Path(path), format, FORMATS[format]
        self.rows: dict[str | int, str] = {}  # as text, so that saving is joining
        self.made_by, self.places = made_by, {}  # places: of COCO's ids, the photos' full names
        self.saved, self.cost, self.dirty = time.monotonic(), 0.0, True
        if self.format.read is None:
            raise BadInput(f"--out {path}: text is for reading; add --format json, csv or coco, or write > {path} in place of --out")
        with contextlib.ExitStack() as stack:
            busy = f"--out {self.path}: another caption.py is writing it; wait for it or choose another name"
            target = Path(os.path.realpath(self.path))  # two names of one file are one file
            stack.enter_context(held(target.with_name(f".{target.name}.lock"), busy))
            if self.path.exists():
                self._read()
            self.lock = stack.pop_all()

    def has(self, entry: dict) -> bool:
        return entry[self.format.key] in self.rows

    def add(self, entry: dict) -> None:
        self.rows[entry[self.format.key]] = self.format.row(entry)
        if self.name == "coco":
            self.places[entry["image_id"]] = entry["place"]
        self.dirty = True
        if time.monotonic() - self.saved > max(SAVE_SECONDS, self.cost / SAVE_SHARE):
            self.save()

    def save(self) -> None:
        started = time.monotonic()
        if self.name == "coco":  # first, so that no photo of the results lacks there, whenever a kill comes
            with atomic_write(beside(self.path)) as file:
                json.dump({**self.made_by, "photos": self.places}, file, ensure_ascii=False, indent=0)
        with atomic_write(self.path) as file:
            file.write(self.format.head)
            file.write(self.format.between.join(self.rows.values()))
            file.write(self.format.tail)
        self.saved, self.dirty = time.monotonic(), False
        self.cost = self.saved - started

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        with self.lock:
            if self.dirty and (self.rows or kind is None):
                self.save()

    def _read(self) -> None:
        if not self.path.is_file():
            raise BadInput(f"--out {self.path}: not a file; name one, or leave the option out to print on stdout")
        try:
            entries = self.format.read(self.path.read_bytes().decode("utf-8-sig"))
            self.rows = {entry[self.format.key]: self.format.row(entry) for entry in entries}
        except UNREADABLE as error:
            raise BadInput(
                f"--out {self.path}: is there already and not what --format {self.name} writes ({error}); choose another name"
            ) from error
        self.dirty = False
        for entry in [self._read_beside()] if self.name == "coco" else entries:
            for what, now in self.made_by.items():
                if entry[what] != now and not _same_place(entry[what], now):
                    raise BadInput(
                        f"--out {self.path}: {entry['image']} in it has {what} {entry[what]!r}, this call {now!r}; choose another name, or call "
                        "as before"
                    )

    def _read_beside(self) -> dict:
        """What made the COCO results, as an entry; their photos' names go to `places`."""
        path = beside(self.path)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.places = {identity: found["photos"][str(identity)] for identity in self.rows}
            if not all(isinstance(text, str) for text in [*(found[name] for name in MADE_BY), *self.places.values()]):
                raise TypeError("a name that is no text")
        except FileNotFoundError as error:
            raise BadInput(
                f"--out {self.path}: is there already without {path.name}, which says what made it and of which photos; choose another name"
            ) from error
        except UNREADABLE as error:
            raise BadInput(f"{path}: does not belong to {self.path} ({error!r}); choose another name for --out") from error
        return {"image": "what is"} | {name: found[name] for name in MADE_BY}


def beside(path: Path) -> Path:
    """The file that says what made COCO results: {"checkpoint", "model", "decode", "photos": {image_id: full name}}."""
    return path.with_name(f"{path.name}.made-by.json")


def _same_place(one: str, other: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return Path(one).exists() and Path(one).resolve() == Path(other).resolve()
    return False


def describe_decode(decode: Decode, locations: str = "") -> str:
    """How captions were searched, in a few words: the beam, or that they are drawn, and whatever does not stand at caption.py's default."""
    said = ["sample" if decode.sample else f"beam {decode.beam}"]
    said += [
        f"{name.replace('_', '-')} {value}"
        for name, value in vars(decode).items()
        if name not in ("beam", "sample", "ban_unk") and value != getattr(Decode, name)
    ]
    said.append("no unk" if decode.ban_unk else "unk allowed")
    return ", ".join([*said, *([f"locations {locations}"] if locations else [])])


def open_output(
    path: str, format: str, made_by: dict[str, str], places: Mapping[str | int, str] | None = None
) -> CaptionStream | CaptionFile:
    """path: "" or "-" for stdout. places: of COCO results to come, id -> the photo's full name.

    Raises BadInput, also where a file of COCO results names its images otherwise, or has another photo of that id.
    """
    if path in ("", "-"):
        return CaptionStream(format)
    output = CaptionFile(path, format, made_by)
    try:
        _check_places(output, places or {})
    except BadInput:
        output.lock.close()
        raise
    return output


def _check_places(output: CaptionFile, places: Mapping[str | int, str]) -> None:
    """BadInput where a file of COCO results names its images otherwise, or has another photo of an id."""
    path, format = output.path, output.name
    if format == "coco" and len({type(identity) for identity in [*output.rows, *places]}) > 1:
        raise BadInput(f"--out {path}: COCO's image numbers and file names would stand in it side by side; choose another name")
    for identity, place in places.items():
        if output.places.get(identity, place) != place:
            raise BadInput(f"--out {path}: image {identity} in it is {output.places[identity]}, this call has {place}; choose another name")


def check_writable(option: str, path: str | Path) -> None:
    """Raises BadInput that names the option where no file of this name can be written. A trial beside it: nothing stays."""
    path = Path(path)
    try:
        place = path.parent.resolve() / path.name
        place = place.resolve() if place.is_symlink() else place
        if place.is_dir():
            raise BadInput(f"{option} {path}: is a folder; name a file in it")
        there = next(folder for folder in place.parents if folder.exists())
        # On leaving, a trial in a folder of its own takes the folders with it that had to be made.
        with tempfile.TemporaryDirectory(dir=there, prefix=".trial-") as trial, atomic_write(trial / place.relative_to(there)):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round
        raise BadInput(f"{option} {path}: cannot be written ({getattr(error, 'strerror', None) or error}); choose another place") from error


def coco_ids(names: Iterable[str]) -> dict[str, int | str]:
    """Photos' names -> their ids in COCO results: the number in COCO's own file name where all have one, else the file's name without ending.

    Raises BadInput where two photos would have one id.
    """
    stems = {name: Path(name).stem for name in names}
    numbers = {name: COCO_NAME.fullmatch(stem) for name, stem in stems.items()}
    ids: dict[str, int | str] = {name: int(found[1]) for name, found in numbers.items()} if all(numbers.values()) else dict(stems)
    owners: dict[int | str, str] = {}
    for name, identity in ids.items():
        if owners.setdefault(identity, name) != name:
            raise BadInput(
                f"--format coco: {owners[identity]} and {name} would both be image {identity}; caption them in two calls, into two files"
            )
    return ids


def strip_name(name: str) -> str:
    """A file name for a photo's attention strip: its own, made harmless, and 12 hex digits of a hash that tell equal names in two folders apart."""
    stem = re.sub(r"[^\w-]+", "_", Path(name).stem)[:50]
    return f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.png"
