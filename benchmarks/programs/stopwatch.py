"""Steps in a steady state: the first are not counted."""

from __future__ import annotations

import itertools
import json
import statistics
import time


class Stopwatch:
    """Call `tick` after each step. From the end of the last one of `warmup` on, `steps` steps are timed."""

    def __init__(self, warmup: int, steps: int) -> None:
        assert warmup >= 1, "the first step is never a usual one"
        self._warmup, self._steps = warmup, steps
        self._images = 0
        self._ends: list[float] = []

    def tick(self, images: int) -> None:
        """A step on so many images is done."""
        self._ends.append(time.perf_counter())
        if len(self._ends) > self._warmup:
            self._images += images

    @property
    def is_done(self) -> bool:
        return len(self._ends) >= self._warmup + self._steps

    def numbers(self) -> dict[str, float]:
        """Rate over all timed steps together; the median and the longest of them, in seconds."""
        counted = self._ends[self._warmup - 1 :]
        steps = [end - begin for begin, end in itertools.pairwise(counted)]
        return {
            "images_per_second": self._images / (counted[-1] - counted[0]),
            "step_seconds": statistics.median(steps),
            "longest_step_seconds": max(steps),
        }


def say(numbers: dict[str, float]) -> None:
    """The last line of a program: its numbers."""
    print(f"\n{json.dumps(numbers)}", flush=True)
