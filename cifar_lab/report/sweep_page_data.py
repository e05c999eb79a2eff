"""Data of a search's page: dimensions, trials, and their rankings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("trained", "diverged", "pruned", "infeasible", "failed", "running")
"""Possible states of a trial."""

Parameter = bool | int | float | str
"""Value of a dimension in a trial."""


@dataclass(frozen=True, kw_only=True)
class DimensionSummary:
    """Dimension of the search space: a choice among `labels`, or a range from `low` to `high`."""

    name: str
    words: str
    """Description of its values: `16 to 96 by 8`."""
    labels: tuple[Parameter, ...] = ()
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialSummary:
    """One candidate with its outcome. Accuracies are fractions."""

    number: int
    state: str
    """State, one of `STATES`."""
    value: float | None = None
    """Validation accuracy; only for a trained trial."""
    parameters: int | None = None
    """Parameters of the network as declared; None before they were counted."""
    macs: int | None = None
    pruned_at: int | None = None
    """Epoch after which it was pruned."""
    last: float | None = None
    """Last accuracy that a pruned trial reported."""
    params: Mapping[str, Parameter] = field(default_factory=dict)
    """Parameters by name of the sampled dimension."""
    diff: Mapping[str, Any] | None = None
    """Overrides of the space's baseline, by path; None if it ended before it had a recipe."""
    note: str = ""
    """Reason of a failure."""

    @property
    def name(self) -> str:
        return f"t{self.number:03}"


@dataclass(frozen=True, kw_only=True)
class ChangedSetting:
    """Path in which the best recipe differs from the baseline of the space."""

    path: str
    baseline: Any
    best: Any
    by: str
    """Dimension that searched it, or `set` for an override."""


@dataclass(frozen=True, kw_only=True)
class SweepPageData:
    """One search with its trials."""

    study: str
    question: str
    space: str
    scale: str
    data: str
    max_params: int
    max_macs: int | None = None
    objectives: tuple[str, ...] = ("accuracy",)
    dimensions: tuple[DimensionSummary, ...]
    trials: tuple[TrialSummary, ...] = ()
    """Trials in order of their numbers."""
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Importance by evaluator and dimension, as a share."""
    fewest: int = 1
    """Minimum number of trials with a value for importances; with fewer they would be noise."""
    changes: tuple[ChangedSetting, ...] = ()
    """Changes of the best recipe; empty for the baseline itself."""
    recipe: Mapping[str, Any] | None = None
    """Best recipe, as in a recipe file."""
    how: tuple[tuple[str, str], ...] = ()
    """Description of the search: pairs of term and text."""
    reproduce: tuple[str, ...] = ()
    """Shell commands that reproduce the numbers."""

    @property
    def results(self) -> list[TrialSummary]:
        """Trials with a value."""
        return [trial for trial in self.trials if trial.value is not None]

    @property
    def best(self) -> TrialSummary | None:
        return next(iter(self.ranked), None)

    @property
    def baseline(self) -> TrialSummary | None:
        """First trial of the baseline itself with a value, if there is one."""
        return next((trial for trial in self.results if trial.diff is not None and not trial.diff), None)

    @property
    def ranked(self) -> list[TrialSummary]:
        """Trials with a value, the best first; ties in order of their numbers."""
        return sorted(self.results, key=lambda trial: (-accuracy(trial), trial.number))

    @property
    def best_tenth(self) -> list[TrialSummary]:
        """Best tenth of the trials with a value, at least one; the best first."""
        return self.ranked[: math.ceil(len(self.results) / 10)]

    @property
    def ordered(self) -> list[DimensionSummary]:
        """Dimensions by importance, the highest first; those of unknown importance last."""
        shares: dict[str, float] = {}
        for known in reversed(list(self.importances.values())):
            shares |= known
        return sorted(self.dimensions, key=lambda each: -shares.get(each.name, -1.0))

    def front(self, cost: str = "parameters") -> list[TrialSummary]:
        """Return the Pareto front of accuracy and `cost` (parameters or macs), the cheapest first."""
        found = [trial for trial in self.results if getattr(trial, cost) is not None]
        kept: list[TrialSummary] = []
        for trial in sorted(found, key=lambda each: (getattr(each, cost), -accuracy(each), each.number)):
            if not kept or accuracy(trial) > accuracy(kept[-1]):
                kept.append(trial)
        return kept


def accuracy(trial: TrialSummary) -> float:
    """Return the accuracy of a trial that has a value."""
    assert trial.value is not None, "only results are ranked"
    return trial.value
