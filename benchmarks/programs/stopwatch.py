"""Timing of steps in a steady state, after a warm-up."""

from __future__ import annotations

import itertools
import json
import statistics
import time


class Stopwatch:
    """Call `tick` after each step. After `warmup` steps, `steps` steps are timed."""

    def __init__(self, warmup: int, steps: int) -> None:
        assert warmup >= 1, "the first step is never a usual one"
        self._warmup, self._steps = warmup, steps
        self._images = 0
        self._ends: list[float] = []

    def tick(self, images: int) -> None:
        """Record a finished step on so many images."""
        self._ends.append(time.perf_counter())
        if len(self._ends) > self._warmup:
            self._images += images

    @property
    def is_done(self) -> bool:
        return len(self._ends) >= self._warmup + self._steps

    def numbers(self) -> dict[str, float]:
        """Return the rate over all timed steps, and their median and maximum duration in seconds."""
        counted = self._ends[self._warmup - 1 :]
        steps = [end - begin for begin, end in itertools.pairwise(counted)]
        return {
            "images_per_second": self._images / (counted[-1] - counted[0]),
            "step_seconds": statistics.median(steps),
            "longest_step_seconds": max(steps),
        }


def say(numbers: dict[str, float]) -> None:
    """Print the numbers as the last line of a program."""
    print(f"\n{json.dumps(numbers)}", flush=True)
