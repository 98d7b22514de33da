"""The fingerprint of a data set: one sha256 over captions, splits and images, the same whether the images lie in tars or in folders.

Rule. Hashed are, in file order: every image's id, split, captions, raw captions, file name and size in bytes; and contents. Of a data set of up
to SMALL_COUNT images in up to SMALL_BYTES all contents are hashed; of a larger one the contents of SAMPLE images, chosen by the hash of their names
(reading COCO's 20 GB at a start would take minutes). So a changed caption, a missing image or an image encoded anew always shows; what may escape is a
change inside single files of a large set that leaves their sizes equal to the byte. The images' part is kept under the cache folder, keyed by every
file's path, size and time, so a second start only asks the file system.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.atomic import atomic_write
from captioning.cache import default_cache

if TYPE_CHECKING:
    from captioning.data import Example
    from captioning.image_files import ImageFiles

SMALL_BYTES = 1_000_000_000
SMALL_COUNT = 40_000
SAMPLE = 1_024


def file_sha256(path: str | Path) -> str:
    """Hex sha256 of a file, read in pieces. OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(examples: Sequence["Example"], images: "ImageFiles", cache: Path | None = None) -> str:
    """Hex sha256 by the module's rule. Raises BadInput where an image cannot be read."""
    return combine(examples, _images_digest(examples, images, cache or default_cache()))


def combine(examples: Iterable["Example"], images_digest: str) -> str:
    """Hex sha256 over the captions' side and the hash of the images' side, whatever made that (drawn scenes: the drawing code and its seed)."""
    total = hashlib.sha256(images_digest.encode())
    for example in examples:
        # JSON, because joined strings of different captions can be equal.
        row = (example.image_id, example.file, example.split, example.captions, example.raw)
        total.update(json.dumps(row).encode() + b"\n")
    return total.hexdigest()


def _images_digest(examples: Sequence["Example"], images: "ImageFiles", cache: Path) -> str:
    key = hashlib.sha256()
    for example, place in zip(examples, images.places, strict=True):
        key.update(f"{example.file}\0{place.path}\0{place.offset}\0{place.size}\0{place.modified}\n".encode(errors="surrogateescape"))
    kept = cache / f"images-{key.hexdigest()[:16]}.sha256"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest = kept.read_text().strip()
        if len(digest) == 64:
            return digest
    digest = _hash_images([example.file for example in examples], images)
    # Only a saving of time: with a read-only or full cache folder the images are hashed again.
    with contextlib.suppress(OSError), atomic_write(kept) as file:
        file.write(digest + "\n")
    return digest


def _hash_images(names: Sequence[str], images: "ImageFiles") -> str:
    sizes = [place.size for place in images.places]
    chosen = set(range(len(names)))
    if len(sizes) > SMALL_COUNT or sum(sizes) > SMALL_BYTES:
        by_hash = sorted(chosen, key=lambda index: hashlib.sha256(names[index].encode()).digest())
        chosen = set(by_hash[:SAMPLE])
    total = hashlib.sha256()
    for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
        contents = hashlib.sha256(images.read(index)).hexdigest() if index in chosen else ""
        total.update(json.dumps((name, size, contents)).encode() + b"\n")
    return total.hexdigest()
