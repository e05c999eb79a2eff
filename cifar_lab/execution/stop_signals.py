"""Early ends of a runner: by a signal (the first saves and stops, the second stops at once), and after some hours."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cifar_lab.execution.fork_server import SIGNALS

APART = 0.5
"""Minimum seconds between distinct signals: `timeout` and some schedulers signal a process and its group at once."""

SHORTEST_HOURS, LONGEST_HOURS = 0.01, 100_000
SAVING = 60.0
"""Seconds before the end of the hours at which running cells are asked to save."""


def end_of_time(hours: float | None) -> float:
    """Return the time on the monotonic clock at which cells are to save and stop, `SAVING` before the hours are over.

    The margin is a tenth of the time if that is shorter. Infinity for None.
    """
    if hours is None:
        return math.inf
    return time.monotonic() + 3600 * hours - min(SAVING, 360 * hours)


@contextmanager
def stop_signals(on_first: Callable[[], None], on_again: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Have SIGINT, SIGTERM and SIGHUP call `on_first` once, and each later one `on_again`.

    Yields a function that returns the number of signals received. SIGHUP stays ignored under `nohup`. KeyboardInterrupt
    is never raised. In another thread than the main one, which alone receives signals, nothing is called.
    """
    received, last = 0, 0.0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal received, last
        now = time.monotonic()
        if received and now - last < APART:
            return
        received, last = received + 1, now
        (on_first if received == 1 else on_again)()

    receives = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS if receives}
    before = {number: old for number, old in before.items() if number == signal.SIGINT or old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield lambda: received
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def noticed_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a signal to stop was received in the body; its handler is called as well.

    In another thread than the main one it tells of none.
    """
    received = list[int]()
    receives = threading.current_thread() is threading.main_thread()
    before = {number: old for number in SIGNALS if receives and callable(old := signal.getsignal(number))}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        before[number](number, frame)

    for number in before:
        signal.signal(number, handle)
    try:
        yield lambda: bool(received)
    finally:
        for number, old in before.items():
            signal.signal(number, old)
