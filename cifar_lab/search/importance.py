"""Importance of a space's dimensions for the accuracy of a study's trials."""

from __future__ import annotations

import warnings

import optuna
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

from cifar_lab.search import trials as found

FEWEST = 8
"""Minimum number of trials with a value; with fewer, importances would be noise."""


def importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Return the importance of each parameter as a share, by evaluator (`fanova`, `ped_anova`), the largest first.

    Empty below `FEWEST` trials, and if all values are equal or the trials have no parameter in common.

    fANOVA (Hutter et al. 2014) decomposes the variance of the accuracy over the whole space; PED-ANOVA (Watanabe et al.
    2023) measures what distinguishes the best tenth from the rest. They answer different questions and may rank
    differently. Only trials that were trained to an accuracy count, and only parameters that all of them have.
    """
    results = found.sound(study)
    if len(results) < FEWEST or len({trial.values[0] for trial in results}) < 2:
        return {}
    kept = optuna.create_study(direction="maximize")
    kept.add_trials([_first_objective(trial) for trial in results])
    if not set.intersection(*(set(trial.params) for trial in results)):
        return {}
    evaluators = {"fanova": FanovaImportanceEvaluator(seed=0), "ped_anova": PedAnovaImportanceEvaluator()}
    with warnings.catch_warnings():  # some ranges have few trials in every small study
        warnings.simplefilter("ignore", UserWarning)
        return {name: get_param_importances(kept, evaluator=evaluator) for name, evaluator in evaluators.items()}


def _first_objective(trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(value=trial.values[0], params=trial.params, distributions=trial.distributions)
