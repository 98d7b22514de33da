"""Download a data set from its public sources into a folder that `load_data` reads.

python -m captioning.data download flickr8k|flickr30k|coco --to DIR [--accept-licence] [--keep-archives] [--connections N]

Shows the terms and asks for them (without a terminal only --accept-licence will do; what was accepted lies in DIR/TERMS.txt), looks whether the disk has
room, fetches the archives of captioning/sources.py into DIR/archives/, compares checksums, unpacks what is needed and removes the archives
(--keep-archives keeps them), reads the data set and prints its splits. Run it again: it goes on where it was killed, brings back what is missing, or is
idle. An archive that was got in another way may lie in DIR/archives/ beforehand; its checksum is compared too.

DIR/SHA256SUMS notes what came the first time. Later downloads into DIR must equal that, also those for which nobody published a checksum.
"""

import argparse
import gzip
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.byte_bar import ByteBar, size_text
from captioning.cache import building
from captioning.data import describe, load_data
from captioning.fetch import fetch, fetched_bytes, refuse_full_disk
from captioning.sources import SOURCES, Archive, Source
from captioning.unpack import choose, has_file, unpack

ARCHIVES = "archives"
BLOCK = 2**20  # bytes
GZIP = b"\x1f\x8b"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m captioning.data download", description="Fetch a data set from its public sources.")
    parser.add_argument("name", choices=SOURCES, help="the data set")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="the data folder; made where it is missing")
    parser.add_argument("--accept-licence", action="store_true", help="accept the terms that are shown, without a question")
    parser.add_argument("--keep-archives", action="store_true", help=f"keep the zips in DIR/{ARCHIVES} after unpacking")
    parser.add_argument("--connections", type=int, default=4, metavar="N", help="parts of a file fetched at the same time (default: 4)")
    options = parser.parse_args(arguments)
    if options.connections < 1:
        raise BadInput(f"--connections {options.connections}: must be 1 or more")
    try:
        download(SOURCES[options.name], options.to.expanduser(), options.accept_licence, options.keep_archives, options.connections)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr, flush=True)
        raise
    return 0


def download(source: Source, root: Path, accepted: bool = False, keep: bool = False, connections: int = 4) -> None:
    """Bring `source` into the folder `root`, whole and checked. Raises BadInput; what was fetched until then stays for the next call."""
    _refuse_other_data(source, root)
    if todo := [archive for archive in source.archives if not _is_unpacked(root, archive)]:
        _show_plan(source, root, todo)
        refuse_full_disk(root, _needed_bytes(root, todo, keep), source.name)
        _accept(source, root, accepted)
        with building(root / ARCHIVES / "download"):
            for left_by_a_kill in (root / ARCHIVES).glob(".*.partial"):
                left_by_a_kill.unlink()
            for archive in todo:
                if not _is_unpacked(root, archive):  # unless another process was quicker
                    _bring(archive, root, keep, connections)
    if source.images_archive and _packed(root / source.images_archive):
        with building(root / ARCHIVES / "download"):
            _unzip_tar(root / source.images_archive)
    try:
        data = load_data(root)
    except BadInput:
        if source.by_hand:
            print(source.by_hand.format(folder=root), flush=True)
        raise
    print("\n".join(describe(data)))
    print(f"\nto open every image: python -m captioning.data {root}")


