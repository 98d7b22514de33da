"""Work on a data set's images by several processes. The function gets a shared object and a range of indices; what it returns comes back in order.

Safe when the parent has imported torch (workers only decode and write), is killed (workers look for it and leave), or catches signals itself.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from captioning.bad_input import BadInput

CHUNK = 32  # images a worker takes at a time
LOOK_FOR_PARENT_SECONDS = 0.5

_shared: object = None


def in_chunks(count: int, size: int) -> list[range]:
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(workers: int) -> int:
    """Threads of each of so many processes side by side: OMP_NUM_THREADS where that is set, else an equal share of the cores.

    With more threads than free cores they wait for each other by spinning: a training step beside one other busy process took 13 s in place of 0.9.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else max(1, core_count() // workers)


def map_chunks(function: Callable, shared: object, chunks: Sequence[range], workers: int | None = None) -> Iterator:
    """Yield function(shared, chunk) for every chunk, in order. `workers` None: one per core; 0: in this process.

    What a worker raises is raised here. A worker that is killed is BadInput: nearly always memory ran out.
    """
    count = min(core_count() if workers is None else workers, len(chunks))
    if count == 0 or multiprocessing.current_process().daemon:  # a daemon may not have children
        yield from (function(shared, chunk) for chunk in chunks)
        return
    # Forked where that is safe: nothing is copied or imported again. On a Mac the system's own libraries do not survive a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    parent = os.getpid()
    with concurrent.futures.ProcessPoolExecutor(count, context, _start_worker, (shared, parent)) as pool:
        results = pool.map(_run, [function] * len(chunks), chunks)
        with contextlib.closing(results):  # cancels what has not begun, when the caller stops or a chunk fails
            try:
                yield from results
            except BrokenProcessPool as error:
                raise BadInput(
                    f"one of {count} worker processes was killed, most likely out of memory; use fewer with --workers"
                ) from error


def _start_worker(shared: object, parent: int) -> None:
    global _shared
    _shared = shared
    # While a bar is on the terminal, rich's stand-ins are here; the lock behind them may have been held at the fork, and then is for ever.
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent says what happens
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's own handler, inherited by the fork
    threading.Thread(target=_leave_with_parent, args=(parent,), daemon=True).start()


def _leave_with_parent(parent: int) -> None:
    # A killed parent closes no pipe that its other workers hold open too, so waiting for one would be for ever.
    while os.getppid() == parent:
        time.sleep(LOOK_FOR_PARENT_SECONDS)
    os._exit(1)


def _run(function: Callable, chunk: range) -> object:
    return function(_shared, chunk)
