"""Progress of a training as plain lines, for callers without a display."""

from __future__ import annotations

from collections.abc import Callable

from cifar_lab.execution.engine import UNFINISHED
from cifar_lab.execution.worker import CellJob


class ProgressLines:
    """Listener of the engine that says one line when a cell ends."""

    def __init__(self, names: dict[str, str], say: Callable[[str], None]) -> None:
        """Follow the cells that `names` names by fingerprint."""
        self._names, self._say, self._ended = names, say, 0

    def started(self, job: CellJob) -> None:
        """Ignore the start of a cell."""

    def progress(self, job: CellJob, epoch: int, step: int, steps: int) -> None:
        """Ignore the steps of a cell."""

    def put_off(self, job: CellJob) -> None:
        """Ignore a cell that is handled again."""

    def tick(self, waiting: int) -> None:
        """Ignore the timer."""

    def ended(self, job: CellJob, error: str | None) -> None:
        """Say how a cell ended, and how many have."""
        self._ended += error not in UNFINISHED
        result = job.record.result() if error is None else None
        if result is None:
            said = error or "not finished"
        elif not result.is_finished:
            said = f"diverged in epoch {result.epoch} at step {result.step}"
        else:
            said = f"test {100 * result.metrics['test/acc']:.2f} %"
        self._say(f"{self._names[job.fingerprint]}: {said} [{self._ended} of {len(self._names)}]")
