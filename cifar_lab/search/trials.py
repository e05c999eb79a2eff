"""What became of the trials of a study."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

Trial = FrozenTrial
"""A trial as it is read from a study."""
CELL, DIFF, COUNTS, REUSED = "cell", "diff", "counts", "reused"
"""User attributes of a trial: the fingerprint of its cell, its diff, what its network counts, whether it was there."""
PRUNED_AT, DIVERGED, ERROR, SURPLUS = "pruned_at", "diverged", "error", "surplus"
INFEASIBLE, OWNER = "infeasible", "owner"
"""User attributes: the budget refused the candidate; the runner that a trial is with."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many trials there are of each kind. An infeasible one is neither wanted nor a failure."""

    trained: int
    """Finished with a value, of their own or of a cell that was there."""
    pruned: int
    infeasible: int
    failed: int
    running: int

    @property
    def counted(self) -> int:
        """Those that count among the trials wanted."""
        return self.trained + self.pruned + self.running


def is_infeasible(trial: FrozenTrial) -> bool:
    """Return whether a trial is over the budget and so was never trained.

    Optuna has it as pruned and without a value. Earlier versions failed it, or gave it the median of the others.
    """
    return bool(trial.user_attrs.get(INFEASIBLE)) or any(value > 0 for value in constraints(trial).values())


def constraints(trial: FrozenTrial) -> dict[str, float]:
    """By name; above 0 is violated."""
    return dict(trial.constraints or {})


def is_result(trial: FrozenTrial) -> bool:
    """Return whether a trial has a value that was measured here; what other programs told the study is none."""
    is_ours = DIFF in trial.user_attrs and COUNTS in trial.user_attrs
    return trial.state == TrialState.COMPLETE and is_ours and not is_infeasible(trial)


def has_diverged(trial: FrozenTrial) -> bool:
    """Its value is a stopgap for samplers."""
    return bool(trial.user_attrs.get(DIVERGED))


def is_surplus(trial: FrozenTrial) -> bool:
    """Asked for by two runners at once, and withdrawn."""
    return bool(trial.user_attrs.get(SURPLUS))


def retried(trials: Iterable[FrozenTrial]) -> set[int]:
    """Numbers of the trials that were lost and asked for again: a later one stands for each."""
    return {number for trial in trials for number in history(trial)}


def history(trial: FrozenTrial) -> list[int]:
    """Numbers of the lost trials that `trial` is asked for again in place of."""
    return list(trial.system_attrs.get("retry_history", []))  # Optuna's own reader of it warns that it may change


def count(trials: Iterable[FrozenTrial]) -> Counts:
    """A trial that was lost and is asked for again is no failure."""
    every = list(trials)
    again = retried(every)
    kinds = [_kind(trial) for trial in every if trial.number not in again]
    names = ("trained", "pruned", "infeasible", "failed", "running")
    return Counts(**{name: kinds.count(name) for name in names})


def _kind(trial: FrozenTrial) -> str:
    if trial.state == TrialState.WAITING or is_surplus(trial):
        return "none"
    if is_infeasible(trial):
        return "infeasible"
    kinds = {TrialState.COMPLETE: "trained", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    return kinds.get(trial.state, "running")


def of(study: optuna.Study) -> list[FrozenTrial]:
    """All trials, by number."""
    return study.get_trials(deepcopy=False)


def sound(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials with a finite value of their own, by number."""
    return [
        trial
        for trial in of(study)
        if is_result(trial) and not has_diverged(trial) and all(map(math.isfinite, trial.values))
    ]


def best(study: optuna.Study) -> FrozenTrial | None:
    """The trial with the best first objective; of several, the first. None before one has a value of its own."""
    return max(sound(study), key=lambda trial: (trial.values[0], -trial.number), default=None)


def front(study: optuna.Study) -> list[FrozenTrial]:
    """Accuracy against parameters: the trials that no other beats in both, the smallest network first."""
    found = sorted(sound(study), key=lambda t: (parameters(t), -t.values[0], t.number))
    kept: list[FrozenTrial] = []
    for trial in found:
        if not kept or trial.values[0] > kept[-1].values[0]:
            kept.append(trial)
    return kept


def parameters(trial: FrozenTrial) -> int:
    """Of the network as declared."""
    return int(trial.user_attrs[COUNTS]["parameters"])


def diff_of(trial: FrozenTrial) -> dict[str, Any]:
    """The trial's diff on the baseline of the space."""
    return dict(trial.user_attrs[DIFF])
