"""Let a thread be left behind at a moment at which the process can end.

A daemon thread that is inside compiled code, drawing for example, while Python ends takes the whole process down with
SIGABRT. So the thread holds a lock while it works, and gives it away while it waits for somebody else. Who ends the
process takes the lock first: then the thread is waiting, where it can be left, and it works no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Abandoned(BaseException):
    """The thread was left behind while it waited. No `except Exception` may go on from it."""


class Gate:
    """The right to work, of one thread."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self._is_shut = False
        self._waits_since: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the right to work; for the thread itself, around everything that it does."""
        with self._own:
            if self._is_shut:
                raise Abandoned
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Give the right away while the thread waits.

        Raises:
            Abandoned: the gate was shut meanwhile.
        """
        self._waits_since = time.monotonic()
        self._own.release()
        try:
            yield
        finally:
            self._own.acquire()
            self._waits_since = None
            if self._is_shut:
                raise Abandoned

    def waits(self) -> float:
        """Return for how many seconds the thread has been waiting; 0 while it works."""
        since = self._waits_since
        return time.monotonic() - since if since is not None else 0.0

    def shut(self, patience_s: float = 60.0) -> None:
        """Let the thread work no more; return once it waits, or has ended, or after `patience_s` seconds of work."""
        is_ours = self._own.acquire(timeout=patience_s)
        self._is_shut = True
        if is_ours:
            self._own.release()
