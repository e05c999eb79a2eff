"""Lineages of the variants of an ablation at a scale, with overrides that fit some of them."""

from __future__ import annotations

import pytest

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.ablation.lineage import lineages, lineages_at
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import RecipeError, UsageError

FOUR_LAYERS = {"model.kernel": [3, 3, 3, 3]}
ABLATION = Ablation(
    name="blocks",
    question="how many?",
    source="the tests",
    baseline=Recipe().override({"model.blocks": [2, 1, 1, 1]}),
    factors=("model.blocks", "optim.lr"),
    variants=(
        Variant(name="four"),
        Variant(name="three", diff={"model.blocks": [3, 3, 3]}),
        Variant(name="longer", diff={"optim.lr": 0.01}, continues="three"),
    ),
    control="four",
)


def test_overrides_that_fit_every_variant_change_every_lineage() -> None:
    plain, changed = lineages_at(ABLATION, "writeup", {}), lineages_at(ABLATION, "writeup", {"optim.momentum": 0.5})
    assert list(plain) == list(changed) == ["four", "three", "longer"]
    assert not {*plain.values()} & {*changed.values()}


def test_a_variant_that_the_overrides_do_not_fit_is_left_out_with_what_descends_from_it() -> None:
    found = lineages_at(ABLATION, "writeup", FOUR_LAYERS)
    assert found == lineages(ABLATION, {"four": ABLATION.recipe("four").override(FOUR_LAYERS)})
    assert list(found) == ["four"]


def test_overrides_that_fit_no_variant_are_refused() -> None:
    with pytest.raises(RecipeError, match="names 2 layers"):
        lineages_at(ABLATION, "writeup", {"model.kernel": [3, 3]})
    with pytest.raises(UsageError, match="no scale named 'hugo'"):
        lineages_at(ABLATION, "hugo", {})
