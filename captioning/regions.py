"""Regions of a frozen encoder, computed once for a whole data set: an fp16 memory map under the cache folder, shared by all runs with its key.

Faithful only where the encoder is in eval mode and pictures are not augmented; captioning/inputs.py asks for it nowhere else.
"""

import errno
import hashlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import numpy as np

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.cache import building, remove_remains
from captioning.config import NUMERICS

NOTED_EVERY_SECONDS = 10.0


def regions_key(source, preprocessing, grid: int, data_fingerprint: str, seed: int, final_norm: bool = False, vector: bool = False) -> str:
    """What the numbers in the cache depend on, hashed. Random weights depend on the seed as well."""
    facts = [source.tag if source.kind != "file" else source.name, source.weights_sha256, source.file_sha256, preprocessing.to_dict()]
    facts += [grid, data_fingerprint, NUMERICS, seed if source.follows_seed else None]
    facts += ["vector"] if vector else []
    facts += ["final norm"] if final_norm else []  # only then, so that files from before there was a choice keep their names
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def cached_regions(path: Path, shape: tuple[int, int, int], encode: Callable[[int], Iterable[np.ndarray]]) -> np.ndarray:
    """The memory map (N,R,D) fp16 at `path`, built now if it is not there; a build that was killed is gone on with.

    encode(first) gives the regions (n,R,D) of the images from `first` on, in order, some at a time. Another process that builds the same
    file is waited for. Raises BadInput where the disk is too small.
    """
    regions = _open(path, shape)
    if regions is None:
        with building(path) as alone:
            regions = _open(path, shape)
            if regions is None:
                if alone:
                    remove_remains(path)
                _build(path, shape, encode, _Partial(path, shape, shared=not alone))
                regions = _open(path, shape)
    if regions is None:
        raise BadInput(f"{path}: holds no regions of shape {shape}; delete it and run again")
    return regions


def _open(path: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The map, or None where there is none. It exists only when complete; a damaged one is built again."""
    try:
        regions = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return regions if regions.shape == shape and regions.dtype == np.float16 else None


class _Partial:
    """The file while it is built, and beside it how many of its rows are surely on disk: the rest is never trusted.

    shared: no lock keeps others away, so the name is this process's own and nothing is gone on with.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], shared: bool):
        own = f".{os.getpid()}" if shared else ""
        self.file, self.count = (path.with_name(f".{path.name}{own}.{kind}") for kind in ("partial", "rows"))
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
        self.header, self.row_bytes = header.getvalue(), 2 * math.prod(shape[1:])

    def rows(self) -> int:
        try:
            count = int(self.count.read_text(encoding="ascii"))
            with open(self.file, "rb") as file:
                whole = (
                    file.read(len(self.header)) == self.header and os.path.getsize(self.file) >= len(self.header) + count * self.row_bytes
                )
        except (OSError, ValueError):
            return 0
        return count if whole else 0

    def open(self, rows: int) -> IO:
        file = open(self.file, "r+b" if rows else "wb")  # noqa: SIM115 (the caller closes it)
        if not rows:
            file.write(self.header)
        file.truncate(len(self.header) + rows * self.row_bytes)
        file.seek(0, os.SEEK_END)
        return file

    def note(self, file: IO, rows: int) -> None:
        file.flush()
        os.fsync(file.fileno())
        with atomic_write(self.count) as count:
            count.write(str(rows))

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)
        self.count.unlink(missing_ok=True)


def _build(path: Path, shape: tuple[int, int, int], encode: Callable[[int], Iterable[np.ndarray]], partial: _Partial) -> None:
    done = partial.rows()
    needed, free = partial.row_bytes * (shape[0] - done), shutil.disk_usage(path.parent).free
    if needed > free:
        raise _no_space(path, needed)
    # Written, not mapped: on a disk that fills up a mapping dies of SIGBUS where a write says so.
    try:
        with partial.open(done) as file:
            noted = time.monotonic()
            for regions in encode(done):
                file.write(np.ascontiguousarray(regions, dtype=np.float16).tobytes())
                done += len(regions)
                if time.monotonic() - noted > NOTED_EVERY_SECONDS:
                    partial.note(file, done)
                    noted = time.monotonic()
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial.file, path)
        partial.remove()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            partial.remove()
            raise _no_space(path, needed) from error
        raise


def _no_space(path: Path, needed: int) -> BadInput:
    free = shutil.disk_usage(path.parent).free
    return BadInput(
        f"{path.parent}: regions need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; free some space or choose another --cache"
    )
