"""Which photos a command line names: files, folders, patterns, - for a photo on stdin, demo for some drawn scenes. Opens none of them."""

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.bad_input import BadInput

if TYPE_CHECKING:
    from PIL import Image

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
SCENES = 4  # of the demo's test split
MOST_BYTES = 200_000_000  # on stdin


@dataclass(frozen=True)
class Photo:
    """A photo by the name that output gives it. source: its file, its bytes, or the picture itself."""

    name: str
    source: "Path | bytes | Image.Image"

    @property
    def place(self) -> str:
        """Its file's full name, wherever the command is called; of no file, its name."""
        return _printable(self.source.absolute()) if isinstance(self.source, Path) else self.name

    def open(self) -> "Image.Image":
        """RGB, upright. Raises BadInput that names the photo."""
        from captioning.images import open_image

        return open_image(self.source, name=self.name) if isinstance(self.source, Path | bytes) else self.source


def find_photos(names: Sequence[str]) -> list[Photo]:
    """In the order given, a folder's pictures by name, each photo once. A name that matches nothing is kept: opening it says why. Raises BadInput."""
    if "-" in names:
        return [_on_stdin(names)]
    found: dict[Path, Photo] = {}
    for name in names:
        path = Path(name)
        if not name:
            raise BadInput("--img '': an empty name; give files, folders or patterns")
        if name == "demo" and not path.exists():
            found |= {Path(scene.name): scene for scene in _scenes()}
            continue
        for file in _files(path, name):
            found.setdefault(Path(os.path.realpath(file.parent), file.name), Photo(_printable(file), file))
    return list(found.values())


def _printable(path: Path) -> str:
    """A name that is no UTF-8 could not be printed or written."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _files(path: Path, name: str) -> list[Path]:
    if path.is_dir():
        # Names that begin with a dot are hidden, macOS' "._beach.jpg" beside a copied beach.jpg among them.
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
        if not inside:
            raise BadInput(f"{name}: no pictures in this folder ({', '.join(PICTURES)})")
        return inside
    if not path.exists() and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise BadInput(f"{name}: matches no file")
        return [Path(match) for match in matches]
    return [path]


def _on_stdin(names: Sequence[str]) -> Photo:
    if len(names) > 1:
        raise BadInput("--img -: the photo on stdin is captioned alone; leave out the other names, or give them in a call of their own")
    if sys.stdin is None or sys.stdin.isatty():
        raise BadInput("--img -: no photo comes in on stdin; write: python caption.py --img - < photo.jpg")
    content = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise BadInput(f"--img -: more than {MOST_BYTES / 1e6:.0f} MB on stdin; save the photo and name its file")
    return Photo("stdin", content)


def _scenes() -> list[Photo]:
    from captioning.data import load_data

    data = load_data("demo")
    return [Photo(data.examples[i].image_id, data.open_image(i)) for i in data.split("test")[:SCENES]]


def example(root: Path) -> str:
    """What to write behind --img that is there in every checkout: the folder of examples, or drawn scenes."""
    folder = root / "examples"
    pictures = folder.is_dir() and any(p.suffix.lower() in PICTURES for p in folder.iterdir())
    return os.path.relpath(folder) if pictures else "demo"
