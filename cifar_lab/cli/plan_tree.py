"""Plans and their outcomes as JSON, as `plan` and the commands that train print them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cifar_lab.config.scale import trained_alike

if TYPE_CHECKING:
    from cifar_lab.config.recipe import Recipe
    from cifar_lab.execution import request
    from cifar_lab.execution.plan import Plan
    from cifar_lab.results.comparison import Comparison


def plan_tree(found: request.Request) -> dict[str, Any]:
    """Return the plan as JSON."""
    from cifar_lab.execution.plan import as_dict

    plan = found.plan
    return {
        "ablation": plan.ablation.name,
        "scale": plan.scale.name,
        "protocol": plan.protocol,
        "data": {"name": plan.dataset.name, "hash": plan.dataset.hash},
        "overrides": dict(plan.overrides),
        "workers": found.workers,
        "execution": found.execution.as_dict(),
        "seconds": found.seconds,
        "same_as": _alike(plan),
        "cells": [as_dict(cell, plan.estimates) for cell in plan.cells],
    }


def result_tree(plan: Plan, comparison: Comparison) -> dict[str, Any]:
    """Return the outcome of a plan as JSON: failed cells, and the rows of `compare`."""
    return {"failed": sum(cell.state == "failed" for cell in plan.cells), "rows": comparison.as_dict()["rows"]}


def _alike(plan: Plan) -> dict[str, str]:
    """Map variants to an earlier one with the same training, because their schedules coincide in so few epochs."""
    from cifar_lab.data.splits import training_index
    from cifar_lab.train.lr_schedule import rate_at

    dataset = plan.dataset
    sizes: dict[str, int] = {}

    def size(recipe: Recipe) -> int:
        """Return the number of training images; splitting them takes longer than all else here."""
        key = f"{recipe.train.protocol} {recipe.data.model_dump_json()}"
        if key not in sizes:
            sizes[key] = len(training_index(dataset, recipe.data, recipe.train.protocol))
        return sizes[key]

    def rates(recipe: Recipe) -> Iterator[float]:
        per_epoch, epochs = recipe.steps_per_epoch(size(recipe)), recipe.train.epochs
        for step in range(per_epoch * epochs):
            yield rate_at(recipe, step, per_epoch)

    recipes = {cell.variant: cell.recipe for cell in plan.cells if cell.seed == plan.cells[0].seed}
    return trained_alike(recipes, rates)
