"""The budget as constraints of a search: what a candidate exceeds by, and whether any candidate fits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cifar_lab.errors import BudgetError
from cifar_lab.models.budget import BUDGET, Cost, cost
from cifar_lab.recipe import Recipe
from cifar_lab.search.draw import Draw
from cifar_lab.search.space import Space


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on what a recipe declares, before any scale: trainable parameters, and MACs of one image.

    Raises:
        BudgetError: a limit below 1.
    """

    max_params: int = BUDGET
    max_macs: int | None = None
    """None: MACs are not limited."""

    def __post_init__(self) -> None:
        for name, limit in self._limits().items():
            if limit < 1:
                raise BudgetError(f"the budget is 1 or more {name}, got {limit:,}")

    def counts(self, recipe: Recipe) -> dict[str, int]:
        """`parameters` and `macs` of the network that `recipe` declares, counted on the meta device."""
        counted = _cost(recipe)
        return {"parameters": counted.parameters, "macs": counted.macs}

    def constraints(self, recipe: Recipe) -> dict[str, float]:
        """(count − limit) / limit by what is limited: 0 and below are within the budget."""
        counts = self.counts(recipe)
        return {name: (counts[name] - limit) / limit for name, limit in self._limits().items()}

    def admits(self, recipe: Recipe) -> bool:
        """Whether nothing that is limited exceeds its limit."""
        return all(excess <= 0 for excess in self.constraints(recipe).values())

    def smallest(
        self, space: Space, *, draws: int = 100, seed: int = 0, overrides: Mapping[str, Any] | None = None
    ) -> dict[str, int]:
        """Return the smallest count of each kind among the baseline and `draws` random candidates: not of one."""
        counts = [self.counts(recipe) for recipe in _candidates(space, draws, seed, overrides or {})]
        return {name: min(count[name] for count in counts) for name in counts[0]}

    def require_room(
        self, space: Space, *, draws: int = 100, seed: int = 0, overrides: Mapping[str, Any] | None = None
    ) -> None:
        """Look for a candidate within the budget: the baseline, else a random one; the first ends it.

        `overrides`: recipe paths that are set for every candidate.

        Raises:
            BudgetError: there is none among the baseline and `draws` random ones; the smallest counts are named.
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


def _cost(recipe: Recipe) -> Cost:
    """Counted once for all networks that differ in what costs nothing."""
    return cost(recipe.model.model_copy(update={"dropout": 0.0}))


def _candidates(space: Space, draws: int, seed: int, overrides: Mapping[str, Any]) -> Iterator[Recipe]:
    """Yield the baseline, then random candidates, each with `overrides`."""
    yield space.baseline.override(dict(overrides))
    chance = random.Random(seed)
    for _ in range(draws):
        yield space.baseline.override(space.suggest(Draw(chance))).override(dict(overrides))
