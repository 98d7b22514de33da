"""The folder for what can be made again: image indices, fingerprints, decoded pixels. $RECAP_CACHE, else ~/.cache/recap."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def default_cache() -> Path:
    """The cache folder (it need not exist yet); deleting it costs time, never results."""
    chosen = os.environ.get("RECAP_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "recap"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def remove_remains(path: Path) -> None:
    """What builders of `path` left that were killed where there was no lock. Called by the one process that may build."""
    for remains in path.parent.glob(f".{path.name}.*.partial"):
        remains.unlink(missing_ok=True)


@contextlib.contextmanager
def building(path: Path) -> Iterator[bool]:
    """Let one process at a time build `path`; the others wait here. The kernel lets go of the lock when its holder dies, however it dies.

    Gives False where the file system has no locks (some network folders): then two may build at once, each under a name of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        locked = _lock(lock.fileno(), path)
        try:
            yield locked
        finally:
            if locked:
                fcntl.flock(lock, fcntl.LOCK_UN)


def _lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that builds {path}", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
