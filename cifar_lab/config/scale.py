"""Scales: named modifications that shrink every variant by the same multipliers.

`small/5` is `small` with a fifth of its epochs.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from cifar_lab.config.overrides import format_overrides
from cifar_lab.config.recipe import NUMERICS, Recipe
from cifar_lab.errors import RegistryError, UsageError, nearest, shortened

FEW = 500_000
"""Maximum number of steps for which two schedules are compared."""
MOST_DIGITS = 9
"""Maximum digits of the N in `small/N`."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Multipliers of width and epochs; a scale never changes the protocol."""

    name: str
    width: Fraction
    epochs: Fraction
    data: str | None = None
    """Default data of the scale, if the user names none."""

    def apply(self, recipe: Recipe) -> Recipe:
        """Return `recipe` scaled down, with at least one channel and one epoch."""
        return recipe.override(
            {
                "model.width": _times(recipe.model.width, self.width),
                "train.epochs": _times(recipe.train.epochs, self.epochs),
            }
        )


def baseline_identity(baseline: Recipe, scale: Scale) -> str:
    """Return `<digest>/<numerics version>` of a baseline at `scale`: what the cells of a setting have in common."""
    return f"{scale.apply(baseline).digest()}/{NUMERICS}"


def _times(count: int, multiplier: Fraction) -> int:
    """Return `count` times the multiplier, rounded half up, so that 64 and 66 channels stay distinct; at least 1."""
    return max(1, math.floor(count * multiplier + Fraction(1, 2)))


SCALES = {
    scale.name: scale
    for scale in (
        Scale(name="smoke", width=Fraction(1, 4), epochs=Fraction(1, 100), data="synthetic"),
        Scale(name="small", width=Fraction(1, 4), epochs=Fraction(1, 20)),
        Scale(name="writeup", width=Fraction(1), epochs=Fraction(1)),
    )
}


def find_scale(name: str) -> Scale:
    """Return the scale of this name, or `NAME/N`: the same with 1/N of its epochs for each variant.

    Raises:
        RegistryError: there is none.
        UsageError: N is not a whole number from 2 up, or it is no name.
    """
    if not isinstance(name, str):
        raise UsageError(f"scale is a name, {', '.join(SCALES)}, got {shortened(repr(name), 80)}")
    base, slash, share = name.partition("/")
    if base not in SCALES:
        raise RegistryError(f"no scale named '{base}'{nearest(base, SCALES)}")
    if not slash:
        return SCALES[base]
    if not (share.isascii() and share.isdecimal() and len(share) <= MOST_DIGITS and int(share) >= 2):
        raise UsageError(f"scale {name}: a share of the epochs reads {base}/5, a whole number from 2 up")
    return replace(SCALES[base], name=f"{base}/{int(share)}", epochs=SCALES[base].epochs / int(share))


def require_distinct(
    recipes: Mapping[str, Recipe], scale: Scale, parents: Mapping[str, object] | None = None,
    overridden: Mapping[str, object] | None = None,
) -> None:  # fmt: skip
    """Check that no two variants have the same *built* networks and recipes at `scale`.

    `parents` maps a variant to those that it continues or learns from, as JSON values: from different weights, or with
    different teachers, the same recipe is another training. `overridden` has the overrides that set a factor of the
    ablation, for the message.

    Raises:
        UsageError: two variants would train the same thing under two names.
    """
    made: dict[str, str] = {}
    for name, recipe in recipes.items():
        key = json.dumps([recipe.built(), (parents or {}).get(name)], sort_keys=True)
        if key in made:
            alike = f"variants '{made[key]}' and '{name}' build the same network and recipe at scale {scale.name}"
            if overridden:
                raise UsageError(
                    f"{alike}: {format_overrides(overridden)} sets what the ablation varies, for every variant; leave "
                    "this override out"
                )
            raise UsageError(
                f"{alike} with these overrides; leave one out with --variants (in Python variants=[…]), or choose "
                "others"
            )
        made[key] = name


def trained_alike(
    recipes: Mapping[str, Recipe],
    rates: Callable[[Recipe], Iterable[float]],
    parents: Mapping[str, object] | None = None,
) -> dict[str, str]:
    """Map variants to an earlier one that trains the same thing although their recipes differ.

    Two schedules may coincide in a short training, as all begin at the same rate. `rates` returns the learning rate of
    every step, and is called only for recipes that are otherwise the same; `parents` as in `require_distinct`.
    Series of rates that agree for `FEW` steps count as different, which limits the time for long trainings.
    """
    groups: dict[str, list[str]] = {}
    for name, recipe in recipes.items():
        tree = recipe.built()
        del tree["schedule"], tree["optim"]["lr"]
        groups.setdefault(json.dumps([tree, (parents or {}).get(name)], sort_keys=True), []).append(name)
    found: dict[str, str] = {}
    for names in groups.values():
        distinct: dict[float | None, list[str]] = {}  # by the first rate, as hundreds of variants may differ in it
        for name in names if len(names) > 1 else ():
            others = distinct.setdefault(next(iter(rates(recipes[name])), None), [])
            earlier = next((other for other in others if _is_same(rates(recipes[other]), rates(recipes[name]))), None)
            if earlier is None:
                others.append(name)
            else:
                found[name] = earlier
    return found


def _is_same(one: Iterable[float], other: Iterable[float]) -> bool:
    """Tell whether two series of rates are equal, up to the first difference or the end; False for `FEW` or more."""
    pairs = itertools.zip_longest(one, other)
    return all(a == b for a, b in itertools.islice(pairs, FEW)) and next(pairs, None) is None
