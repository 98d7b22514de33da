"""Turns at something there is one of: first come, first served, and who waits is told how many are before.

turns = Turns()
with turns.take(tell):      # tell(2), tell(1), then the block runs, alone
    ...
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator


class Turns:
    """Threads take turns in the order they came; one holds the turn at a time."""

    def __init__(self):
        self._line: deque[object] = deque()  # the first holds the turn
        self._moved = threading.Condition()

    @contextlib.contextmanager
    def take(self, tell: Callable[[int], None] = lambda before: None, every: float = 0.5) -> Iterator[None]:
        """Wait for the turn, run the block, pass it on.

        tell: called in the waiting thread with the number of those before it, at once and then whenever that changes, at the latest after `every`
        seconds. What it raises leaves the line: a page that was closed does not keep its place.
        """
        ticket = object()
        with self._moved:
            self._line.append(ticket)
        try:
            while before := self._before(ticket):
                tell(before)
                with self._moved:
                    self._moved.wait_for(lambda known=before: self._line.index(ticket) != known, timeout=every)
            yield
        finally:
            with self._moved:
                self._line.remove(ticket)
                self._moved.notify_all()

    def _before(self, ticket: object) -> int:
        with self._moved:
            return self._line.index(ticket)
