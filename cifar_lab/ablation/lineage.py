"""Lineage of a variant: the digest of its recipe and of the recipes that it descends from, the same for every seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config.recipe import DRAWS, Recipe
from cifar_lab.config.scale import find_scale
from cifar_lab.errors import UsageError


def lineages(ablation: Ablation, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """Return the lineage of each variant in `recipes` that has there all that it continues and learns from.

    `recipes`: recipes as trained, by variant, without the fingerprints of teachers and parents.
    """
    made: dict[str, str] = {}
    for variant in ablation.variants:  # a variant stands after those that it needs
        if (recipe := recipes.get(variant.name)) is None:
            continue
        teachers = variant.teachers if recipe.train.distill.weight > 0 else ()
        if not made.keys() >= {*teachers, *([variant.continues] if variant.continues else [])}:
            continue
        lineage = recipe.digest()
        if teachers:
            lineage = f"{lineage} taught by {_lineage_of([made[name] for name in teachers], variant.teacher_seeds)}"
        if variant.continues:
            lineage = f"{lineage} with draws {DRAWS} after {made[variant.continues]}"
        made[variant.name] = lineage
    return made


def lineages_at(ablation: Ablation, scale: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Return the lineage of every variant whose recipe fits a scale with overrides, by its name.

    Raises:
        UsageError: there is no such scale, or overrides or code of the user's fit no variant.
    """
    resized, recipes = find_scale(scale), dict[str, Recipe]()
    misfit: UsageError | None = None
    for variant in ablation.variants:
        try:
            recipes[variant.name] = resized.apply(ablation.recipe(variant.name)).override(overrides)
        except UsageError as error:
            misfit = error
    if misfit is not None and not recipes:
        raise misfit
    return lineages(ablation, recipes)


def _lineage_of(teachers: Collection[str], fixed: Sequence[int]) -> str:
    """Return a digest of the teachers' lineages, and of their seeds if these are fixed for all seeds of students."""
    words = [*sorted(set(teachers)), *map(str, sorted(fixed))]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
