"""Progress of a download: a bar with rate and remaining time on a terminal, otherwise occasional lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cifar_lab.terminal import is_terminal

EVERY = 15.0
"""Seconds between two lines if standard error is not a terminal."""

Report = Callable[[int], None]
"""Function that takes the number of bytes received so far."""


def silent(_: str) -> None:
    """Ignore the message."""


@contextmanager
def reported(title: str, start: int, total: int, say: Callable[[str], None]) -> Iterator[Report]:
    """Yield a function that takes the bytes done, and shows progress on standard error, or line by line through `say`.

    Args:
        start: bytes present before, which do not count for the rate.
        total: bytes of the whole file; 0 if unknown.
    """
    if say is silent:
        yield lambda _: None
        return
    if is_terminal(sys.stderr):
        with _bar(title, start, total) as advance:
            yield advance
        return
    resumed = f", resumed at {start / 1e6:,.0f} MB" if start else ""
    say(f"downloading {title}{f' ({total / 1e6:,.0f} MB)' if total else ''}{resumed}")
    begun = last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            say(f"{title}: {amount(done, total, (done - start) / (now - begun))}")

    yield report


def amount(done: int, total: int, rate: float) -> str:
    """Format bytes done, rate in bytes per second and remaining time: `34 of 170 MB, 1.2 MB/s, 2 min left`."""
    of = f" of {total / 1e6:,.0f}" if total else ""
    speed = f"{rate / 1e6:,.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:,.0f} kB/s"
    left = ""
    if total and rate > 0:
        seconds = (total - done) / rate
        left = f", {seconds:,.0f} s left" if seconds < 90 else f", {seconds / 60:,.0f} min left"
    return f"{done / 1e6:,.0f}{of} MB, {speed}{left}"


@contextmanager
def _bar(title: str, start: int, total: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), DownloadColumn()),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(escape(title), total=total or None, completed=start)
        yield lambda done: progress.update(task, completed=done)
