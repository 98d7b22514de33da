"""Regions of a frozen encoder, computed once for a whole data set: an fp16 memory map under the cache folder, shared by all runs with its key.

Faithful only where the encoder is in eval mode and pictures are not augmented; train.py asks for it nowhere else.
"""

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
    with building(path) as locked:
        if not (locked and path.exists()):
            _build(path, shape, encode)
    regions = np.load(path, mmap_mode="r")
    if regions.shape != shape:
        raise BadInput(f"{path}: holds {regions.shape}, expected {shape}; delete it and run again")
    return regions


def _build(path: Path, shape: tuple[int, int, int], encode: Callable[[], Iterable[np.ndarray]]) -> None:
    needed, free = 2 * math.prod(shape), shutil.disk_usage(path.parent).free
    if needed > free:
        raise BadInput(f"{path.parent}: regions need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose another --cache")
    # Written, not mapped: on a disk that fills up a mapping dies of SIGBUS where a write says so.
    with atomic_write(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for regions in encode():
            file.write(np.ascontiguousarray(regions, dtype=np.float16).tobytes())
