"""Random candidates, drawn through the interface of an Optuna trial, without Optuna."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from cifar_lab.search.dimension import Parameter


@dataclass(frozen=True)
class RandomTrial:
    """Draws each parameter uniformly (on a log scale if requested), and keeps the values in `params`."""

    random: random.Random
    params: dict[str, Parameter] = field(default_factory=dict)

    def suggest_categorical(self, name: str, choices: Sequence[Parameter], /) -> Parameter:
        self.params[name] = self.random.choice(choices)
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int:
        if log:  # each integer gets the interval within 0.5
            drawn = round(math.exp(self.random.uniform(math.log(low - 0.5), math.log(high + 0.5))))
            drawn = min(max(drawn, low), high)
        else:
            drawn = self.random.randrange(low, high + 1, step)
        self.params[name] = drawn
        return drawn

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool = False) -> float:
        drawn = math.exp(self.random.uniform(math.log(low), math.log(high))) if log else self.random.uniform(low, high)
        drawn = min(max(drawn, low), high)
        self.params[name] = drawn
        return drawn
