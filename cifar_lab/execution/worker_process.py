"""Main function of a worker process: train one cell, report progress, and exit with a code for the outcome."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType

from filelock import Timeout

from cifar_lab.errors import CifarLabError, first_line
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.out_of_space import is_out_of_space, where
from cifar_lab.store.lease import LeaseLost

REPORT_EVERY = 0.5
"""Seconds between two messages of a worker about its progress."""
FOUND_FINISHED = 3
"""Exit code of a worker that found its cell finished by another runner when it got the lock."""
TAKEN = 4
"""Exit code of a worker whose cell another runner took first."""
NO_SPACE = 5
"""Exit code of a worker that could not write; its last message names the file."""


def work(job: CellJob, channel: Connection, stop: Event) -> None:
    """Train `job`; messages are `(epoch, step, steps)`, and one line about a full disk.

    Raises:
        SystemExit: with a code for the outcome; not raised if the cell is finished.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the runner decides
    reported = 0.0
    orphaned = terminated = False

    def terminate(_number: int, _frame: FrameType | None) -> None:  # a scheduler's time limit also reaches everybody
        nonlocal terminated
        terminated = True

    signal.signal(signal.SIGTERM, terminate)

    def progress(epoch: int, step: int, steps: int) -> None:
        nonlocal reported, orphaned
        if step != steps and time.monotonic() - reported < REPORT_EVERY:
            return
        reported = time.monotonic()
        try:
            channel.send((epoch, step, steps))
        except BrokenPipeError:  # the runner is gone: save and exit, so that another one can resume
            orphaned = True

    try:
        trained = train_cell(job, progress, lambda: orphaned or terminated or stop.is_set())
    except Exception as error:  # noqa: BLE001 (its trace is in the journal, and the runner reports it)
        code, line = exit_code(error, job.record.folder), last_words(error, job.record.folder)
        if code == NO_SPACE:
            with suppress(BrokenPipeError):
                channel.send(line)
        raise SystemExit(code) from None
    if not trained:
        raise SystemExit(FOUND_FINISHED)


def exit_code(error: Exception, folder: Path) -> int:
    """Return the exit code of a process whose training raised `error`; `folder`: that of the record."""
    if is_out_of_space(error, folder):
        return NO_SPACE
    if isinstance(error, LeaseLost):
        return TAKEN
    if isinstance(error, CifarLabError):
        return TAKEN if isinstance(error.__context__, Timeout) else error.exit_code
    return 1


def last_words(error: Exception, folder: Path) -> str:
    """Return one line about `error`; for a full disk, it names the file."""
    if is_out_of_space(error, folder):
        return where(error, folder)
    return f"{type(error).__name__}: {first_line(error)}"
