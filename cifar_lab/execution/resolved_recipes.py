"""Recipes and seeds of a plan, without reading images or loading torch or numpy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.one_factor import PREFIX
from cifar_lab.config.built_in_names import MODELS
from cifar_lab.config.distillation_config import why_no_teacher
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.overrides import format_overrides, parse_number
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.scale import Scale, require_distinct
from cifar_lab.errors import BudgetError, UsageError
from cifar_lab.models.cost import LARGEST, network_cost, require_within, rounded_up

MOST_SEEDS = 1000
BY_HAND = "train"
"""Name of the study that `cifar-lab train` creates for a single recipe."""


def make_recipes(
    ablation: Ablation,
    *,
    scale: Scale,
    overrides: Mapping[str, Any],
    variants: list[str] | None,
    max_params: int,
    images: ImageShape | None = None,
) -> tuple[dict[str, Recipe], dict[str, Recipe]]:
    """Return the recipes of the variants as declared, and as trained at `scale`; variants come after those they need.

    Recipes are checked before any images are fetched, without `images`: the built-in network is then counted for
    CIFAR-10. They are checked again when the classes and the side of the images are known.

    Raises:
        UsageError: an unknown variant, an override that does not fit, two variants that coincide at this scale.
        BudgetError: a declared network exceeds `max_params` and is not marked as over budget.
    """
    chosen = variants or [variant.name for variant in ablation.variants]
    names = _with_needed(ablation, [ablation.variant(name).name for name in dict.fromkeys(chosen)])
    declared = {name: ablation.recipe(name).override(overrides) for name in names}
    for name, recipe in declared.items():
        _require_budget(ablation, name, recipe, max_params, images)
    recipes = {name: scale.apply(ablation.recipe(name)).override(overrides) for name in names}
    for name, recipe in recipes.items():
        _require_teachers(ablation, name, recipe, recipes)
    overridden = {path: value for path, value in overrides.items() if path in ablation.factors}
    require_distinct(recipes, scale, origins(ablation, recipes), overridden)
    return declared, recipes


def require_effective(overrides: Mapping[str, Any], recipes: Collection[Recipe]) -> None:
    """Check that no override sets a field of the built-in network where no recipe has that network.

    Raises:
        UsageError: one does; such a field is in no identity (`Recipe.built`) of a network of a user's.
    """
    own = {recipe.model.name for recipe in recipes if recipe.model.name not in MODELS.built_in}
    if not own or any(recipe.model.name in MODELS.built_in for recipe in recipes):
        return
    for path, value in overrides.items():
        if path.startswith("model.") and path not in {"model.name", "model.options"}:
            raise UsageError(
                f"{format_overrides({path: value})} has no effect on model.name={', '.join(sorted(own))}; "
                "a network of your own takes its settings by model.options"
            )


def origins(ablation: Ablation, recipes: Mapping[str, Recipe]) -> dict[str, object]:
    """Return what each variant continues and learns from, for `require_distinct`; a teacher without weight is none."""
    return {
        name: ablation.variant(name).origins if recipe.train.distill.weight else ablation.variant(name).continues
        for name, recipe in recipes.items()
    }


def _with_needed(ablation: Ablation, names: list[str]) -> list[str]:
    """Return `names`, each after the variants that it needs; missing ones are added to the plan."""
    return list(dict.fromkeys(name for each in names for name in (*ablation.needed(each), each)))


def _require_teachers(ablation: Ablation, name: str, recipe: Recipe, recipes: Mapping[str, Recipe]) -> None:
    """Check that a recipe that distills has a teacher, from one source, that sees the images of its student."""
    distill, variant = recipe.train.distill, ablation.variant(name)
    if not distill.weight:
        return
    said = f"{'recipe' if ablation.name == BY_HAND else 'variant'} '{name}': train.distill.weight={distill.weight:g}"
    if not variant.teachers and not distill.teacher:
        raise UsageError(
            f"{said} without a teacher; train.distill.teacher=FINGERPRINT names a finished cell, and distills_from of "
            "a variant another variant"
        )
    if variant.teachers and distill.teacher:
        raise UsageError(
            f"variant '{name}' distills from {', '.join(variant.teachers)}; leave train.distill.teacher out"
        )
    for teacher in variant.teachers:
        if (why := why_no_teacher(recipes[teacher], recipe)) is not None:
            raise UsageError(f"variant '{name}' cannot distill from '{teacher}': {why}")


def _require_budget(ablation: Ablation, name: str, recipe: Recipe, limit: int, images: ImageShape | None) -> None:
    if images is None and recipe.model.name not in MODELS.built_in:
        return  # what a user's network is built for is not known yet
    images = images or CIFAR10_SHAPE
    what = f"{ablation.name}: {'recipe' if ablation.name == BY_HAND else 'variant'} '{name}'"
    if ablation.variant(name).over_budget or limit > LARGEST:
        require_within(what, recipe.model, LARGEST, images)
        return
    try:
        require_within(what, recipe.model, limit, images)
    except BudgetError as error:
        word, number = rounded_up(network_cost(recipe.model, images).parameters)
        allow = f"--max-params {word} (in Python max_params={number:_}) allows it"
        if width := _widest(recipe, limit, images):
            allow = f"model.width={width} fits, and {allow}"
        is_typed = ablation.name == BY_HAND or ablation.name.startswith(PREFIX)
        declare = "" if is_typed else "; a variant that is meant to be declares over_budget=True"
        raise BudgetError(f"{error}; {allow}{declare}") from None


def _widest(recipe: Recipe, limit: int, images: ImageShape) -> int:
    """Return the largest width with which the network of `recipe`, which is over the limit, is within it; 0: none."""
    low, high = 0, recipe.model.width
    while high - low > 1:
        width = (low + high) // 2
        model = recipe.model.model_copy(update={"width": width})
        fits = network_cost(model, images).parameters <= limit
        low, high = (width, high) if fits else (low, width)
    return low


def parse_seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """Parse seeds such as `0-4`, `0,2,5` or `0-2,7`; `option`: the one that has them, for errors.

    Raises:
        UsageError: the text has another form.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        begin, end = parse_number(first), parse_number(last if dash else first)
        if begin is None or end is None or end < begin:
            raise UsageError(f"{option} reads 0-4 or 0,2,5, got '{text}'")
        if len(seeds) + end - begin >= MOST_SEEDS:
            raise UsageError(f"{option} takes {MOST_SEEDS} seeds at most, got '{text}'")
        seeds += range(begin, end + 1)
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"{option} names a seed twice: '{text}'")
    return tuple(seeds)
