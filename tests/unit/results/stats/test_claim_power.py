"""Power of claims, against the product's other power functions and against simulated studies that are judged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cifar_lab.results.stats.claim_power import FEASIBLE, ClaimDesign, TrueClaim
from cifar_lab.results.stats.claims import ClaimSide, judge_accuracy, judge_difference
from cifar_lab.results.stats.moderated import moderated_power
from cifar_lab.results.stats.power import power

STUDIES = 1_500
OFF = 3.5 * math.sqrt(0.25 / STUDIES)
"""Largest gap of a simulated share by chance."""


@pytest.mark.parametrize("pairs", [3, 5, 12])
@pytest.mark.parametrize("difference", [0.5, 1.0, 2.0])
def test_that_an_interval_excludes_0_is_what_the_other_functions_say(pairs: int, difference: float) -> None:
    student = ClaimDesign(pairs=pairs, deviation=1.0, level=0.98)
    either = student.within(0, math.inf, difference) + student.within(-math.inf, 0, difference)
    assert either == pytest.approx(power(pairs, difference, 1.0, 0.98), abs=0.003)
    four = ClaimDesign(pairs=pairs, deviation=1.0, moderated=4, kind="any")
    either = four.within(0, math.inf, difference) + four.within(-math.inf, 0, difference)
    assert either == pytest.approx(moderated_power(pairs, difference, 1.0, 4, "any"), abs=1e-9)


CLAIMS: list[tuple[str, dict[str, Any]]] = [
    ("better", {"difference": 0.004}),
    ("better", {"difference": 0.002}),
    ("better", {"difference": 0.01, "size": 0.01, "tolerance": 0.005}),
    ("better", {"difference": 0.0002, "size": 0.0002, "tolerance": 0.005}),
    ("better", {"difference": 0.002, "direction_only": True}),
    ("alike", {}),
    ("not better", {}),
    ("reaches", {"tolerance": 0.005}),
]


@pytest.mark.parametrize(("relation", "fields"), CLAIMS)
@pytest.mark.parametrize("pairs", [3, 10])
def test_power_is_the_share_of_simulated_studies_in_which_the_claim_is_supported(
    relation: Any, fields: dict[str, Any], pairs: int
) -> None:
    true = TrueClaim(relation=relation, margin=0.002, **fields)
    deviation, random = 0.0015, np.random.default_rng(7)
    supported = 0
    for values in random.normal(true.difference, deviation, (STUDIES, pairs)):
        own = ClaimSide(name="a", values=dict(enumerate((0.5 + values).tolist())))
        if relation == "reaches":
            status = judge_accuracy(own, accuracy=0.5, tolerance=true.tolerance).status
        else:
            other = ClaimSide(name="b", values=dict.fromkeys(range(pairs), 0.5))
            status = judge_difference(
                relation, own, other, margin=0.002, level=0.95, size=true.size, tolerance=true.tolerance,
                as_claimed=not true.direction_only,
            ).status  # fmt: skip
        supported += status in {"supported", "direction agrees"}
    assert supported / STUDIES == pytest.approx(true.power(ClaimDesign(pairs=pairs, deviation=deviation)), abs=OFF)


def test_one_seed_settles_nothing() -> None:
    assert TrueClaim(relation="better", difference=0.5, margin=0.002).power(ClaimDesign(pairs=1, deviation=1e-4)) == 0


def test_the_seeds_that_are_needed_are_the_fewest_that_are_enough() -> None:
    true, design = TrueClaim(relation="better", difference=0.005, margin=0.002), ClaimDesign(pairs=3, deviation=0.003)
    needed = true.seeds_needed(design)
    assert needed is not None
    fewer, enough = (true.power(ClaimDesign(pairs=n, deviation=0.003)) for n in (needed - 1, needed))
    assert fewer < 0.8 <= enough


def test_a_difference_of_two_hundredths_of_a_point_is_settled_by_no_feasible_number_of_seeds() -> None:
    tiny = TrueClaim(relation="better", difference=2e-4, size=2e-4, tolerance=0.005, margin=0.002)
    design = ClaimDesign(pairs=3, deviation=0.0021, moderated=8, kind="any")
    assert tiny.seeds_needed(design) is None
    assert tiny.power(ClaimDesign(pairs=FEASIBLE, deviation=0.0021, moderated=8, kind="any")) < 0.2


def test_the_difference_that_so_many_seeds_settle_has_the_power_that_is_wanted() -> None:
    true, design = TrueClaim(relation="better", difference=0.002, margin=0.002), ClaimDesign(pairs=5, deviation=0.002)
    least = true.detectable(design)
    assert least is not None
    assert TrueClaim(relation="better", difference=least, margin=0.002).power(design) >= 0.8
    assert TrueClaim(relation="better", difference=least - 1e-4, margin=0.002).power(design) < 0.8
    assert TrueClaim(relation="alike", margin=0.002).detectable(design) is None