def _refuse_other_data(source: Source, root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise BadInput(f"{root}: is a file; give a folder for the data set")
    if others := [file.name for file in sorted(root.glob("dataset*.json")) if file.name != source.captions]:
        raise BadInput(f"{root}: another data set lies here ({', '.join(others)}); give a folder of its own for {source.name}")


def _show_plan(source: Source, root: Path, todo: Sequence[Archive]) -> None:
    print(f"{source.title}\n\n{source.terms}\n")
    for archive in todo:
        known = f"checksum from {archive.checksum_from}" if archive.checksum_from else "no checksum is known: the first download's is noted"
        print(f"{archive.url}\n    about {size_text(archive.about_bytes)}, {known}")
    print(f"into {root}\n", flush=True)


def _needed_bytes(root: Path, todo: Sequence[Archive], keep: bool) -> int:
    """The most that the disk must hold at any moment beyond what it holds now: archives go one after the other, each beside what it unpacks to.

    What an earlier call fetched and unpacked is there already, and its archives will go as well: `used` may fall below 0.
    """
    needed = used = 0
    for archive in todo:
        path = root / ARCHIVES / archive.name
        # lstat: the removal of a link frees nothing where the archive itself lies.
        there = path.lstat().st_size if path.exists() else fetched_bytes(path)
        fetching = 0 if path.exists() else max(0, archive.about_bytes - there)
        unpacking = _bytes_to_unpack(root, archive)
        needed = max(needed, used + fetching + unpacking)
        used += unpacking + (fetching if keep else -there)
    return needed


def _bytes_to_unpack(root: Path, archive: Archive) -> int:
    """What the list of an unpacking that was cut still lacks; about everything where there is no list."""
    try:
        sizes = json.loads(_list_file(root, archive, "unpacking").read_bytes())
    except (OSError, ValueError):
        return archive.about_unpacked
    return _missing_bytes(root, sizes)


def _missing_bytes(root: Path, sizes: dict[str, int]) -> int:
    return sum(size for target, size in sizes.items() if not has_file(root / target, size))


def _accept(source: Source, root: Path, accepted: bool) -> None:
    notice, text = root / "TERMS.txt", f"{source.title}\n\n{source.terms}\n"
    if notice.is_file() and notice.read_text(encoding="utf-8") == text:
        print(f"terms accepted before: {notice}", flush=True)
        return
    if not accepted:
        if sys.stdin is None or not sys.stdin.isatty():
            raise BadInput(
                f"{source.name}: its terms, shown above, are not accepted; to accept them run the same command with --accept-licence"
            )
        try:
            answer = input("Do you accept these terms? [yes/no] ")
        except EOFError:  # Ctrl-D
            print()
            answer = "no"
        if answer.strip().lower() not in ("y", "yes"):
            raise BadInput(f"{source.name}: its terms are not accepted; nothing was fetched, run the same command again to accept them")
    with atomic_write(notice) as file:
        file.write(text)


def _bring(archive: Archive, root: Path, keep: bool, connections: int) -> None:
    """Fetch, check and unpack one archive."""
    path = root / ARCHIVES / archive.name
    if path.exists():
        try:
            check(archive, path, root)
        except BadInput as error:
            wrong = path.with_name(f"{path.name}.wrong")
            os.replace(path, wrong)
            raise BadInput(f"{error}; it is now called {wrong}, run the same command again to fetch it anew") from error
    else:
        try:
            fetch(archive.url, path, lambda file: _check_fetched(archive, file, root), connections)
        except BadInput as error:
            raise BadInput(f"{error}; or get {archive.name} in another way, put it at {path} and run the same command again") from error
    wanted = choose(path, archive.members, archive.folder)
    sizes = {target: info.file_size for target, info in wanted.items()}
    journal = _list_file(root, archive, "unpacking")
    if not journal.exists():
        _refuse_other_files(root, archive, sizes)
    refuse_full_disk(root, _missing_bytes(root, sizes), f"what {archive.name} holds")
    with atomic_write(journal) as file:
        json.dump(sizes, file)
    unpack(path, wanted, root)
    os.replace(journal, _list_file(root, archive, "unpacked"))
    if not keep:
        path.unlink()


def _check_fetched(archive: Archive, file: Path, root: Path) -> None:
    try:
        check(archive, file, root)
    except BadInput as error:
        raise BadInput(f"{error}; the download is removed, run the same command again") from error


def check(archive: Archive, file: Path, root: Path) -> None:
    """Compare the archive's bytes with the published checksums and with those in root/SHA256SUMS, where a first download's are written.

    Raises BadInput that names both checksums.
    """
    published = {kind: checksum for kind, checksum in (("sha256", archive.sha256), ("md5", archive.md5)) if checksum}
    found = _checksums(file, archive.name, {"sha256", *published})
    for kind, expected in published.items():
        if found[kind] != expected:
            raise BadInput(f"{archive.url}: wrong bytes, {kind} {found[kind]} instead of {expected} ({archive.checksum_from})")
    sums, name = root / "SHA256SUMS", f"{ARCHIVES}/{archive.name}"
    noted = dict(reversed(line.split("  ", 1)) for line in _lines(sums))
    if noted.setdefault(name, found["sha256"]) != found["sha256"]:
        raise BadInput(
            f"{archive.url}: other bytes than the first time, sha256 {found['sha256']} instead of {noted[name]}; if the new ones are meant, "
            f"take the line out of {sums}"
        )
    if not published:
        print(f"{archive.name}: sha256 {found['sha256']}, noted in {sums}; nobody published one to compare it with", flush=True)
    with atomic_write(sums) as lines:
        lines.writelines(f"{sha256}  {name}\n" for name, sha256 in noted.items())


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if "  " in line] if path.is_file() else []


