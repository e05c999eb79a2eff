"""Ablation of a search's best recipe: each tuned factor reverted to the baseline's value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import AblationError, UsageError
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import Dimension
from cifar_lab.search.space import Space
from cifar_lab.search.study import StudySettings
from cifar_lab.search.study_name import ablation_name

CONTROL, ALL = "best", "all_reverted"
SEEDS = (1, 2, 3)
"""Seeds that the search did not use: it trained with seed 0."""


def best_recipe_ablation(setting: StudySettings, params: Mapping[str, Any]) -> Ablation:
    """Return an ablation with a study's best recipe as control: each tuned dimension reverted alone, and all at once.

    A dimension is reverted in its own unit: a learning rate of twice Muon's usual one becomes Muon's usual one, and SGD
    in place of Muon keeps twice the usual rate of SGD. A dimension without effect on the best recipe has no variant.

    Raises:
        UsageError: the best recipe is the baseline.
    """
    space = setting.space
    best = space.baseline.override(space.diff_of(dict(params)))
    diffs = {
        dimension.name: best.changes_to(_reverted(space, dimension, params, best)) for dimension in space.dimensions
    }
    variants = [Variant(name=CONTROL)]
    lineages = {best.digest()}
    for name, diff in {**diffs, ALL: best.changes_to(space.baseline)}.items():
        made = _variant(name, diff, best, setting.budget)
        if made is not None and (digest := best.override(diff).digest()) not in lineages:
            lineages.add(digest)
            variants.append(made)
    if len(variants) == 1:
        raise UsageError(f"the best recipe of {setting.study} is its baseline: there is nothing to revert")
    return Ablation(
        name=ablation_name("ablate", setting.study),
        question=f"Which of the settings that the search {setting.study} tuned matters?",
        source=f"the best recipe of the study {setting.study} in the space {space.name}",
        baseline=best,
        factors=tuple(dict.fromkeys(path for variant in variants for path in variant.diff)),
        variants=tuple(variants),
        control=CONTROL,
        seeds=SEEDS,
    )


def _reverted(space: Space, back: Dimension, params: Mapping[str, Any], best: Recipe) -> Recipe:
    """Return the best recipe with one dimension, and dimensions that this activates, set as in the baseline.

    If the baseline has no such parameter (it is outside of the space), the paths of the dimension are reverted.
    """
    plain = space.params_of(space.baseline) or {}
    taken: dict[str, Any] = {}
    for dimension in space.dimensions:
        if dimension.is_on(taken):
            source = plain if dimension == back or dimension.name not in params else params
            if dimension.name not in source:
                return best.override({path: space.baseline.flat()[path] for path in back.paths()})
            taken[dimension.name] = source[dimension.name]
    return space.baseline.override(space.diff_of(taken))


def _variant(name: str, diff: dict[str, Any], best: Recipe, budget: SearchBudget) -> Variant | None:
    """Return a variant; None if the diff changes nothing or is incompatible with the other settings."""
    if not diff:
        return None
    try:
        is_over = budget.counts(best.override(diff))["parameters"] > budget.max_params
        return Variant(name=_slug(name), diff=diff, over_budget=is_over)
    except AblationError:
        return None


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_.+-]+", "-", name.lower()).strip("-")
