"""Equivalence margins of an ablation by scale, and detection of 2 × 2 studies."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import MARGINS, Ablation, Variant
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.errors import AblationError

FACTORS = ("model.se.reduction", "model.dropout")


def ablation(*variants: Variant, factors: tuple[str, ...] = FACTORS, **changed: Any) -> Ablation:
    return Ablation(
        question="?", source="?", baseline=EFFICIENT_RESNET, factors=factors, variants=variants,
        control=variants[0].name, **changed,
    )  # fmt: skip


NEITHER, ONE = Variant(name="a"), Variant(name="b", diff={"model.se.reduction": 4})
TWO = Variant(name="c", diff={"model.dropout": 0.5})
BOTH = Variant(name="d", diff={"model.se.reduction": 4, "model.dropout": 0.5})


def test_a_margin_is_that_of_the_scale_unless_declared() -> None:
    plain, own = ablation(NEITHER, ONE, TWO), ablation(NEITHER, ONE, TWO, margins={"small": 1.5})
    assert plain.margin("small") == pytest.approx(MARGINS["small"] / 100)
    assert own.margin("small") == own.margin("small/5") == pytest.approx(0.015)
    assert own.margin("writeup") == pytest.approx(MARGINS["writeup"] / 100)


@pytest.mark.parametrize("margins", [{"small": 0.0}, {"small": -1.0}, {"tiny": 1.0}, {"small": float("nan")}])
def test_a_margin_is_a_positive_number_of_a_scale(margins: dict[str, float]) -> None:
    with pytest.raises(AblationError, match="margins"):
        ablation(NEITHER, ONE, TWO, margins=margins)


def test_four_variants_that_cross_two_factors_are_a_crossing() -> None:
    found = ablation(NEITHER, BOTH, TWO, ONE).crossing()
    assert found is not None
    assert (found.factors, found.variants) == (FACTORS, ("a", "b", "c", "d"))


def test_other_studies_are_none() -> None:
    other = Variant(name="d", diff={"model.se.reduction": 8, "model.dropout": 0.5})
    third = Variant(name="d", diff={"model.dropout": 0.3})
    assert ablation(NEITHER, ONE, TWO).crossing() is None
    assert ablation(NEITHER, ONE, TWO, other).crossing() is None, "three values of one factor"
    assert ablation(NEITHER, ONE, TWO, third).crossing() is None, "no corner where both are changed"


def test_the_crossings_of_the_registry_are_found() -> None:
    found = registry.discover()
    crossings = [name for name in found.names() if found.find(name).crossing() is not None]
    assert crossings == ["mixup_cutmix", "se_ratio_x_lookahead"]
