"""Simulated studies in which no variant differs from another, for the calibration of intervals that hold jointly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Pick = Callable[[np.ndarray], np.ndarray]
FAMILIES: dict[str, tuple[Callable[[int], int], Pick]] = {
    "control": (lambda k: k + 1, lambda x: x[:, 1:] - x[:, :1]),
    "chain": (lambda k: k + 1, lambda x: x[:, 1:] - x[:, :-1]),
    "disjoint": (lambda k: 2 * k, lambda x: x[:, 1::2] - x[:, ::2]),
}
"""By name: the arms that k differences need, and the differences (studies, k, n) of arms (studies, arms, n)."""


@dataclass(frozen=True, kw_only=True)
class NullWorld:
    """Studies in which nothing differs: normal accuracies whose deviations may differ between arms.

    `deviations`: "equal"; "log-normal S": exp(S z) for each arm of each study; "first × F": the first arm, which is the
    control, has F times the deviation of the others; "second × F" likewise for a variant. `correlation`: between any
    two arms over the seeds.
    """

    deviations: str
    correlation: float
    shape: str = "normal"

    def draw(self, studies: int, arms: int, n: int, random: np.random.Generator) -> np.ndarray:
        """Draw accuracies around 0: (studies, arms, n), float32."""
        own = self._noise((studies, arms, n), random)
        shared = self._noise((studies, 1, n), random)
        values: np.ndarray = np.sqrt(1 - self.correlation) * own + np.sqrt(self.correlation) * shared
        word, _, size = self.deviations.rpartition(" ")
        if word == "log-normal":
            values *= np.exp(float(size) * random.standard_normal((studies, arms, 1), dtype=np.float32))
        elif word:
            values[:, ["first ×", "second ×"].index(word)] *= float(size)
        return values

    def _noise(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        if self.shape == "t3":
            return random.standard_t(3, shape).astype(np.float32) / np.float32(np.sqrt(3))
        if self.shape == "exponential":
            return random.standard_exponential(shape, dtype=np.float32) - np.float32(1)
        return random.standard_normal(shape, dtype=np.float32)


CLASS = (
    *(NullWorld(deviations="equal", correlation=each) for each in (0.0, 0.25, 0.5)),
    *(
        NullWorld(deviations=deviations, correlation=correlation)
        for deviations in ("log-normal 0.25", "log-normal 0.5", "first × 3", "second × 3")
        for correlation in (0.0, 0.5)
    ),
)
"""The class of worlds in which calibrated intervals hold jointly."""
