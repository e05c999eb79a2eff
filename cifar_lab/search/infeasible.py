"""Adapt candidates over the budget, which have no value in the study, for samplers.

They are pruned with their constraints set. Optuna's tpe learns from such a trial directly; gp and nsgaii use only
completed trials. For these it is presented as completed, with the median of the trained trials as its value; the median
is not stored, so nothing that reads the study can take it for an accuracy. The choice of the median is explained in
docs/benchmarks/budget.md.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from cifar_lab.search.stored_trials import COUNTS, is_infeasible, is_result
from cifar_lab.search.study_schema import SETTING

COUNTED = {"params": "parameters", "macs": "macs"}
"""Count that is the value of an objective; it is the candidate's own, whether trained or not."""


class _Completed:
    """Study whose infeasible trials appear as completed; everything else is delegated to the study."""

    def __init__(self, study: Study, *, always: bool = False) -> None:
        """Wrap `study`; `always`: also before any measurement, with meaningless values."""
        self._study, self._always = study, always

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        every = completed(self._study.get_trials(deepcopy=deepcopy), self._objectives(), always=self._always)
        return [trial for trial in every if states is None or trial.state in states]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        every = completed(
            self._study._get_trials(deepcopy=deepcopy, use_cache=use_cache), self._objectives(), always=self._always
        )
        return [trial for trial in every if states is None or trial.state in states]

    def _objectives(self) -> Sequence[str]:
        setting = self._study.user_attrs.get(SETTING, {})
        return tuple(setting.get("objectives", ("accuracy",)))


def completed(
    trials: Sequence[FrozenTrial], objectives: Sequence[str] = ("accuracy",), *, always: bool = False
) -> list[FrozenTrial]:
    """Return the trials, with infeasible ones replaced by completed copies with a median accuracy.

    The median is over the measured trials with lower numbers, so that it does not change as the study continues, or
    over all if there are none. Further objectives are counts, and those of the candidate. Before any measurement
    nothing is replaced, or, with `always`, the median is 0.
    """
    everything = [trial.values[0] for trial in trials if is_result(trial)]
    if not everything and not always:
        return list(trials)
    seen, before = list[FrozenTrial](), list[float]()
    for trial in sorted(trials, key=lambda trial: trial.number):
        if is_result(trial):
            before.append(trial.values[0])
        if trial.state == TrialState.PRUNED and is_infeasible(trial):
            seen.append(_with_values(trial, statistics.median(before or everything or [0.0]), objectives))
        else:
            seen.append(trial)
    return seen


def _with_values(trial: FrozenTrial, accuracy: float, objectives: Sequence[str]) -> FrozenTrial:
    seen, counts = copy.copy(trial), trial.user_attrs.get(COUNTS, {})
    seen.state = TrialState.COMPLETE
    seen.values = [accuracy, *(float(counts[COUNTED[name]]) for name in objectives[1:])]
    return seen


class SeesInfeasible(BaseSampler):
    """Sampler that wraps `inner`, which considers only completed trials, and includes infeasible ones."""

    def __init__(self, inner: BaseSampler) -> None:
        self._inner = inner

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        # The parameters common to completed trials are computed incrementally: none may become completed later.
        return self._inner.infer_relative_search_space(_seen(study, always=True), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(_seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(_seen(study), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(_seen(study), trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(_seen(study), trial, state, values)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()


def _seen(study: Study, *, always: bool = False) -> Any:
    return _Completed(study, always=always)
