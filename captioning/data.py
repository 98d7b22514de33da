"""One data set type for everything that has images with captions; `load_data` finds out what lies in a folder.

python -m captioning.data DIR [--no-images] [--workers N]
python -m captioning.data download flickr8k|flickr30k|coco --to DIR

The first prints splits, counts, words, lengths, both vocabulary rules and what is broken; the second fetches a data set from its public sources
(captioning/download.py; a folder of that name is ./download). DIR is the word "demo" for the project's own drawn scenes, or a folder
with captions and their images (in folders, or in tars that are never unpacked). Of what lies in the folder the first counts:

1. `dataset*.json`, Karpathy's layout: splits and tokens are given (captioning/karpathy.py);
2. `captions*.json` in it or in its `annotations/`, COCO's own layout: captions_train2014.json with captions_val2014.json, or one file (captioning/coco_files.py);
3. a table: `*.csv`, `*.tsv` or `captions.txt`, also Kaggle's of Flickr8k and Flickr30k (captioning/caption_tables.py).

Two data sets of one kind are an error; the path of a captions file instead of DIR says which is meant. A data set of one's own is a folder of photos with
a table like

    image,caption
    photo-1.jpg,"Two dogs, both wet, run on a beach."
    photo-1.jpg,Dogs play at the sea.

and, if one likes, a third column `split` (train, val, test). Where captions come without splits, every image's split follows from its name
(captioning/made_splits.py); where they come without tokens, tokens are made (captioning/tokens.py). `CaptionData.split_rule` records which.
Reads DIR; writes only small index files under the cache folder ($RECAP_CACHE, else ~/.cache/recap). Exit status 1 when an image is broken.
"""

import argparse
import gc
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from captioning.bad_input import BadInput, run_command

if TYPE_CHECKING:
    from PIL import Image

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """One image and its captions."""

    image_id: str  # unique: COCO's id, or the file's stem, or "scene-000123"
    file: str  # the image's name as the captions file gives it, with its folder where it has one; "" for a drawn scene
    split: str  # "train", "val" or "test"; Karpathy's restval is train
    captions: tuple[str, ...]  # the data set's own tokens joined by one space, lower case: "a dog runs"
    raw: tuple[str, ...]  # as written: what the coco protocol's tokenizer sees


class ImageSource(Protocol):
    """Where a data set's images come from: files, members of tars, or a drawing."""

    def open(self, index: int) -> "Image.Image":
        """The image of `examples[index]` as RGB, upright. Raises BadInput that names the file."""


@dataclass(eq=False)
class CaptionData:
    """A data set. `examples` is in the captions file's order; every index below counts in it."""

    name: str
    root: Path
    examples: list[Example]
    fingerprint: str  # hex sha256 over captions, splits and images; `captioning.fingerprint` has the rule
    images: ImageSource
    split_rule: str = "given"  # else how the splits were made
    _splits: dict[str, list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._splits = {name: [] for name in SPLITS}
        for index, example in enumerate(self.examples):
            self._splits[example.split].append(index)

    def split(self, name: str) -> list[int]:
        """Indices of one split's examples, in file order."""
        if name not in self._splits:
            raise BadInput(f"unknown split {name!r}: choose one of {', '.join(SPLITS)}")
        return self._splits[name]

    def open_image(self, index: int) -> "Image.Image":
        return self.images.open(index)

    def __len__(self) -> int:
        return len(self.examples)


def load_data(path: str | Path, restval: bool = True) -> CaptionData:
    """The data set at `path`: a folder, a captions file, or "demo" (the module says which files). Raises BadInput that names the file and the way out.

    restval=False leaves out the images that Karpathy's split calls restval; other data sets have none.
    """
    if str(path) == "demo":
        from captioning import scenes

        return scenes.load_scenes()
    path = Path(path).expanduser()
    if not path.exists():
        raise BadInput(f"{path}: no such data folder; give a folder with captions and their images, or 'demo' for the drawn scenes")
    # Nothing in a data set points in circles, and looking for such circles among millions of new strings takes a third of COCO's loading time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _load_file(path, restval) if path.is_file() else _load_folder(path, restval)
    finally:
        if collecting:
            gc.enable()


def _load_file(path: Path, restval: bool) -> CaptionData:
    from captioning import caption_tables, coco_files, karpathy

    if path.suffix.lower() != ".json":
        return caption_tables.load_table(path, path.parent)
    if path.name.startswith("captions"):
        return coco_files.load_coco([path], coco_files.image_root(path))
    return karpathy.load_karpathy(path, path.parent, restval)


def _load_folder(folder: Path, restval: bool) -> CaptionData:
    from captioning import caption_tables, coco_files, karpathy

    if found := sorted(folder.glob("dataset*.json")):
        return karpathy.load_karpathy(_only(folder, found), folder, restval)
    if found := coco_files.coco_files(folder):
        return coco_files.load_coco(found, coco_files.image_root(found[0]))
    if found := caption_tables.table_files(folder):
        return caption_tables.load_table(_only(folder, found), folder)
    raise BadInput(
        f"{folder}: no dataset*.json (Karpathy's layout), captions*.json (COCO's), *.csv, *.tsv or captions.txt in it; put one beside the images, "
        f"or give the path of the captions file{_deeper(folder)}"
    )


def _deeper(folder: Path) -> str:
    """A hint for archives that unpack into a folder of their own."""
    from captioning import caption_tables

    inner = (place for place in sorted(folder.iterdir()) if place.is_dir() and not place.name.startswith("."))
    names = ("dataset*.json", "captions*.json", "annotations/captions*.json")
    found = [str(place) for place in inner if any(any(place.glob(name)) for name in names) or caption_tables.table_files(place)]
    return f"; captions lie in {' and '.join(found)}" if found else ""


def _only(folder: Path, found: list[Path]) -> Path:
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise BadInput(f"{folder}: {len(found)} data sets lie here ({names}); give the path of the one meant, like {found[0]}")
    return found[0]


def main() -> int:
    if sys.argv[1:2] == ["download"]:
        from captioning import download

        return download.main(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m captioning.data",
        description="What a data set holds, and what is broken in it. To fetch one: python -m captioning.data download --help",
    )
    parser.add_argument("data", metavar="DIR", help="folder with captions and their images, the captions file itself, or 'demo'")
    parser.add_argument("--no-images", action="store_true", help="do not open the images (they must still be there)")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes that open images; 0 opens them in this one (default: one per core)"
    )
    options = parser.parse_args()
    if options.workers is not None and options.workers < 0:
        raise BadInput(f"--workers {options.workers}: must be 0 or more")
    data = load_data(options.data)
    print("\n".join(describe(data)))
    if options.no_images:
        return 0
    broken = broken_images(data, options.workers)
    for message in broken:
        print(f"broken: {message}")
    print(f"images opened: {len(data)}, broken: {len(broken)}")
    return 1 if broken else 0


