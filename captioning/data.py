"""One data set type for everything that has images with captions; `load_data` finds out what lies in a folder.

python -m captioning.data DIR [--no-images] [--workers N]

prints splits, counts, words, lengths, both vocabulary rules and what is broken. DIR is a folder with a Karpathy JSON (`dataset*.json`) and its
images (in folders, or in tars that are never unpacked), the JSON itself, or the word "demo" for the project's own drawn scenes.
Reads DIR; writes only small index files under the cache folder ($RECAP_CACHE, else ~/.cache/recap). Exit status 1 when an image is broken.
"""

import argparse
import gc
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


def load_data(path: str | Path) -> CaptionData:
    """The data set at `path`: a folder, a Karpathy JSON, or "demo". Raises BadInput that names the file and the way out."""
    if str(path) == "demo":
        from captioning import scenes

        return scenes.load_scenes()
    path = Path(path).expanduser()
    if not path.exists():
        raise BadInput(f"{path}: no such data folder; give a folder with dataset*.json and its images, or 'demo' for the drawn scenes")
    if path.is_file():
        return _load(path, path.parent)
    found = sorted(path.glob("dataset*.json"))
    if not found:
        raise BadInput(f"{path}: no dataset*.json (Karpathy's layout) in it; put one beside the images, or give the path of the JSON file")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise BadInput(f"{path}: {len(found)} data sets lie here ({names}); give the path of the one meant, like {found[0]}")
    return _load(found[0], path)


def _load(captions_file: Path, root: Path) -> CaptionData:
    from captioning import karpathy

    # Nothing in a data set points in circles, and looking for such circles among millions of new strings takes a third of COCO's loading time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return karpathy.load_karpathy(captions_file, root)
    finally:
        if collecting:
            gc.enable()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m captioning.data", description="What a data set holds, and what is broken in it.")
    parser.add_argument("data", metavar="DIR", help="folder with a Karpathy JSON and its images, the JSON itself, or 'demo'")
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

    lines = [f"data: {data.name} in {data.root}", f"fingerprint: {data.fingerprint}", ""]
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
