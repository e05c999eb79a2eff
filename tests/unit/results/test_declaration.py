"""Settings of a declaration of which some variants do not fit the overrides."""

from __future__ import annotations

import pytest
from made import records

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.ablation.lineage import lineages_at
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import RecipeError
from cifar_lab.results.declaration import of_declaration, redeclared
from cifar_lab.store.selection import Selection

MIXING = Ablation(
    name="se_ratio",
    question="does it help?",
    source="the tests",
    baseline=Recipe().override({"data.mixup": 0.0, "data.cutmix": 0.0}),
    factors=("data.mixup",),
    variants=(Variant(name="off"), Variant(name="on", diff={"data.mixup": 1.0})),
    control="off",
)
VIEWS = {"data.policy.name": "augmix", "data.policy.consistency": 12.0}
"""Overrides that refuse images which are mixed."""


def setting(overrides: dict[str, object] = VIEWS, **lineages: str) -> Selection:
    """Return a setting with one cell of each variant, of these lineages."""
    cells = [records.cell_ref(name * 8, name, recipe=lineage) for name, lineage in lineages.items()]
    return Selection(invocations=(records.invocation(*cells, control="off", overrides=overrides),))


def test_a_variant_that_does_not_fit_takes_nothing_from_those_that_do() -> None:
    asked = setting(**lineages_at(MIXING, "small", VIEWS))
    found = of_declaration(asked, MIXING)
    assert [cell.variant for cell in found.cells] == ["off"]
    assert (found.redeclared, redeclared(asked, MIXING)) == ("", "")


def test_a_declared_variant_of_a_recipe_that_fitted_before_was_another_recipe_and_is_not_gone() -> None:
    asked = setting(**lineages_at(MIXING, "small", VIEWS), on="a recipe of before")
    found = of_declaration(asked, MIXING)
    assert [cell.variant for cell in found.cells] == ["off"]
    assert found.redeclared == f"on was another recipe in invocation {asked.latest.id}, left out"
    assert redeclared(asked, MIXING) == "not the recipe of the declaration of now: on"


def test_a_setting_that_fits_no_variant_has_no_declaration() -> None:
    with pytest.raises(RecipeError, match="names 1 layers"):
        of_declaration(setting({"model.kernel": [3]}, off="a recipe of before"), MIXING)
