"""Which of the tuned settings matters: the best recipe, with each factor put back to the baseline's value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pprint import pformat
from typing import Any

from cifar_lab.ablation import Ablation, Variant
from cifar_lab.errors import AblationError, UsageError
from cifar_lab.models.budget import cost
from cifar_lab.recipe import Recipe
from cifar_lab.search.dimension import Dimension
from cifar_lab.search.naming import slug_of
from cifar_lab.search.space import Space
from cifar_lab.search.study import Setting

CONTROL, ALL = "best", "all_reverted"
SEEDS = (1, 2, 3)
"""Fresh ones: the search trained with seed 0."""


def ablate_best(setting: Setting, params: Mapping[str, Any]) -> Ablation:
    """The best recipe of a study as the control, each tuned dimension reverted by itself, and all of them at once.

    A dimension is put back in its own unit: a rate of twice what is customary for Muon becomes what is customary for
    Muon, and SGD in place of Muon keeps twice what is customary, for SGD. One that makes no difference to the best
    recipe has no variant.

    Raises:
        UsageError: the best recipe is the baseline.
    """
    space = setting.space
    best = space.baseline.override(space.diff_of(dict(params)))
    diffs = {
        dimension.name: _changes(best, _reverted(space, dimension, params, best)) for dimension in space.dimensions
    }
    variants = [Variant(name=CONTROL)]
    lineages = {best.digest()}
    everything = {path: _plain(space, path) for path in _tuned(space, best)}
    for name, diff in {**diffs, ALL: everything}.items():
        made = _variant(name, diff, best, setting.budget.max_params)
        if made is not None and (digest := best.override(diff).digest()) not in lineages:
            lineages.add(digest)
            variants.append(made)
    if len(variants) == 1:
        raise UsageError(f"the best recipe of {setting.study} is its baseline: there is nothing to revert")
    return Ablation(
        name=f"ablate_{slug_of(setting.study)}",
        question=f"Which of the settings that the search {setting.study} tuned matters?",
        source=f"the best recipe of the study {setting.study} in the space {space.name}",
        baseline=best,
        factors=tuple(dict.fromkeys(path for variant in variants for path in variant.diff)),
        variants=tuple(variants),
        control=CONTROL,
        seeds=SEEDS,
    )


def as_file(ablation: Ablation) -> str:
    """The ablation as a file that the registry reads."""
    plain = Recipe().flat()
    diff = {path: value for path, value in ablation.baseline.flat().items() if value != plain[path]}
    variants = "\n".join(f"        {_call(variant)}," for variant in ablation.variants)
    return f'''"""{ablation.question}

Source: {ablation.source}. Written by `cifar-lab ablate-best`.
"""

from cifar_lab.ablation import Ablation, Variant
from cifar_lab.recipe import Recipe

ABLATION = Ablation(
    question={ablation.question!r},
    source={ablation.source!r},
    baseline=Recipe().override({pformat(diff, sort_dicts=False)}),
    factors={ablation.factors!r},
    variants=(
{variants}
    ),
    control={ablation.control!r},
    seeds={ablation.seeds!r},
)
'''


def _call(variant: Variant) -> str:
    words = [f"name={variant.name!r}"]
    words += [f"diff={variant.diff!r}"] if variant.diff else []
    words += ["over_budget=True"] if variant.over_budget else []
    return f"Variant({', '.join(words)})"


def _reverted(space: Space, back: Dimension, params: Mapping[str, Any], best: Recipe) -> Recipe:
    """The best recipe with one dimension as the baseline has it, and what this switches on as the baseline has it too.

    Where the baseline has no such parameter (it is outside of the space), the paths of the dimension are put back.
    """
    plain = space.params_of(space.baseline) or {}
    taken: dict[str, Any] = {}
    for dimension in space.dimensions:
        if dimension.is_on(taken):
            source = plain if dimension == back or dimension.name not in params else params
            if dimension.name not in source:
                return best.override({path: _plain(space, path) for path in back.paths()})
            taken[dimension.name] = source[dimension.name]
    return space.baseline.override(space.diff_of(taken))


def _changes(best: Recipe, other: Recipe) -> dict[str, Any]:
    """By path, what `other` has instead."""
    tuned = best.flat()
    return {path: value for path, value in other.flat().items() if value != tuned[path]}


def _tuned(space: Space, best: Recipe) -> list[str]:
    """The paths in which the best recipe is not the baseline."""
    return list(_changes(best, space.baseline))


def _plain(space: Space, path: str) -> Any:
    return space.baseline.flat()[path]


def _variant(name: str, diff: dict[str, Any], best: Recipe, limit: int) -> Variant | None:
    """None where it changes nothing, or where the other settings do not allow it."""
    if not diff:
        return None
    try:
        recipe = best.override(diff)
        return Variant(name=_slug(name), diff=diff, over_budget=cost(recipe.model).parameters > limit)
    except AblationError:
        return None


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_.+-]+", "-", name.lower()).strip("-")
