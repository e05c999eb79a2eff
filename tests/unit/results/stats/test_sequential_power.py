"""Simulated stopping rules: decisions as the product makes them, errors in and outside the class, and chances."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import simulated_rules
from scipy import stats

from cifar_lab.results.stats.decision import decide_verdict
from cifar_lab.results.stats.group_sequential import levels, moderated_boundaries
from cifar_lab.results.stats.paired import student
from cifar_lab.results.stats.sequential_power import (
    STUDIES,
    VERDICTS,
    LookDesign,
    decide_at_looks,
    expected_differences,
    rule_chances,
)
from cifar_lab.results.stats.worlds import CLASS, NullWorld

PLAN = (5, 8, 12)
QUICK, MANY = 5_000, 50_000
SINGLE = LookDesign(looks=PLAN, levels=levels(PLAN, 0.05))


def moderated(comparisons: int, family: Literal["control", "any"] = "control") -> LookDesign:
    return LookDesign(looks=PLAN, critical=moderated_boundaries(PLAN, comparisons, family, 0.05))


def test_decisions_are_those_of_the_products_intervals_study_by_study_and_look_by_look() -> None:
    simulated_rules.check_rule(comparisons=2)


def test_a_single_difference_is_decided_by_students_interval_at_each_look() -> None:
    drawn = np.random.default_rng(1).normal(0.8, 1.0, (200, 1, 12))
    decided, pairs = decide_at_looks(drawn, SINGLE, 0.5)
    for study in range(200):
        for n, level in zip(PLAN, SINGLE.levels, strict=True):
            own = drawn[study, 0, :n]
            verdict = decide_verdict(student(float(own.mean()), float(own.std(ddof=1)), n, level), 0.5)
            if verdict != "undecided":
                break
        assert (VERDICTS[decided[study, 0]], pairs[study, 0]) == (verdict, n)


WORLDS = [pytest.param(world, id=f"{world.deviations}, {world.correlation}") for world in CLASS]


@pytest.mark.parametrize("world", WORLDS)
def test_a_rule_errs_in_five_percent_of_studies_at_most_in_the_class(world: NullWorld) -> None:
    """5,000 studies: three standard errors of 5 % are 0.92 points; seven scenarios are asked at once."""
    assert max(simulated_rules.rule_errors("control", world, PLAN, 2, QUICK).values()) <= 0.05 + 0.011


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("kind", "comparisons"), [("control", 4), ("control", 7), ("chain", 4), ("disjoint", 4)])
def test_any_family_errs_in_five_percent_of_studies_at_most(kind: str, comparisons: int, world: NullWorld) -> None:
    """50,000 studies: four standard errors of 5 % are 0.39 points."""
    assert max(simulated_rules.rule_errors(kind, world, PLAN, comparisons, MANY).values()) <= 0.0539


def test_the_error_is_spent_in_the_worst_world_of_the_class() -> None:
    worst = max(simulated_rules.rule_errors("control", world, PLAN, 2, QUICK)["none, margin 0"] for world in CLASS)
    assert worst >= 0.04


@pytest.mark.slow
def test_looks_without_wider_intervals_would_err_more_often() -> None:
    """Check that the simulation can fail: the value of one look, taken at each of three."""
    design = moderated(2)
    careless = LookDesign(looks=PLAN, critical=(design.critical[-1] * 0.85,) * 3)
    drawn = np.random.default_rng(3).normal(size=(QUICK, 3, 12))
    decided, _ = decide_at_looks(drawn[:, 1:] - drawn[:, :1], careless, 0.0)
    assert (decided > 0).any(axis=1).mean() > 0.08


def test_chances_add_up_and_follow_the_difference() -> None:
    none, margin, twice, far = (
        rule_chances(moderated(2), 2, "control", difference, 0.004, 0.005) for difference in expected_differences(0.005)
    )
    for each in (none, margin, twice, far):
        assert each.better + each.worse + each.equivalent + each.undecided == pytest.approx(1.0)
        assert 5 <= each.seeds <= 12
        assert 3 * 5 <= each.cells <= 3 * 12
    assert none.equivalent > margin.equivalent > twice.equivalent
    assert far.better > 0.99
    assert far.seeds < twice.seeds
    assert max(each.worse for each in (none, margin, twice, far)) < 0.05


def test_chances_of_a_single_difference_are_those_of_a_direct_simulation() -> None:
    found = rule_chances(SINGLE, 1, "control", 0.006, 0.004, 0.005)
    random, studies = np.random.default_rng(9), 4000
    counts, seeds = dict.fromkeys(VERDICTS, 0), 0
    critical = [float(stats.t.ppf((1 + level) / 2, n - 1)) for n, level in zip(PLAN, SINGLE.levels, strict=True)]
    for own in random.normal(0.006, 0.004, (studies, 12)):
        for n, value in zip(PLAN, critical, strict=True):
            half = value * own[:n].std(ddof=1) / math.sqrt(n)
            verdict = decide_verdict((float(own[:n].mean() - half), float(own[:n].mean() + half)), 0.005)
            if verdict not in {None, "undecided"}:
                break
        counts[verdict or "undecided"] += 1
        seeds += n
    for verdict in VERDICTS:
        assert getattr(found, verdict) == pytest.approx(counts[verdict] / studies, abs=0.028)
    assert found.seeds == pytest.approx(seeds / studies, abs=0.15)


def test_a_chain_is_simulated_too_and_the_same_chances_come_again() -> None:
    design = LookDesign(looks=PLAN, critical=(4.0, 3.6, 3.3))
    found = rule_chances(design, 3, "any", 0.01, 0.004, 0.005)
    assert found == rule_chances.__wrapped__(design, 3, "any", 0.01, 0.004, 0.005)
    assert found.as_dict()["difference"] == 0.01
    assert STUDIES == 20_000
