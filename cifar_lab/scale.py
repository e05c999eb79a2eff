"""Scales: named overlays that shrink every variant alike, by multipliers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from cifar_lab.errors import RegistryError, UsageError, nearest
from cifar_lab.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Multipliers of width and epochs; it never sets the protocol."""

    name: str
    width: Fraction
    epochs: Fraction
    data: str | None = None
    """The data that the scale is made for, where the user names none."""

    def apply(self, recipe: Recipe) -> Recipe:
        """`recipe` shrunk: at least one channel and one epoch stay."""
        return recipe.override(
            {
                "model.width": max(1, round(recipe.model.width * self.width)),
                "train.epochs": max(1, round(recipe.train.epochs * self.epochs)),
            }
        )


SCALES = {
    scale.name: scale
    for scale in (
        Scale(name="smoke", width=Fraction(1, 4), epochs=Fraction(1, 100), data="synthetic"),
        Scale(name="small", width=Fraction(1, 4), epochs=Fraction(1, 20)),
        Scale(name="writeup", width=Fraction(1), epochs=Fraction(1)),
    )
}


def find(name: str) -> Scale:
    """The scale of that name.

    Raises:
        RegistryError: there is none.
    """
    if name not in SCALES:
        raise RegistryError(f"no scale named '{name}'{nearest(name, SCALES)}")
    return SCALES[name]


def require_distinct(recipes: Mapping[str, Recipe], scale: Scale) -> None:
    """Refuse variants whose *built* networks and recipes coincide at `scale`.

    Raises:
        UsageError: two variants would train the same thing under two names.
    """
    made: dict[str, str] = {}
    for name, recipe in recipes.items():
        key = json.dumps(recipe.built(), sort_keys=True)
        if key in made:
            raise UsageError(
                f"variants '{made[key]}' and '{name}' build the same network and recipe at --scale {scale.name} "
                f"with these overrides; leave one out with --variants, or choose others"
            )
        made[key] = name
