"""A data set's images at one size, ready for an encoder: a uint8 memory map for sets up to 10 GB decoded, decoding threads for larger ones.

    pixels = open_pixels(data, 224, "squash", "bicubic")
    pixels[i], pixels.get_batch([3, 1])          # uint8 (S, S, 3), (B, S, S, 3)
    for batch in pixels.batches(lists_of_indices): ...

Reads the images of a CaptionData; writes `<cache>/pixels-<fingerprint>-<size>-<rule>-<interpolation>.npy`, under that name only when complete.
"""

import collections
import concurrent.futures
import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from captioning.augment import augment, mentions_side
from captioning.bad_input import BadInput
from captioning.cache import building, default_cache, remove_remains
from captioning.data import CaptionData
from captioning.progress import track
from captioning.workers import CHUNK, core_count, in_chunks, map_chunks

__all__ = ["PixelStore", "StreamedPixels", "augment", "default_cache", "mentions_side", "open_pixels", "resize"]

LIMIT_BYTES = 10e9
RULES = ("squash", "crop")
INTERPOLATIONS = {method.name.lower(): method for method in Image.Resampling}
NAMED_BROKEN = 5
PREFETCHED = 4  # batches decoded ahead of the one in use

Transform = Callable[[np.ndarray, int], np.ndarray]


def resize(image: Image.Image, size: int, rule: str, interpolation: str) -> Image.Image:
    """`image` as size x size pixels. "squash": without regard to aspect ratio, as the paper does; "crop": the central square."""
    check_resize(size, rule, interpolation)
    box = None
    if rule == "crop":
        W, H = image.size
        side = min(W, H)
        box = ((W - side) / 2, (H - side) / 2, (W + side) / 2, (H + side) / 2)
    return image.resize((size, size), INTERPOLATIONS[interpolation], box=box)


def check_resize(size: int, rule: str, interpolation: str) -> None:
    if size < 1:
        raise BadInput(f"image size {size}: must be 1 or more pixels")
    if rule not in RULES:
        raise BadInput(f"unknown resize rule {rule!r}: choose one of {', '.join(RULES)}")
    if interpolation not in INTERPOLATIONS:
        raise BadInput(f"unknown interpolation {interpolation!r}: choose one of {', '.join(INTERPOLATIONS)}")


def open_pixels(
    data: CaptionData,
    size: int,
    rule: str = "squash",
    interpolation: str = "bicubic",
    cache: str | Path | None = None,
    workers: int | None = None,
    limit_bytes: float = LIMIT_BYTES,
) -> "PixelStore | StreamedPixels":
    """The data set's pixels: mapped when they take up to `limit_bytes` decoded, else streamed.

    `workers` decode (None: one per core; 0: this process alone). Raises BadInput for a broken image, a full disk, an unknown rule.
    """
    check_resize(size, rule, interpolation)
    if len(data) * size * size * 3 > limit_bytes:
        return StreamedPixels(data, size, rule, interpolation, workers)
    return PixelStore.open(data, size, rule, interpolation, cache, workers)


