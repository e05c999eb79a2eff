"""The budget as constraints of a search: the relative excess of a candidate, and a check that any candidate fits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import BudgetError
from cifar_lab.models.cost import BUDGET, network_cost
from cifar_lab.search.dimension import RandomTrial
from cifar_lab.search.space import Space


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """Limits on declared recipes, before scaling: trainable parameters, and MACs per image.

    Raises:
        BudgetError: a limit is below 1.
    """

    max_params: int = BUDGET
    max_macs: int | None = None
    """Limit on MACs; None for no limit."""
    images: ImageShape = CIFAR10_SHAPE
    """Classes and side of the images, which the counts depend on."""

    def __post_init__(self) -> None:
        for name, limit in self._limits().items():
            if limit < 1:
                raise BudgetError(f"the budget is 1 or more {name}, got {limit:,}")

    def counts(self, recipe: Recipe) -> dict[str, int]:
        """Count `parameters` and `macs` of the network that `recipe` declares."""
        counted = network_cost(recipe.model.model_copy(update={"dropout": 0.0}), self.images)  # cached without dropout
        return {"parameters": counted.parameters, "macs": counted.macs}

    def constraints(self, recipe: Recipe) -> dict[str, float]:
        """Return the relative excess (count − limit) / limit of each limited count; at most 0 if within the budget.

        Raises:
            BudgetError: MACs are limited, and those of a user's network cannot be counted.
        """
        counts = self.counts(recipe)
        if self.max_macs is not None and not counts["macs"]:
            raise BudgetError(f"model.name={recipe.model.name}: its MACs are unknown, and --max-macs limits them")
        return {name: (counts[name] - limit) / limit for name, limit in self._limits().items()}

    def admits(self, recipe: Recipe) -> bool:
        """Tell whether all counts are within their limits."""
        return all(excess <= 0 for excess in self.constraints(recipe).values())

    def smallest(
        self, space: Space, *, draws: int = 100, seed: int = 0, overrides: Mapping[str, Any] | None = None
    ) -> dict[str, int]:
        """Return the smallest count of each kind over the baseline and `draws` random candidates."""
        counts = [self.counts(recipe) for recipe in _candidates(space, draws, seed, overrides or {})]
        return {name: min(count[name] for count in counts) for name in counts[0]}

    def require_room(
        self, space: Space, *, draws: int = 100, seed: int = 0, overrides: Mapping[str, Any] | None = None
    ) -> None:
        """Check that a candidate is within the budget, trying the baseline first, then random ones.

        `overrides`: recipe paths that are set for every candidate.

        Raises:
            BudgetError: none of the baseline and `draws` random candidates is; the message has the smallest counts.
        """
        if any(self.admits(recipe) for recipe in _candidates(space, draws, seed, overrides or {})):
            return
        smallest = self.smallest(space, draws=draws, seed=seed, overrides=overrides)
        limits = " and ".join(f"{limit:,} {name}" for name, limit in self._limits().items())
        seen = " and ".join(f"{smallest[name]:,} {name}" for name in self._limits())
        raise BudgetError(
            f"space '{space.name}': no network within {limits} among the baseline and {draws} random candidates; "
            f"the smallest seen: {seen}"
        )

    def _limits(self) -> dict[str, int]:
        macs = {} if self.max_macs is None else {"macs": self.max_macs}
        return {"parameters": self.max_params, **macs}


def _candidates(space: Space, draws: int, seed: int, overrides: Mapping[str, Any]) -> Iterator[Recipe]:
    """Yield the baseline, then random candidates, each with `overrides`."""
    yield space.baseline.override(dict(overrides))
    chance = random.Random(seed)
    for _ in range(draws):
        yield space.baseline.override(space.suggest(RandomTrial(chance))).override(dict(overrides))
