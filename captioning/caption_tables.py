"""Tables of captions: a CSV or TSV of one's own, Kaggle's captions.txt of Flickr8k, Kaggle's results.csv of Flickr30k.

`load_table(path, root)`. The first line names the columns, in any order and case: IMAGE_COLUMNS, CAPTION_COLUMNS and, if there is one, `split` (train,
val or validation, test). One row a caption, any number of rows an image; the separator is a comma, semicolon, tab or |. Images lie anywhere under `root`, or in
root/*.tar; a row names them by file name or by path. Without a split column the split is made by `captioning.made_splits`. Tokens are made by
`captioning.tokens`; raw captions stay as written, without the white space around them.

Equal rows are an error, for a table pasted twice counts twice. Kaggle's captions.txt may have them: 10 of the 8,000 images of Flickr8k were described by two
people in the same words.
"""

import csv
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from captioning.bad_input import BadInput
from captioning.data import CaptionData, Example
from captioning.fingerprint import fingerprint
from captioning.image_files import FIRST_FEW, find_images
from captioning.karpathy import check_examples, check_places
from captioning.made_splits import describe_rule, make_splits
from captioning.tokens import tokenize

IMAGE_COLUMNS = ("image", "file", "filename", "file_name", "image_name")
CAPTION_COLUMNS = ("caption", "comment", "text")
SPLIT_OF = {"train": "train", "val": "val", "validation": "val", "test": "test"}
SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "|"}
COLUMNS = f"a column {' or '.join(IMAGE_COLUMNS)} and a column {' or '.join(CAPTION_COLUMNS)}"
MAY_REPEAT = "captions.txt"
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Row(NamedTuple):
    """One line of a table."""

    line: int  # where it starts; a quoted caption may run over several
    file: str
    caption: str
    split: str | None  # None: the table has no such column


def table_files(folder: Path) -> list[Path]:
    """The tables in `folder`: every *.csv and *.tsv, and captions.txt."""
    return sorted(file for file in folder.iterdir() if file.is_file() and _is_table(file.name.lower()) and not file.name.startswith("."))


def _is_table(name: str) -> bool:
    return name.endswith((".csv", ".tsv")) or name == "captions.txt"


def load_table(path: Path, root: Path) -> CaptionData:
    """The data set in the table `path`, its images under `root`. Raises BadInput that names the file and the line."""
    rows = read_rows(path, root)
    examples, first_lines = _examples(path, rows)
    rule = "given"
    if rows[0].split is None:
        splits, rule = make_splits(path, list(first_lines)), describe_rule()
        examples = [Example(e.image_id, e.file, split, e.captions, e.raw) for e, split in zip(examples, splits, strict=True)]
    check_examples(path, examples)
    images = find_images(root, _locate(path, root, first_lines))
    check_places(path, examples, images)
    return CaptionData(root.resolve().name, root, examples, fingerprint(examples, images), images, rule)


def read_rows(path: Path, root: Path) -> list[Row]:
    """The rows of the table, each with an image, a caption that has a word, and a split where there is such a column. Raises BadInput."""
    text = _text(path)
    separator, header = _header(path, text)
    cells = _Cells(path, separator, header, text)
    image, caption = (_column(header, names) for names in (IMAGE_COLUMNS, CAPTION_COLUMNS))
    split = header.index("split") if "split" in header else None
    rows, seen = [], {}
    without_image, without_caption, repeated = [], [], []
    for line, row in cells:
        if not any(row):
            continue
        if path.name != MAY_REPEAT and seen.setdefault(tuple(row), line) != line:
            repeated.append(line)
        if not row[image]:
            without_image.append(line)
        if not tokenize(row[caption]):
            without_caption.append(line)
        rows.append(Row(line, _plain(row[image], root), row[caption], None if split is None else _split(path, line, row[split])))
    _refuse(path, without_image, "without the name of an image", "write it or take the row out")
    _refuse(path, without_caption, "with an empty caption or one without a word", "write the caption or take the row out")
    _refuse(path, repeated, "equal to an earlier one", "keep one of each")
    if not rows:
        raise BadInput(f"{path}: holds no row below its header; write one row for each caption")
    cells.say_mended()
    return rows


class _Cells:
    """Iterates over (line number, cells without the white space around them); mends what can be read in one way only, and says so once."""

    def __init__(self, path: Path, separator: str, header: list[str], text: str):
        self.path, self.separator, self.header = path, separator, header
        # In Kaggle's results.csv a quote is a character like any other.
        quoting = csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL
        self.reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True)
        self.caption = _column(header, CAPTION_COLUMNS)
        self.mended: dict[str, list[int]] = {}

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        line = 1
        try:
            for number, row in enumerate(self.reader):
                if number:
                    yield line, [cell.strip() for cell in self._whole(line, row)]
                line = self.reader.line_num + 1
        except csv.Error as error:
            raise BadInput(
                f"{self.path}, line {line}: the quotes of this row do not fit ({error}); put the caption in quotes and double those inside it"
            ) from error

    def _whole(self, line: int, row: list[str]) -> list[str]:
        """The row with as many cells as the header."""
        missing = len(self.header) - len(row)
        # Kaggle's results.csv has one such row: "2199200615.jpg| 4   A dog runs across the grass ."
        run_together = (
            re.fullmatch(r"\s*(\d+)\s+(.*)", row[-1], re.DOTALL)
            if missing == 1 and self.header[-2:] == ["comment_number", "comment"]
            else None
        )
        if run_together:
            self._mend("the separator between number and comment was missing", line)
            return [*row[:-1], *run_together.groups()]
        if not any(row[len(self.header) :]):
            return row[: len(self.header)] + [""] * missing
        if self.caption == len(self.header) - 1:
            self._mend(f"the caption held the separator ({SEPARATORS[self.separator]}) without quotes", line)
            return [*row[: self.caption], self.separator.join(row[self.caption :])]
        raise BadInput(f"{self.path}, line {line}: {len(row)} cells, but the header has {len(self.header)}; put the caption in quotes")

    def _mend(self, what: str, line: int) -> None:
        self.mended.setdefault(what, []).append(line)

    def say_mended(self) -> None:
        for what, lines in self.mended.items():
            print(f"{self.path}: mended {len(lines)} row{'s' if len(lines) > 1 else ''} ({_few_lines(lines)}): {what}", file=sys.stderr)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{path}: UTF-16 text, not UTF-8; save it as UTF-8 (in Excel: 'CSV UTF-8')")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8, the file may be in Windows' cp1252; save it as UTF-8 (in Excel: 'CSV UTF-8') "
            f"or convert it: iconv -f cp1252 -t utf-8 {path.name} > new.csv"
        ) from error
    if not text.strip():
        raise BadInput(f"{path}: empty; its first line must name the columns, {COLUMNS}")
    return text