class PixelStore:
    """uint8 (N, S, S, 3) in a memory map: pages are shared by all processes that open it, and only what is used is read."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.array = np.load(self.path, mmap_mode="r")  # (N, S, S, 3)

    def __reduce__(self):
        return PixelStore, (self.path,)  # NumPy would copy the whole map into the pickle

    @classmethod
    def open(cls, data: CaptionData, size: int, rule: str, interpolation: str, cache=None, workers: int | None = None) -> "PixelStore":
        """Open the map of `data`, building it first where there is none; a process that already builds it is waited for."""
        check_resize(size, rule, interpolation)
        folder = Path(cache) if cache is not None else default_cache()
        path = folder / f"pixels-{data.fingerprint[:16]}-{size}-{rule}-{interpolation}.npy"
        shape = (len(data), size, size, 3)
        if not _is_complete(path, shape):
            with building(path) as alone:
                if not _is_complete(path, shape):
                    if alone:
                        remove_remains(path)
                    _build(path, shape, _Job(data, size, rule, interpolation), workers)
        return cls(path)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self.array[index])

    def get_batch(self, indices: Iterable[int]) -> np.ndarray:
        """uint8 (B, S, S, 3), a copy in the order of `indices`."""
        return np.asarray(self.array[np.fromiter(indices, dtype=np.int64)])

    def batches(self, lists: Iterable[Sequence[int]], transform: Transform | None = None) -> Iterator[np.ndarray]:
        """One get_batch for each list of indices. `transform(pixels, index)` changes every image on the way."""
        for indices in lists:
            yield _transformed(self.get_batch(indices), indices, transform)


class StreamedPixels:
    """The same interface for a set too large to keep decoded: threads decode on demand and ahead (libjpeg and Pillow's resize work without the GIL)."""

    def __init__(self, data: CaptionData, size: int, rule: str, interpolation: str, workers: int | None = None):
        check_resize(size, rule, interpolation)
        self.data, self.size, self.rule, self.interpolation = data, size, rule, interpolation
        self.workers = core_count() if workers is None else workers
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._pool_of = 0  # the process whose threads they are: none of them survives a fork

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pool": None, "_pool_of": 0}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(resize(self.data.open_image(int(index)), self.size, self.rule, self.interpolation))

    def get_batch(self, indices: Iterable[int]) -> np.ndarray:
        """uint8 (B, S, S, 3) in the order of `indices`."""
        return self._stack(self._start(list(indices), None))

    def batches(self, lists: Iterable[Sequence[int]], transform: Transform | None = None) -> Iterator[np.ndarray]:
        """One batch for each list of indices, the next PREFETCHED being decoded meanwhile."""
        ahead: collections.deque[list[Callable[[], np.ndarray]]] = collections.deque()
        for indices in lists:
            ahead.append(self._start(list(indices), transform))
            if len(ahead) > PREFETCHED:
                yield self._stack(ahead.popleft())
        while ahead:
            yield self._stack(ahead.popleft())

    def _start(self, indices: list[int], transform: Transform | None) -> list[Callable[[], np.ndarray]]:
        if self.workers == 0:
            return [lambda index=index: self._one(index, transform) for index in indices]
        if self._pool_of != os.getpid():
            self._pool, self._pool_of = concurrent.futures.ThreadPoolExecutor(self.workers, "decode"), os.getpid()
        return [self._pool.submit(self._one, index, transform).result for index in indices]

    def _one(self, index: int, transform: Transform | None) -> np.ndarray:
        pixels = self[index]
        return pixels if transform is None else transform(pixels, int(index))

    def _stack(self, waiting: list[Callable[[], np.ndarray]]) -> np.ndarray:
        batch = np.empty((len(waiting), self.size, self.size, 3), dtype=np.uint8)
        for place, wait in enumerate(waiting):
            batch[place] = wait()
        return batch


def _transformed(batch: np.ndarray, indices: Sequence[int], transform: Transform | None) -> np.ndarray:
    if transform is not None:
        for place, index in enumerate(indices):
            batch[place] = transform(batch[place], int(index))
    return batch


class _Job:
    """What a worker needs to fill its rows of the file."""

    def __init__(self, data: CaptionData, size: int, rule: str, interpolation: str):
        self.data, self.size, self.rule, self.interpolation = data, size, rule, interpolation
        self.path, self.offset = "", 0

    def fill(self, indices: range) -> list[str]:
        """Decode and write these images; messages about those that are broken."""
        broken = []
        # Written, not mapped: on a full disk a write is an error, a map a bus error.
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for index in indices:
                try:
                    image = self.data.open_image(index)
                except BadInput as error:
                    broken.append(str(error))
                    continue
                pixels = resize(image, self.size, self.rule, self.interpolation).tobytes()
                if os.pwrite(descriptor, pixels, self.offset + index * len(pixels)) != len(pixels):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        finally:
            os.close(descriptor)
        return broken


def _build(path: Path, shape: tuple[int, ...], job: _Job, workers: int | None) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    job.offset = header.tell()
    size = job.offset + int(np.prod(shape))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    job.path = str(partial)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise _no_space(path, size, free)
    try:
        with open(partial, "wb") as file:
            file.write(header.getvalue())
            file.flush()
            _reserve(file.fileno(), size)
            _fill(job, shape[0], workers)
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(path, size, shutil.disk_usage(path.parent).free) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _reserve(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.ftruncate(descriptor, size)  # a system or folder that cannot reserve: a full disk shows while writing


def _fill(job: _Job, count: int, workers: int | None) -> None:
    chunks = in_chunks(count, CHUNK)
    results = map_chunks(_Job.fill, job, chunks, workers)
    broken: list[str] = []
    bar = track(chunks, f"pixels of {job.data.name}, {job.size}x{job.size}", units=f"batches of {CHUNK}")
    with contextlib.closing(results):
        for _, found in zip(bar, results, strict=False):
            broken += found
            if len(broken) > NAMED_BROKEN:
                break
    if broken:
        what = broken[0] if len(broken) == 1 else f"{len(broken)} or more broken images; the first: " + " | ".join(broken[:NAMED_BROKEN])
        raise BadInput(f"{what}; `python -m captioning.data {job.data.root}` lists all; the captions file must not name broken ones")


def _is_complete(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether `path` is a map of this shape. It exists only when complete; a damaged or foreign one is built again."""
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return found.shape == shape and found.dtype == np.uint8


def _no_space(path: Path, size: int, free: int) -> BadInput:
    return BadInput(
        f"{path.parent}: the decoded images need {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; free some space or set RECAP_CACHE to another disk"
    )
