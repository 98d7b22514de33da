"""Unpack chosen files of a zip, by rename: a file that exists is complete, and a killed unpacking goes on where it stopped.

`unpack(archive, wanted, root)` writes what is missing of `wanted`, which `choose(archive, members, folder)` gives: the files called like `members`, all in
one folder. Names that point out of an archive are refused, whatever is chosen.
"""

import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from captioning.bad_input import BadInput
from captioning.byte_bar import ByteBar

SAID_EVERY = 4 * 2**20  # bytes


def choose(archive: Path, members: str, folder: str) -> dict[str, zipfile.ZipInfo]:
    """Where each file called like `members` (a glob on its name without folders) goes below the root. What macOS adds to a zip is left out.

    Raises BadInput for what is no zip, for names like ../a, and where nothing is chosen or two files would be one.
    """
    chosen: dict[str, zipfile.ZipInfo] = {}
    with _opened(archive) as opened:
        for info in opened.infolist():
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
                raise BadInput(
                    f"{archive}: holds a file called {info.filename!r}, which lies outside of it; get the archive from a source you trust"
                )
            if info.is_dir() or path.parts[0] == "__MACOSX" or path.name.startswith("._") or not fnmatchcase(path.name, members):
                continue
            target = f"{folder}/{path.name}" if folder else path.name
            if target in chosen:
                raise BadInput(f"{archive}: holds {path.name} twice; get the archive from a source you trust")
            chosen[target] = info
    if not chosen:
        raise BadInput(f"{archive}: holds no file called {members}; get the archive that was published")
    return chosen


def unpack(archive: Path, wanted: Mapping[str, zipfile.ZipInfo], root: Path) -> None:
    """Write the files of `wanted` that root lacks or has in another size. Raises BadInput for a damaged archive; what was written before stays."""
    done, said = 0, 0
    with ByteBar(f"unpacking {archive.name}", sum(info.file_size for info in wanted.values())) as bar, _opened(archive) as opened:
        for target, info in wanted.items():
            if not has_file(root / target, info.file_size):
                _write(opened, info, root / target)
            done += info.file_size
            if done - said > SAID_EVERY:
                said = done
                bar.to(done)
    # Once for all files. One for each took 40 times as long for 2,000 photographs, and COCO has 123,287.
    os.sync()


def has_file(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, EOFError) as error:
        raise BadInput(f"{archive}: not a readable zip ({error}); remove it and run the same command again") from error


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(".unpacking.partial")
    try:
        with opened.open(info) as source, open(unfinished, "wb") as file:
            shutil.copyfileobj(source, file, 2**20)  # raises at the end where the CRC differs
        os.replace(unfinished, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInput(
            f"{opened.filename}: {info.filename} in it is damaged ({error}); remove the archive and run the same command again"
        ) from error
    except OSError as error:
        error.filename = error.filename or str(target)  # a full disk says no name of its own
        raise
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
