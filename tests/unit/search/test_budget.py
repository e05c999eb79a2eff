"""Whatever a search may train is within the budget, in any space and under any budget."""

from __future__ import annotations

import random
import re
from typing import Any

import optuna
import pytest
from made.spaces import SMALL, WIDTH, random_space, space

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.recipe import ModelConfig
from cifar_lab.errors import BudgetError
from cifar_lab.models.resnet import build_resnet
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import Choice, RandomTrial, Real
from cifar_lab.search.samplers import make_sampler
from cifar_lab.search.spaces import find_space


def by_hand(model: ModelConfig) -> int:
    """Trainable parameters, from the shapes that the writeup gives."""

    def norm(channels: int) -> int:
        return 2 * channels if model.batch_norm else channels  # scale and shift, or the convolution's bias

    def gate(channels: int, placement: str) -> int:
        hidden = max(1, channels // model.se.reduction)
        return 2 * channels * hidden + hidden + channels if model.se.placement == placement else 0

    before = width = model.width
    total = 27 * width + norm(width) + gate(width, "stem")
    for i, blocks in enumerate(model.blocks):
        here = width * 2**i
        for j in range(blocks):
            total += model.kernels[i] ** 2 * (before * here + here * here) + 2 * norm(here) + gate(here, "block")
            if j == 0 and i > 0:
                total += model.shortcut_kernels[i] ** 2 * before * here + norm(here)
            before = here
    features = before
    if model.extra_fc is not None:
        total += (before + 1) * model.extra_fc
        features = model.extra_fc
    return total + 10 * (features + 1)


def test_the_count_by_hand_is_the_writeups() -> None:
    assert by_hand(EFFICIENT_RESNET.model) == 4_697_742


# Constraints


@pytest.mark.parametrize(
    ("limit", "excess"), [(4_697_742, 0.0), (4_697_741, 1 / 4_697_741), (4_697_743, -1 / 4_697_743), (2_348_871, 1.0)]
)
def test_a_constraint_is_the_share_of_the_limit_that_is_exceeded(limit: int, excess: float) -> None:
    budget = SearchBudget(max_params=limit)
    assert budget.constraints(EFFICIENT_RESNET) == {"parameters": excess}
    assert budget.admits(EFFICIENT_RESNET) == (excess <= 0)


def test_macs_are_limited_only_if_asked_for() -> None:
    budget = SearchBudget(max_params=5_000_000, max_macs=399_345_152)
    assert budget.constraints(EFFICIENT_RESNET) == {"parameters": pytest.approx(-0.0604516), "macs": 1.0}
    assert not budget.admits(EFFICIENT_RESNET)
    assert budget.counts(EFFICIENT_RESNET) == {"parameters": 4_697_742, "macs": 798_690_304}


def test_the_budget_is_the_writeups_unless_said_otherwise() -> None:
    assert SearchBudget() == SearchBudget(max_params=5_000_000, max_macs=None)


@pytest.mark.parametrize(("limits", "said"), [({"max_params": 0}, "parameters, got 0"), ({"max_macs": -5}, "got -5")])
def test_a_limit_below_one_is_refused(limits: dict[str, int], said: str) -> None:
    with pytest.raises(BudgetError, match=said):
        SearchBudget(**limits)


def test_networks_that_differ_in_what_costs_nothing_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_lab.models.cost import network_cost

    SearchBudget().counts(SMALL)
    before = network_cost.cache_info().misses
    for diff in ({"model.dropout": 0.3}, {"optim.lr": 0.5}, {"train.epochs": 3}):
        SearchBudget().counts(SMALL.override(diff))
    assert network_cost.cache_info().misses == before


# Whatever may be trained is within


@pytest.mark.parametrize("seed", range(20))
def test_of_random_spaces_what_is_within_a_random_budget_is_so_when_it_is_built(seed: int) -> None:
    searched, chance = random_space(seed), random.Random(seed)
    recipes = [searched.baseline.override(searched.suggest(RandomTrial(chance))) for _ in range(12)]
    built = [sum(p.numel() for p in build_resnet(recipe.model, seed=0).parameters()) for recipe in recipes]
    assert built == [by_hand(recipe.model) for recipe in recipes]
    for limit in (chance.randint(1, max(built)), chance.choice(built), chance.choice(built) - 1):
        budget = SearchBudget(max_params=max(1, limit))
        assert [budget.admits(recipe) for recipe in recipes] == [count <= limit for count in built]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii"])
@pytest.mark.parametrize("seed", range(6))
def test_a_search_of_a_random_space_trains_nothing_over_a_random_budget(sampler: str, seed: int) -> None:
    searched, chance = random_space(seed), random.Random(seed)
    draws = sorted(by_hand(searched.baseline.override(searched.suggest(RandomTrial(chance))).model) for _ in range(30))
    limit = draws[chance.randint(3, 27)]
    study = optuna.create_study(direction="maximize", sampler=make_sampler(sampler, seed=seed, startup=5))
    for _ in range(25):
        trial = study.ask()
        recipe = searched.baseline.override(searched.suggest(trial))
        limits = SearchBudget(max_params=limit).constraints(recipe)
        for name, excess in limits.items():
            trial.set_constraint(name, excess)
        study.tell(trial, by_hand(recipe.model))  # the larger, the better: it presses against the budget
    answers = [trial for trial in study.trials if all(excess <= 0 for excess in trial.constraints.values())]
    trained = [searched.baseline.override(searched.diff_of(trial.params)) for trial in answers]
    assert all(by_hand(recipe.model) <= limit for recipe in trained)
    others = [trial for trial in study.trials if trial not in answers]
    assert all(by_hand(searched.baseline.override(searched.diff_of(t.params)).model) > limit for t in others)


# Whether anything fits


def test_a_space_with_room_is_let_through_at_the_first_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(
        SearchBudget, "counts", lambda self, recipe: counted.append(recipe) or {"parameters": 5, "macs": 5}
    )
    SearchBudget(max_params=5).require_room(space())
    assert len(counted) == 1


def test_a_space_whose_baseline_alone_is_over_is_let_through() -> None:
    budget = SearchBudget(max_params=by_hand(SMALL.override({"model.width": 4}).model))
    assert not budget.admits(SMALL)
    budget.require_room(space())


def test_a_space_without_room_is_refused_with_the_smallest_count() -> None:
    smallest = by_hand(SMALL.override({"model.width": 4}).model)
    with pytest.raises(BudgetError) as caught:
        SearchBudget(max_params=smallest - 1).require_room(space().model_copy(update={"name": "mine"}), draws=20)
    said = str(caught.value)
    assert "\n" not in said
    assert re.search(
        rf"space 'mine': no network within {smallest - 1:,} parameters .* 20 random .*: {smallest:,} ", said
    )


def test_the_refusal_speaks_of_macs_where_these_are_limited() -> None:
    with pytest.raises(BudgetError, match=r"within 5,000,000 parameters and 10 macs .* parameters and [\d,]+ macs"):
        SearchBudget(max_macs=10).require_room(space(), draws=5)


def test_the_smallest_count_is_that_of_the_draws_and_the_same_each_time() -> None:
    searched = space(WIDTH, Choice(path="model.blocks", values=((1,), (1, 1), (2, 2))))
    counts = [by_hand(SMALL.override({"model.width": 4 * i, "model.blocks": b}).model)
              for i in (1, 2, 3, 4) for b in ((1,), (1, 1), (2, 2))]  # fmt: skip
    found = SearchBudget().smallest(searched, draws=60, seed=0)
    assert found["parameters"] == min(counts)
    assert found == SearchBudget(max_params=1).smallest(searched, draws=60, seed=0)
    assert SearchBudget().smallest(searched, draws=0) == SearchBudget().counts(SMALL)


def test_a_space_that_changes_no_network_is_within_as_its_baseline_is() -> None:
    searched = space(Real(path="optim.lr", low=0.1, high=1.0))
    SearchBudget(max_params=by_hand(SMALL.model)).require_room(searched)
    with pytest.raises(BudgetError):
        SearchBudget(max_params=by_hand(SMALL.model) - 1).require_room(searched, draws=3)


def test_the_baselines_of_the_built_in_spaces_are_within_the_writeups_budget() -> None:
    assert SearchBudget().admits(find_space("writeup").baseline)
    assert SearchBudget().admits(find_space("optimizer").baseline)
