"""Detect workers without progress: a dead network disk, a stopped process, a deadlock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cifar_lab.environment import environment_number

STALL_AFTER = 900.0
"""Minimum seconds without progress before a worker counts as stuck."""
VARIABLE = "CIFAR_LAB_STALL_AFTER"
EPOCHS = 2.0
"""Epochs of training, at the worker's own pace, allowed without a step: it evaluates and saves meanwhile."""
AWAY = 2.0
"""Seconds without a check after which the runner itself was suspended, and could not receive messages."""


def stall_after() -> float:
    """Return the bound in seconds from the environment, else the default.

    Raises:
        UsageError: the variable is not a number from 1 up.
    """
    return environment_number(VARIABLE, STALL_AFTER, low=1, high=1e9, unit="seconds")


@dataclass
class ProgressWatch:
    """Follow the progress of one worker, as its messages come."""

    patience: float
    """Seconds without progress that are always tolerated."""
    last: float = field(default_factory=time.monotonic)
    """Time of the latest message, on the monotonic clock."""
    epoch: int = 0
    step: int = 0
    steps: int = 0
    _step_seconds: float | None = None
    """Fastest pace so far, in seconds per step; a worker that was suspended does not count as slow."""

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Record that `step` of `steps` of `epoch` is done now."""
        now = time.monotonic()
        if epoch == self.epoch and step > self.step:
            pace = (now - self.last) / (step - self.step)
            self._step_seconds = pace if self._step_seconds is None else min(pace, self._step_seconds)
        self.last, self.epoch, self.step, self.steps = now, epoch, step, steps

    def was_away(self, seconds: float) -> None:
        """Exclude `seconds` during which nobody listened."""
        self.last += seconds

    @property
    def limit(self) -> float:
        """Seconds without progress after which the worker counts as stuck."""
        return max(self.patience, EPOCHS * self.steps * (self._step_seconds or 0.0))

    def stalled(self) -> str | None:
        """Return one line about a worker without progress for too long; None for others."""
        silence = time.monotonic() - self.last
        if silence <= self.limit:
            return None
        where = "before its first step"
        if self.epoch:
            where = f"after step {self.step} of {self.steps} of epoch {self.epoch}"
        return f"no progress for {silence:.0f} s, {where}; --stall-after or {VARIABLE} allows more"


class SuspendWatch:
    """Detect that the runner was suspended, or that the machine slept."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def missed(self) -> float:
        """Return the seconds since the last call during which the runner was suspended; usually 0."""
        now = time.monotonic()
        since, self._last = now - self._last, now
        return since if since > AWAY else 0.0
