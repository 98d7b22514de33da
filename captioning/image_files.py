"""Where a data set's image files lie: in folders, or in tars whose members are read by offset and never unpacked.

`find_images(root, names)` looks every name up once and gives an ImageFiles, from which `open(index)` and `read(index)` serve processes and threads.
Tar indices are kept under the cache folder, keyed by the tar's path, size and time.
"""

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.cache import default_cache
from captioning.images import AT_MOST, open_image, read_range

# Looked at first, in this order; every other folder directly in the root comes after them.
USUAL_FOLDERS = ("", "images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images")
FIRST_FEW = 3


class Place(NamedTuple):
    """Where one image's bytes lie."""

    path: str  # the image file, or the tar
    member: str  # its name in the tar, "" for a file of its own
    offset: int
    size: int  # bytes
    modified: int  # of `path`, nanoseconds


class ImageFiles:
    """The images of a data set, in the order of its examples."""

    def __init__(self, places: Sequence[Place]):
        self.places = list(places)
        self._descriptors: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getstate__(self) -> dict:
        return {"places": self.places, "_descriptors": {}}  # an open file's number means nothing in another process

    def name(self, index: int) -> str:
        """What messages call the image."""
        place = self.places[index]
        return f"{place.path}:{place.member}" if place.member else place.path

    def read(self, index: int) -> bytes:
        """The image file's bytes."""
        place = self.places[index]
        if place.member:
            return read_range(self._tar(place.path), place.offset, place.size, self.name(index))
        try:
            return Path(place.path).read_bytes()
        except OSError as error:
            raise BadInput(
                f"{place.path}: cannot be read ({error.strerror}); put the image back or leave it out of the captions file"
            ) from error

    def open(self, index: int, at_most: int = AT_MOST) -> Image.Image:
        """The image as RGB, upright (`captioning.images.open_image`)."""
        place = self.places[index]
        return open_image(self.read(index) if place.member else place.path, at_most=at_most, name=self.name(index))

    def _tar(self, path: str) -> int:
        if path not in self._descriptors:
            try:
                opened = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise BadInput(f"{path}: cannot be read ({error.strerror}); put the tar back") from error
            if self._descriptors.setdefault(path, opened) != opened:
                os.close(opened)  # another thread was first
        return self._descriptors[path]

    def __del__(self) -> None:
        for descriptor in self._descriptors.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)


def find_images(root: Path, names: Sequence[str], cache: Path | None = None) -> ImageFiles:
    """The places of `names` ("a.jpg" or "val2014/a.jpg") under `root`: in it or one of its folders, with the name's own folder or without, else in
    root/*.tar. Raises BadInput with the number of images not found and the first few.
    """
    folders = _Folders(root)
    places: list[Place | None] = [folders.find(name) for name in names]
    if None in places:
        members = _tar_members(root, cache or default_cache())
        for index, name in enumerate(names):
            if places[index] is None:
                places[index] = members.get(name) or members.get(name.rpartition("/")[2])
    missing = [name for name, place in zip(names, places, strict=True) if place is None]
    if missing:
        few = ", ".join(missing[:FIRST_FEW]) + (", ..." if len(missing) > FIRST_FEW else "")
        raise BadInput(
            f"{root}: {len(missing)} of {len(names)} images are missing ({few}); put them into {root / 'images'} or as *.tar into {root}, "
            "or take them out of the captions file"
        )
    return ImageFiles(places)


class _Folders:
    """Listings of the folders images may lie in, each read once: a name costs a look-up, not a system call."""

    def __init__(self, root: Path):
        with os.scandir(root) as entries:
            others = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        self.bases = [os.path.join(root, folder) for folder in dict.fromkeys((*USUAL_FOLDERS, *others))]
        self.listings: dict[str, dict[str, os.DirEntry]] = {}

    def find(self, name: str) -> Place | None:
        folder, _, file = name.rpartition("/")
        for base in self.bases:
            for place in dict.fromkeys((os.path.join(base, folder) if folder else base, base)):
                entry = self._listing(place).get(file)
                if entry is not None and entry.is_file():
                    status = entry.stat()
                    return Place(entry.path, "", 0, status.st_size, status.st_mtime_ns)
        return None

    def _listing(self, folder: str) -> dict[str, os.DirEntry]:
        if folder not in self.listings:
            self.listings[folder] = {}
            if os.path.isdir(folder):
                with os.scandir(folder) as entries:
                    self.listings[folder] = {entry.name: entry for entry in entries}
        return self.listings[folder]


def _tar_members(root: Path, cache: Path) -> dict[str, Place]:
    """Every file in root/*.tar by its full name and by its bare name; of two equal names the first counts."""
    members: dict[str, Place] = {}
    for tar in sorted(root.glob("*.tar")):
        status = tar.stat()
        for name, offset, size in _tar_index(tar, status, cache):
            place = Place(str(tar), name, offset, size, status.st_mtime_ns)
            members.setdefault(name.removeprefix("./"), place)
            members.setdefault(name.rpartition("/")[2], place)
    return members


def _tar_index(tar: Path, status: os.stat_result, cache: Path) -> list[tuple[str, int, int]]:
    key = hashlib.sha256(f"{tar.resolve()}\n{status.st_size}\n{status.st_mtime_ns}".encode(errors="surrogateescape")).hexdigest()
    kept = cache / f"tar-index-{key[:16]}.json"
    try:
        return json.loads(kept.read_bytes())
    except (OSError, ValueError):
        index = list(_walk_tar(tar, status.st_size))
    # The index only saves time: with a read-only or full cache folder it is made again next time.
    with contextlib.suppress(OSError), atomic_write(kept) as file:
        json.dump(index, file)
    return index


def _walk_tar(tar: Path, tar_size: int) -> Iterator[tuple[str, int, int]]:
    try:
        with tarfile.open(tar, "r:") as archive:
            while (member := archive.next()) is not None:
                if member.offset_data + member.size > tar_size:
                    raise BadInput(f"{tar}: cut short inside {member.name}; copy or download the tar again")
                if member.isreg():
                    yield member.name, member.offset_data, member.size
                archive.members.clear()  # tarfile keeps every header it has seen: 200 MB for COCO
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"{tar}: not a readable tar ({error}); copy or download it again") from error
