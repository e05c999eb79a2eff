"""A gate that lets a process end while a thread is waiting, never while it works.

A daemon thread that runs compiled code, such as drawing, while Python exits aborts the process with SIGABRT. So the
thread holds a lock while it works, and releases it while it waits for something external. The exiting process takes
the lock first: the thread is then waiting, where it can be abandoned, and does not work again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class ThreadAbandoned(BaseException):
    """Exception raised in a thread that was abandoned while it waited; `except Exception` does not catch it."""


class ExitGate:
    """Permission to work, for one thread."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self._is_shut = False
        self._waits_since: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the permission to work; the thread wraps everything that it does in this context.

        Raises:
            ThreadAbandoned: the gate is shut.
        """
        with self._own:
            if self._is_shut:
                raise ThreadAbandoned
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Release the permission while the thread waits.

        Raises:
            ThreadAbandoned: the gate was shut meanwhile.
        """
        self._waits_since = time.monotonic()
        self._own.release()
        try:
            yield
        finally:
            self._own.acquire()
            self._waits_since = None
            if self._is_shut:
                raise ThreadAbandoned

    def waits(self) -> float:
        """Return for how many seconds the thread has been waiting; 0 while it works."""
        since = self._waits_since
        return time.monotonic() - since if since is not None else 0.0

    def shut(self, patience_s: float = 60.0) -> None:
        """Stop the thread from working; return once it waits or has ended, or after `patience_s` seconds."""
        is_ours = self._own.acquire(timeout=patience_s)
        self._is_shut = True
        if is_ours:
            self._own.release()
