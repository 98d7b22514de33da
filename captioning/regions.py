"""Regions of a frozen encoder, computed once for a whole data set: an fp16 memory map under the cache folder, shared by all runs with its key.

Faithful only where the encoder is in eval mode and pictures are not augmented; train.py asks for it nowhere else.
"""

import errno
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.cache import building
from captioning.config import NUMERICS


def regions_key(source, preprocessing, grid: int, data_fingerprint: str, seed: int) -> str:
    """What the numbers in the cache depend on, hashed. Random weights depend on the seed as well."""
    facts = [source.tag if source.kind != "file" else source.name, source.weights_sha256, source.file_sha256, preprocessing.to_dict()]
    facts += [grid, data_fingerprint, NUMERICS, seed if source.weights_sha256 == "none" else None]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def cached_regions(path: Path, shape: tuple[int, int, int], encode: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
    """The memory map (N,R,D) fp16 at `path`, built now if it is not there.

    encode() gives the regions (n,R,D) of all N images in order, some at a time. Another process that builds the same file is waited for.
    Raises BadInput where the disk is too small.
    """
    regions = _open(path, shape)
    if regions is None:
        with building(path) as alone:
            regions = _open(path, shape)
            if regions is None:
                if alone:
                    _remove_remains(path)
                _build(path, shape, encode)
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


def _remove_remains(path: Path) -> None:
    """What killed builders left. Called by the one process that may build, so nobody is writing them."""
    for remains in path.parent.glob(f".{path.name}.*.partial"):
        remains.unlink(missing_ok=True)


def _build(path: Path, shape: tuple[int, int, int], encode: Callable[[], Iterable[np.ndarray]]) -> None:
    needed, free = 2 * math.prod(shape), shutil.disk_usage(path.parent).free
    if needed > free:
        raise _no_space(path, needed)
    # Written, not mapped: on a disk that fills up a mapping dies of SIGBUS where a write says so.
    try:
        with atomic_write(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for regions in encode():
                file.write(np.ascontiguousarray(regions, dtype=np.float16).tobytes())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_space(path, needed) from error
        raise


def _no_space(path: Path, needed: int) -> BadInput:
    free = shutil.disk_usage(path.parent).free
    return BadInput(
        f"{path.parent}: regions need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; free some space or choose another --cache"
    )
