"""What is known of one search: its dimensions, its trials, and which of them are worth pointing out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("trained", "diverged", "pruned", "infeasible", "failed", "running")
"""What may become of a trial."""

Parameter = bool | int | float | str
"""What a trial took of a dimension."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """What was varied: a choice among `labels`, or a range from `low` to `high`."""

    name: str
    words: str
    """Its values: `16 to 96 by 8`."""
    labels: tuple[Parameter, ...] = ()
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate, and what became of it. Accuracies are fractions."""

    number: int
    state: str
    """One of `STATES`."""
    value: float | None = None
    """Accuracy on val; of a trained one alone."""
    parameters: int | None = None
    """Of the network as declared; none before it was counted."""
    macs: int | None = None
    pruned_at: int | None = None
    """The epoch after which it was stopped."""
    last: float | None = None
    """The last accuracy that a pruned one reported."""
    params: Mapping[str, Parameter] = field(default_factory=dict)
    """By dimension, of those that it was asked for."""
    diff: Mapping[str, Any] | None = None
    """By path, what it differs in from the baseline of the space; none where it ended before it had one."""
    note: str = ""
    """Why it failed."""

    @property
    def name(self) -> str:
        return f"t{self.number:03}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A path in which the best recipe is not the baseline of the space."""

    path: str
    baseline: Any
    best: Any
    by: str
    """The dimension that searched it; or `set`, by an override."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """One study."""

    study: str
    question: str
    space: str
    scale: str
    data: str
    max_params: int
    max_macs: int | None = None
    objectives: tuple[str, ...] = ("accuracy",)
    dimensions: tuple[Dimension, ...]
    trials: tuple[Trial, ...] = ()
    """By number."""
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By evaluator and dimension, a share."""
    fewest: int = 1
    """Trials with a value, below which an importance would be noise."""
    changes: tuple[Change, ...] = ()
    """Of the best recipe; none for the baseline itself."""
    recipe: Mapping[str, Any] | None = None
    """The best one, as a file of it holds it."""
    how: tuple[tuple[str, str], ...] = ()
    """How it was searched: terms and words."""
    reproduce: tuple[str, ...] = ()
    """Lines of a shell that come to the same numbers."""

    @property
    def results(self) -> list[Trial]:
        """Trials with a value."""
        return [trial for trial in self.trials if trial.value is not None]

    @property
    def best(self) -> Trial | None:
        return next(iter(self.ranked), None)

    @property
    def baseline(self) -> Trial | None:
        """The first trial of the baseline itself that has a value, if there is one."""
        return next((trial for trial in self.results if trial.diff is not None and not trial.diff), None)

    @property
    def ranked(self) -> list[Trial]:
        """Trials with a value, the best first; of several equal ones, the first."""
        return sorted(self.results, key=lambda trial: (-accuracy(trial), trial.number))

    @property
    def best_tenth(self) -> list[Trial]:
        """Of the trials with a value, one at least; the best first."""
        return self.ranked[: math.ceil(len(self.results) / 10)]

    @property
    def ordered(self) -> list[Dimension]:
        """The dimensions, the most important first; those whose importance is not known last."""
        shares: dict[str, float] = {}
        for known in reversed(list(self.importances.values())):
            shares |= known
        return sorted(self.dimensions, key=lambda each: -shares.get(each.name, -1.0))

    def front(self, cost: str = "parameters") -> list[Trial]:
        """Trials that no other beats in both accuracy and `cost` (parameters, or macs), the cheapest first."""
        found = [trial for trial in self.results if getattr(trial, cost) is not None]
        kept: list[Trial] = []
        for trial in sorted(found, key=lambda each: (getattr(each, cost), -accuracy(each), each.number)):
            if not kept or accuracy(trial) > accuracy(kept[-1]):
                kept.append(trial)
        return kept


def accuracy(trial: Trial) -> float:
    """Of a trial with a value."""
    assert trial.value is not None, "only results are ranked"
    return trial.value