def describe(data: CaptionData) -> list[str]:
    """Lines of text: what `python -m captioning.data` prints before it opens images."""
    from captioning.vocabulary import RULES, SPECIALS, Vocabulary

    lines = [f"data: {data.name} in {data.root}", f"fingerprint: {data.fingerprint}", f"splits: {data.split_rule}", ""]
    lines.append(
        f"{'split':<6} {'images':>8} {'captions':>9} {'per image':>10} {'words':>10} {'different':>10} {'mean length':>12} {'longest':>8}"
    )
    for split in (*SPLITS, "all"):
        examples = [example for example in data.examples if split in (example.split, "all")]
        lines.append(_split_line(split, examples))
    lines.append("")
    for rule, settings in RULES.items():
        words = len(Vocabulary.from_data(data, rule)) - len(SPECIALS)
        where = "all splits" if len(settings["splits"]) > 1 else "training captions"
        counted = f"{words} words seen more than {settings['minimum_count'] - 1} times in {where}"
        lines.append(f"vocabulary, {rule}: {counted} (+ {len(SPECIALS)} specials)")
    return lines


def _split_line(split: str, examples: list[Example]) -> str:
    per_image = Counter(len(example.captions) for example in examples)
    lengths: Counter[int] = Counter()
    words: set[str] = set()
    for example in examples:
        for caption in example.captions:
            tokens = caption.split()
            lengths[len(tokens)] += 1
            words.update(tokens)
    captions, total = lengths.total(), sum(length * n for length, n in lengths.items())
    span = str(min(per_image)) if len(per_image) == 1 else f"{min(per_image)}-{max(per_image)}"
    mean = f"{total / captions:.1f}"
    return f"{split:<6} {len(examples):>8} {captions:>9} {span:>10} {total:>10} {len(words):>10} {mean:>12} {max(lengths):>8}"


def broken_images(data: CaptionData, workers: int | None = None) -> list[str]:
    """Open every image in parallel; one message for each that cannot be opened, in the data set's order."""
    from captioning.progress import track
    from captioning.workers import CHUNK, in_chunks, map_chunks

    chunks = in_chunks(len(data), CHUNK)
    bar = track(chunks, "opening images", units=f"batches of {CHUNK}")
    return [message for _, found in zip(bar, map_chunks(_open_all, data, chunks, workers), strict=False) for message in found]


def _open_all(data: CaptionData, indices: range) -> list[str]:
    broken = []
    for index in indices:
        try:
            data.open_image(index)
        except BadInput as error:
            broken.append(str(error))
    return broken


if __name__ == "__main__":
    # The module under its own name, not as __main__: else karpathy.py would get a second Example class.
    from captioning import data as this

    run_command(this.main)
