"""Progress of a training as plain lines, for callers without a display."""

from __future__ import annotations

import time
from collections.abc import Callable

from cifar_lab.execution.cell_pace import CellPace, accuracy, beginning, begun_anew, is_resumed
from cifar_lab.execution.engine import UNFINISHED
from cifar_lab.execution.worker import CellJob

EVERY = 60.0
"""Minimum seconds between two lines about cells that are being trained."""


class ProgressLines:
    """Listener of the engine that says one line when a cell ends or goes on, and one a minute while cells train."""

    def __init__(self, names: dict[str, str], say: Callable[[str], None]) -> None:
        """Follow the cells that `names` names by fingerprint."""
        self._names, self._say, self._ended = names, say, 0
        self._running: dict[str, CellPace] = {}
        self._spoke = time.monotonic()

    def started(self, job: CellJob) -> None:
        """Follow a cell."""
        self._running[job.fingerprint] = CellPace.of(job)

    def progress(self, job: CellJob, epoch: int, step: int, steps: int) -> None:
        """Say whether a cell goes on from a checkpoint, then its epoch, last accuracy and time left, once a minute."""
        cell, name = self._running[job.fingerprint], self._names[job.fingerprint]
        if not cell.is_ours:
            resumed = [beginning(job, epoch, step)] if is_resumed(epoch, step) else []
            for line in [*begun_anew(job), *resumed]:
                self._say(f"{name}: {line}")
        cell.advance(epoch, step, steps)
        if time.monotonic() - self._spoke < EVERY:
            return
        cell.news()
        known = f", {accuracy(cell.last)}" if cell.last is not None else ""
        left = f", about {cell.left()} left" if cell.left() else ""
        self._say(f"{name}: epoch {epoch} of {cell.epochs}{known}{left}")
        self._spoke = time.monotonic()

    def put_off(self, job: CellJob) -> None:
        """Forget a cell that is handled again."""
        self._running.pop(job.fingerprint, None)

    def tick(self, waiting: int) -> None:
        """Ignore the timer."""

    def ended(self, job: CellJob, error: str | None) -> None:
        """Say how a cell ended, and how many have."""
        self._running.pop(job.fingerprint, None)
        self._ended += error not in UNFINISHED
        result = job.record.result() if error is None else None
        if result is None:
            said = error or "not finished"
        elif not result.is_finished:
            said = f"diverged in epoch {result.epoch} at step {result.step}"
        else:
            said = f"test {100 * result.metrics['test/acc']:.2f} %"
        self._say(f"{self._names[job.fingerprint]}: {said} [{self._ended} of {len(self._names)}]")
