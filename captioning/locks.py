"""One process at a time at a file or a folder; a lock goes with its process, however that ends."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from captioning.bad_input import BadInput

LEAVING_SECONDS = 60.0  # that a training which is told to leave takes, at most
TICK_SECONDS = 0.1


@contextlib.contextmanager
def held(path: str | Path, busy: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`, which is made, its folder too, and taken away at the end, the folder where it is empty. BadInput with `busy` where another
    process still holds it after `patience` seconds.

    Nothing is held where no file can be made, or the file system knows no locks.
    """
    path = Path(path)
    made = [folder for folder in path.parents if not folder.exists()]  # the deepest first
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_open_locked(path, busy, time.monotonic() + patience))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            file = None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if file is not None:
                    path.unlink()
                for folder in made:
                    folder.rmdir()


def _open_locked(path: Path, busy: str, until: float) -> IO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a")  # noqa: SIM115 (it stays open while the lock is held)
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # whoever held it took the folder away, too
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            if time.monotonic() > until:
                raise BadInput(busy) from None
            time.sleep(TICK_SECONDS)
            continue
        except OSError:
            return file
        # Whoever held it before may have taken the file away since it was opened: that lock would be nobody's.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
