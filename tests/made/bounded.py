"""A limit on the time of what may hang."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def bounded(seconds: int = 60) -> Iterator[None]:
    """Fail what does not come back, by what no handler of errors holds back."""

    def stop(*_: object) -> None:
        pytest.fail(f"it hangs: nothing came back in {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
