"""The best recipe, reverted one factor at a time: as an ablation, and as the file that the registry reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cifar_lab.ablation import registry
from cifar_lab.config.baselines import RESNET18
from cifar_lab.config.scale import SCALES
from cifar_lab.errors import UsageError
from cifar_lab.search.ablate_best import best_recipe_ablation
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import Bundle, Choice, Integer, Real
from cifar_lab.search.space import Space
from cifar_lab.search.study import StudySettings
from cifar_lab.store.ablation_file import as_file

SPACE = Space(
    question="Which?",
    baseline=RESNET18.override({"model.width": 32}),
    dimensions=(
        Integer(path="model.width", low=32, high=96, step=32),
        Choice(path="optim.name", values=("sgd_nesterov", "adam")),
        Bundle(
            name="clip",
            options={
                "value": {"optim.clip.by": "value", "optim.clip.threshold": 0.1},
                "norm": {"optim.clip.by": "norm", "optim.clip.threshold": 2.0},
            },
        ),
    ),
)
BEST = {"model.width": 96, "optim.name": "adam", "clip": "norm"}


def setting(**changed: Any) -> StudySettings:
    fields: dict[str, Any] = {
        "study": "wide", "space": SPACE, "scale": SCALES["smoke"], "budget": SearchBudget(), "data": {},
    }  # fmt: skip
    return StudySettings(**(fields | changed))


def params(**changed: Any) -> dict[str, Any]:
    baseline = SPACE.params_of(SPACE.baseline)
    assert baseline is not None
    return {**baseline, **changed}


def test_each_tuned_factor_is_reverted_by_itself_and_all_at_once() -> None:
    made = best_recipe_ablation(setting(budget=SearchBudget(max_params=20_000_000)), params(**BEST))
    assert made.control == "best"
    assert made.recipe("best") == SPACE.baseline.override(SPACE.diff_of(params(**BEST)))
    diffs = {variant.name: variant.diff for variant in made.variants}
    assert diffs["model.width"] == {"model.width": 32}
    assert diffs["optim.name"] == {"optim.name": "sgd_nesterov"}
    assert diffs["clip"] == {"optim.clip.by": "value", "optim.clip.threshold": 0.1}
    assert made.recipe("all_reverted").digest() == SPACE.baseline.digest()


RATES = {"optim.name": {"sgd_nesterov": 0.1, "muon": 0.02}}
TUNED = Space(
    question="Which?",
    baseline=RESNET18.override({"model.se.placement": "stem", "model.se.reduction": 4}),
    dimensions=(
        Choice(path="model.se.placement", values=("none", "stem")),
        Choice(path="model.se.reduction", values=(4, 8, 16), when={"model.se.placement": ("stem",)}),
        Choice(path="optim.name", values=("sgd_nesterov", "muon")),
        Real(name="lr / customary", path="optim.lr", low=0.1, high=5.0, log=True, unit=RATES),
    ),
)


def test_a_dimension_is_put_back_in_its_own_unit_and_what_it_switches_on_is_the_baselines() -> None:
    best = {"model.se.placement": "none", "optim.name": "muon", "lr / customary": 0.5}
    made = best_recipe_ablation(setting(space=TUNED), best)
    recipes = {variant.name: made.recipe(variant.name) for variant in made.variants}
    assert (recipes["best"].optim.name, recipes["best"].optim.lr) == ("muon", pytest.approx(0.01))
    assert (recipes["lr-customary"].optim.name, recipes["lr-customary"].optim.lr) == ("muon", pytest.approx(0.02))
    assert (recipes["optim.name"].optim.name, recipes["optim.name"].optim.lr) == ("sgd_nesterov", pytest.approx(0.05))
    se = recipes["model.se.placement"].model.se
    assert (se.placement, se.reduction) == ("stem", 4)
    assert recipes["all_reverted"].digest() == TUNED.baseline.digest()


def test_a_baseline_outside_of_the_space_is_put_back_path_by_path() -> None:
    outside = Space(question="Which?", baseline=RESNET18.override({"model.width": 30}), dimensions=SPACE.dimensions[:2])
    made = best_recipe_ablation(setting(space=outside), {"model.width": 32, "optim.name": "adam"})
    diffs = {variant.name: variant.diff for variant in made.variants}
    assert diffs["model.width"] == {"model.width": 30}
    assert diffs["optim.name"] == {"optim.name": "sgd_nesterov"}


def test_what_was_not_tuned_away_from_the_baseline_has_no_variant() -> None:
    made = best_recipe_ablation(setting(), params(**{"optim.name": "adam"}))
    assert [variant.name for variant in made.variants] == ["best", "optim.name"], "all of one is that one"


def test_a_best_that_is_the_baseline_leaves_nothing_to_revert() -> None:
    with pytest.raises(UsageError, match="nothing to revert"):
        best_recipe_ablation(setting(), params())


def test_seeds_are_not_that_of_the_search() -> None:
    assert setting().seed not in best_recipe_ablation(setting(), params(**BEST)).seeds


def test_the_file_is_an_ablation_of_the_registry(tmp_path: Path) -> None:
    made = best_recipe_ablation(setting(), params(**BEST))
    (tmp_path / f"{made.name}.py").write_text(as_file(made, by="the tests"))
    read = registry.discover(tmp_path).find("ablate_wide")
    assert read.baseline == made.baseline
    assert {v.name: read.recipe(v.name) for v in read.variants} == {v.name: made.recipe(v.name) for v in made.variants}
    assert (read.control, read.seeds, read.factors) == (made.control, made.seeds, made.factors)
