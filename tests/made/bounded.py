"""A limit on the time of what may hang."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def bounded(seconds: int = 60, what: object = "it") -> Iterator[None]:
    """Fail what does not come back, by what no handler of errors holds back; `what` names it in the failure."""

    def stop(*_: object) -> None:
        pytest.fail(f"nothing came back in {seconds} s: {what!r:.2000}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
