"""Stop signals of a runner: the first saves and stops, the second stops at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cifar_lab.execution.fork_server import SIGNALS

APART = 0.5
"""Minimum seconds between distinct signals: `timeout` and some schedulers signal a process and its group at once."""


@contextmanager
def stop_signals(on_first: Callable[[], None], on_again: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Have SIGINT, SIGTERM and SIGHUP call `on_first` once, and each later one `on_again`.

    Yields a function that returns the number of signals received. SIGHUP stays ignored under `nohup`. KeyboardInterrupt
    is never raised.
    """
    received, last = 0, 0.0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal received, last
        now = time.monotonic()
        if received and now - last < APART:
            return
        received, last = received + 1, now
        (on_first if received == 1 else on_again)()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: old for number, old in before.items() if number == signal.SIGINT or old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield lambda: received
    finally:
        for number, old in before.items():
            signal.signal(number, old)
