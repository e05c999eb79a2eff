"""Importance of the dimensions of a search, and how far it moves over resamples of the trials.

A share that comes from a few dozen trials depends on which trials happened to be drawn. The trials are therefore drawn
again with replacement, and the importances are computed anew from each resample. Below `FEWEST` trials the leading
dimension is too often a wrong one, and no importances are given; docs/benchmarks/importance.md has the simulation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from cifar_lab.report.importance_table import RANDOM, ImportanceSummary
from cifar_lab.search.stored_trials import sound
from cifar_lab.search.study_schema import SETTING

FEWEST = {"fanova": 50, "ped_anova": 50}
"""Minimum number of trials with a value, by evaluator, from which the true leader is mostly among the first three."""
UNBIASED = {"ped_anova"}
"""Evaluators that rank trials of the sampler `random` alone: with an adaptive one no number of trials was enough."""
RESAMPLES = 50
TREES, RESAMPLE_TREES = 64, 8
"""Trees of the random forest of fANOVA, and of one that is fitted to a resample."""
LEVEL = 0.95
"""Share of the resamples within a bootstrap interval, by percentiles (coverage: docs/benchmarks/importance.md)."""

Shares = dict[str, float]
"""Importance by dimension, as a share; the largest first."""


@dataclass(frozen=True, kw_only=True)
class Importances(ImportanceSummary):
    """Importances of the dimensions of a study, with the number of trials that they rest on."""

    trials: int
    """Number of trials with a value."""

    def as_dict(self) -> dict[str, Any]:
        """Return the shares by evaluator, and beside them what they rest on."""
        return {
            **self.shares,
            "intervals": {name: {k: list(v) for k, v in own.items()} for name, own in self.intervals.items()},
            "leads": self.leads,
            "trials": self.trials,
            "resamples": self.resamples if self.shares else 0,
            "needed": self.needed,
        }


def importances(study: optuna.Study) -> Importances:
    """Return the importance of each parameter by evaluator, with intervals.

    An evaluator is left out below its `FEWEST` trials, and if it cannot rank trials of the study's sampler; all are if
    all values are equal or the trials have no parameter in common.

    fANOVA (Hutter et al. 2014) decomposes the variance of the accuracy over the whole space; PED-ANOVA (Watanabe et al.
    2023) measures what distinguishes the best tenth from the rest. They answer different questions and may rank
    differently. Only trials that were trained to an accuracy count, and only parameters that all of them have.
    """
    trials, sampler = [_first_objective(trial) for trial in sound(study)], _sampler_of(study)
    needed = {name: count for name, count in FEWEST.items() if sampler == RANDOM or name not in UNBIASED}
    none = Importances(trials=len(trials), needed=needed, resamples=RESAMPLES, sampler=sampler)
    if len({trial.values[0] for trial in trials}) < 2 or not set.intersection(*(set(t.params) for t in trials)):
        return none
    names = [name for name, fewest in needed.items() if len(trials) >= fewest]
    shares = {name: importance_shares(trials, name) for name in names}
    drawn = {name: bootstrap_shares(trials, name, resamples=RESAMPLES) for name in names}
    return replace(
        none,
        shares=shares,
        intervals={name: bootstrap_intervals(shares[name], each) for name, each in drawn.items()},
        leads={name: _leads(shares[name], each) for name, each in drawn.items()},
    )


def importance_shares(trials: Sequence[FrozenTrial], evaluator: str, *, trees: int = TREES, seed: int = 0) -> Shares:
    """Return the importance of each parameter that all `trials` have; `evaluator`: `fanova` or `ped_anova`."""
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    kept = optuna.create_study(direction="maximize")
    kept.add_trials(trials)
    by: Any = FanovaImportanceEvaluator(n_trees=trees, seed=seed) if evaluator == "fanova" else None
    with warnings.catch_warnings():  # some ranges have few trials in every small study
        warnings.simplefilter("ignore", UserWarning)
        found = get_param_importances(kept, evaluator=by or PedAnovaImportanceEvaluator())
    return {name: float(share) if math.isfinite(share) else 0.0 for name, share in found.items()}


def bootstrap_shares(trials: Sequence[FrozenTrial], evaluator: str, *, resamples: int, seed: int = 0) -> list[Shares]:
    """Return the importances of each of `resamples` draws of the trials with replacement; resamples without any
    difference in value are left out."""
    chance, made = np.random.default_rng(seed), list[Shares]()
    for number in range(resamples):
        drawn = [trials[i] for i in chance.integers(len(trials), size=len(trials))]
        if len({trial.values[0] for trial in drawn}) > 1:
            made.append(importance_shares(drawn, evaluator, trees=RESAMPLE_TREES, seed=number))
    return made


def bootstrap_intervals(shares: Shares, drawn: Sequence[Shares]) -> dict[str, tuple[float, float]]:
    """Return the percentiles of each share; a resample may lack a dimension that few trials were asked for."""
    tail = 100 * (1 - LEVEL) / 2
    ends = {name: np.percentile([each.get(name, 0.0) for each in drawn], [tail, 100 - tail]) for name in shares}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _sampler_of(study: optuna.Study) -> str:
    setting = study.user_attrs.get(SETTING, {})
    return str(setting.get("sampler", "")) if isinstance(setting, Mapping) else ""


def _leads(shares: Shares, drawn: Sequence[Shares]) -> Shares:
    leaders = [_first(each, shares) for each in drawn]
    return {name: leaders.count(name) / len(leaders) for name in shares}


def _first(drawn: Shares, names: Iterable[str]) -> str:
    return max(names, key=lambda name: drawn.get(name, 0.0))


def _first_objective(trial: FrozenTrial) -> FrozenTrial:
    return optuna.trial.create_trial(value=trial.values[0], params=trial.params, distributions=trial.distributions)
