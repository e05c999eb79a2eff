"""Importances of a study's dimensions: the trials that they take, and how far other trials would move them."""

from __future__ import annotations

import random

import pytest
from made.spaces import Told

from cifar_lab.search import importance
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.importance import bootstrap_shares, importance_shares, importances
from cifar_lab.search.stored_trials import sound

LEADER = "optim.name"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 3)
    monkeypatch.setattr(importance, "FEWEST", {"fanova": 12, "ped_anova": 16})


def study(count: int, *, same: bool = False, sampler: str = "random") -> Told:
    """Return a study in which the optimizer decides the accuracy."""
    made, chance = Told(budget=SearchBudget(max_params=10**9), sampler=sampler), random.Random(1)
    for _ in range(count):
        trial = made.begun()
        value = 0.5 if same else 0.9 * (trial.params[LEADER] == "muon") + 0.01 * chance.random()
        made.study.tell(trial, value)
    return made


def test_an_evaluator_is_left_out_below_its_number_of_trials() -> None:
    assert set(importances(study(11).study).shares) == set()
    assert set(importances(study(12).study).shares) == {"fanova"}
    assert set(importances(study(16).study).shares) == {"fanova", "ped_anova"}


def test_an_adaptive_samplers_trials_are_not_ranked_by_ped_anova() -> None:
    found = importances(study(16, sampler="tpe").study)
    assert (set(found.shares), set(found.needed)) == ({"fanova"}, {"fanova"})


def test_shares_are_of_the_whole_with_intervals_and_leads() -> None:
    found = importances(study(16).study)
    for name, shares in found.shares.items():
        assert sum(shares.values()) == pytest.approx(1.0)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        assert set(found.intervals[name]) == set(found.leads[name]) == set(shares)
        assert sum(found.leads[name].values()) == pytest.approx(1.0)
        assert all(0 <= low <= high <= 1 for low, high in found.intervals[name].values())


def test_the_same_trials_have_the_same_intervals() -> None:
    made = study(14)
    assert importances(made.study) == importances(made.study)


def test_what_decides_leads_in_every_resample() -> None:
    found = importances(study(40).study)
    assert next(iter(found.shares["fanova"])) == LEADER
    assert found.leads["fanova"][LEADER] == 1.0


def test_resamples_are_of_the_trials_and_not_the_trials() -> None:
    trials = sound(study(14).study)
    drawn = bootstrap_shares(trials, "fanova", resamples=4)
    assert len({tuple(sorted(shares.items())) for shares in drawn}) == 4
    assert bootstrap_shares(trials, "fanova", resamples=4) == drawn
    assert importance_shares(trials, "fanova") not in drawn


def test_trials_of_one_value_have_none() -> None:
    found = importances(study(16, same=True).study)
    assert (found.shares, found.trials) == ({}, 16)


def test_a_trial_that_diverged_has_no_part_in_them() -> None:
    made = study(16)
    before = importances(made.study)
    for _ in range(5):
        made.trained(0.0, diverged=True)
    assert importances(made.study) == before


def test_importances_warn_nobody(recwarn: pytest.WarningsRecorder) -> None:
    made = study(16)
    recwarn.clear()
    importances(made.study)
    assert not [each for each in recwarn if issubclass(each.category, UserWarning)]


def test_as_json_shares_are_where_they_were_and_the_rest_is_beside_them() -> None:
    few, enough = importances(study(3).study).as_dict(), importances(study(16).study).as_dict()
    assert few == {"intervals": {}, "leads": {}, "trials": 3, "resamples": 0, "needed": {"fanova": 12, "ped_anova": 16}}
    assert set(enough) == {"fanova", "ped_anova", *few}
    assert sum(enough["fanova"].values()) == pytest.approx(1.0)


def test_a_dimension_that_few_trials_were_asked_for_breaks_no_resample() -> None:
    made, chance = Told(budget=SearchBudget(max_params=10**9), sampler="random"), random.Random(4)
    for number in range(16):
        trial = made.begun({"optim.name": "adam" if number else "sgd"} if number else None)
        made.study.tell(trial, chance.random())
    found = importances(made.study)
    for name, shares in found.shares.items():
        assert set(found.intervals[name]) == set(shares)