def _header(path: Path, text: str) -> tuple[str, list[str]]:
    """The separator, and the names of the columns in lower case."""
    for separator in SEPARATORS:
        try:
            first = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        except csv.Error:
            continue
        header = [name.strip().lower() for name in first]
        if _column(header, IMAGE_COLUMNS) is not None and _column(header, CAPTION_COLUMNS) is not None:
            return separator, header
    start = text.splitlines()[0].strip()
    found = repr(start[:60]) if start else "an empty line"
    raise BadInput(f"{path}, line 1: no header with {COLUMNS}, but {found}; write one as the first line, like: image,caption")


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _split(path: Path, line: int, cell: str) -> str:
    if cell.lower() not in SPLIT_OF:
        raise BadInput(f"{path}, line {line}: the split is {cell!r}; it must be one of {', '.join(SPLIT_OF)}")
    return SPLIT_OF[cell.lower()]


def _plain(file: str, root: Path) -> str:
    """The image's path with "/", relative to `root`."""
    file = file.replace("\\", "/")
    file = file.removeprefix(f"{root.absolute()}/")
    return file.removeprefix("./")


def _examples(path: Path, rows: Sequence[Row]) -> tuple[list[Example], dict[str, int]]:
    """One example an image, in order of first rows, in "train" where the table has no splits; and every image's first line."""
    by_file: dict[str, list[Row]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    examples = []
    for file, own in by_file.items():
        other = next((row for row in own if row.split != own[0].split), None)
        if other:
            raise BadInput(
                f"{path}, line {other.line}: {file} is in the split {other.split}, but in {own[0].split} at line {own[0].line}; give all its rows one split"
            )
        tokens = tuple(tokenize(row.caption) for row in own)
        examples.append(Example(os.path.splitext(file)[0], file, own[0].split or "train", tokens, tuple(row.caption for row in own)))
    return examples, {file: own[0].line for file, own in by_file.items()}


def _refuse(path: Path, lines: Sequence[int], what: str, way_out: str) -> None:
    if lines:
        raise BadInput(f"{path}: {len(lines)} row{'s' if len(lines) > 1 else ''} {what} ({_few_lines(lines)}); {way_out}")


def _few_lines(lines: Sequence[int]) -> str:
    few = ", ".join(map(str, lines[:FIRST_FEW])) + (", ..." if len(lines) > FIRST_FEW else "")
    return f"line{'s' if len(lines) > 1 else ''} {few}"


def _locate(path: Path, root: Path, first_lines: dict[str, int]) -> list[str]:
    """Every image's path below `root`, however deep; the name itself where only a tar can hold it. Says on stderr which image files have no row."""
    paths_of = _files_below(root)
    located, missing = [], []
    for name, line in first_lines.items():
        bare = name.rpartition("/")[2]
        found = [place for place in paths_of.get(bare, ()) if place == name or place.endswith(f"/{name}")]
        if name in found:
            found = [name]
        if len(found) > 1 and len({os.path.getsize(os.path.join(root, place)) for place in found}) > 1:
            raise BadInput(
                f"{path}, line {line}: {name} is the name of different images, {found[0]} and {found[1]}; write its path into the row"
            )
        if not found:
            missing.append(f"{name} in line {line}")
        located.append(found[0] if found else name)
    if missing and not any(root.glob("*.tar")):
        few = ", ".join(missing[:FIRST_FEW]) + (", ..." if len(missing) > FIRST_FEW else "")
        raise BadInput(
            f"{path}: {len(missing)} of {len(first_lines)} images are missing ({few}); put them anywhere below {root}, or take their rows out"
        )
    _say_without_row(path, paths_of, first_lines)
    return located


def _files_below(root: Path) -> dict[str, list[str]]:
    """By bare name the paths relative to `root`, the shallowest first. Kaggle's archive of Flickr30k holds its images two folders deep."""
    paths_of: dict[str, list[str]] = {}
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        # A link to a folder above would lead round in circles.
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            below = os.path.relpath(folder, root)
            for name in files:
                paths_of.setdefault(name, []).append(name if below == "." else f"{below}/{name}")
    for places in paths_of.values():
        places.sort(key=lambda place: (place.count("/"), place))
    return paths_of


def _say_without_row(path: Path, paths_of: dict[str, list[str]], first_lines: dict[str, int]) -> None:
    with_row = {name.rpartition("/")[2] for name in first_lines}
    without = sorted(
        name for name in paths_of if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".") and name not in with_row
    )
    if without:
        few = ", ".join(without[:FIRST_FEW]) + (", ..." if len(without) > FIRST_FEW else "")
        print(f"{path}: {len(without)} image files have no row and are left out ({few})", file=sys.stderr)
