"""One process at a time at a file or a folder; a lock goes with its process, however that ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from captioning.bad_input import BadInput


@contextlib.contextmanager
def held(path: str | Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path`, which is made, its folder too, and taken away at the end. BadInput with `busy` where another process holds it.

    On a file system that knows no locks nothing is held.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(path, "a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput(busy) from None
            except OSError:
                pass
            # Whoever held it before may have taken the file away since it was opened: that lock would be nobody's.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