def _checksums(file: Path, name: str, kinds: Iterable[str]) -> dict[str, str]:
    sums = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    done = 0
    with ByteBar(f"checking {name}", file.stat().st_size) as bar, open(file, "rb") as opened:
        while block := opened.read(BLOCK):
            for checksum in sums.values():
                checksum.update(block)
            done += len(block)
            bar.to(done)
    return {kind: checksum.hexdigest() for kind, checksum in sums.items()}


def _list_file(root: Path, archive: Archive, state: str) -> Path:
    """The list of an archive's files and sizes: ".unpacking" from before the first is written, ".unpacked" from when all are there."""
    return root / ARCHIVES / f"{archive.name}.{state}.json"


def _is_unpacked(root: Path, archive: Archive) -> bool:
    try:
        sizes = json.loads(_list_file(root, archive, "unpacked").read_bytes())
    except (OSError, ValueError):
        return False
    gone = [target for target, size in sizes.items() if not has_file(root / target, size)]
    if gone:
        print(
            f"{root}: {len(gone)} of {len(sizes)} files of {archive.name} are gone or changed, like {gone[0]}", file=sys.stderr, flush=True
        )
        # They may be replaced: a list in this state says that the files are this command's own.
        os.replace(_list_file(root, archive, "unpacked"), _list_file(root, archive, "unpacking"))
    return not gone


def _refuse_other_files(root: Path, archive: Archive, sizes: dict[str, int]) -> None:
    """Never write over what somebody else put there."""
    other = [target for target, size in sizes.items() if (root / target).exists() and not has_file(root / target, size)]
    if other:
        raise BadInput(
            f"{root}: {len(other)} files are not those of {archive.name}, like {other[0]}; move them away or give another folder"
        )


def _packed(tar: Path) -> Path | None:
    """The tar.gz to make `tar` from: under its own name, or under tar's. None where there is nothing to do."""
    if tar.exists():
        return tar if _is_gzip(tar) else None
    packed = tar.with_name(f"{tar.name}.gz")
    return packed if _is_gzip(packed) else None


def _unzip_tar(tar: Path) -> None:
    """Make a tar.gz a tar, whose members can be read in place."""
    if (packed := _packed(tar)) is None:  # another process was quicker
        return
    for left_by_a_kill in tar.parent.glob(f".{tar.name}.*.partial"):
        left_by_a_kill.unlink()
    size = packed.stat().st_size
    refuse_full_disk(tar.parent, size, tar.name)  # photographs: gzip makes them no smaller
    try:
        with (
            ByteBar(f"unzipping {packed.name}", size) as bar,
            open(packed, "rb") as raw,
            gzip.open(raw) as file,
            atomic_write(tar, "wb") as unzipped,
        ):
            while block := file.read(BLOCK):
                unzipped.write(block)
                bar.to(raw.tell())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{packed}: damaged or cut short ({error}); get it again") from error
    if packed != tar:
        print(f"{packed}: no longer needed beside {tar.name}", flush=True)


def _is_gzip(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(GZIP)) == GZIP
    except OSError:
        return False
