"""Lineage of a variant: the digest of its recipe and of the recipes that it descends from, the same for every seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config.recipe import DRAWS, Recipe
from cifar_lab.config.scale import find_scale


def lineages(ablation: Ablation, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """Return the lineage of each variant in `recipes`, which has the variants that these need, too.

    `recipes`: recipes as trained, by variant, without the fingerprints of teachers and parents.
    """
    made: dict[str, str] = {}
    for variant in ablation.variants:  # a variant stands after those that it needs
        if (recipe := recipes.get(variant.name)) is None:
            continue
        lineage = recipe.digest()
        if variant.teachers and recipe.train.distill.weight > 0:
            taught = _lineage_of([made[name] for name in variant.teachers], variant.teacher_seeds)
            lineage = f"{lineage} taught by {taught}"
        if variant.continues:
            lineage = f"{lineage} with draws {DRAWS} after {made[variant.continues]}"
        made[variant.name] = lineage
    return made


def lineages_at(ablation: Ablation, scale: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Return the lineage of every variant at a scale, by its name, with overrides.

    Raises:
        UsageError: there is no such scale, or an override or code of the user's does not fit.
    """
    resized = find_scale(scale)
    recipes = {each.name: resized.apply(ablation.recipe(each.name)).override(overrides) for each in ablation.variants}
    return lineages(ablation, recipes)


def _lineage_of(teachers: Collection[str], fixed: Sequence[int]) -> str:
    """Return a digest of the teachers' lineages, and of their seeds if these are fixed for all seeds of students."""
    words = [*sorted(set(teachers)), *map(str, sorted(fixed))]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
