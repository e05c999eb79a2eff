"""Families of claims: which differences hold together, and at which level."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation, Claim
from cifar_lab.results.claim_families import ClaimFamily, claim_families
from cifar_lab.results.stats.moderated import moderated_intervals

BUILT_IN = registry.discover()


def claim(better: str, worse: str | None, quote: str = "so", **more: Any) -> Claim:
    return Claim(quote=quote, source="a paper", better=better, worse=worse, **more)


def families(*claims: Claim, of: str = "se_ratio") -> list[ClaimFamily]:
    study: Ablation = BUILT_IN.find(of).model_copy(update={"claims": claims})
    return list(claim_families(study).values())


def test_claims_of_one_statement_hold_together_and_those_of_two_do_not() -> None:
    one, other = families(claim("r16", "r4"), claim("r16", "none", "other"), claim("r16", "r8"))
    assert (one.pairs, one.kind) == ((("r16", "r4"), ("r16", "r8")), "control")
    assert one.level == pytest.approx(0.95**0.5)
    assert (other.pairs, other.level) == ((("none", "r16"),), 0.95)


def test_a_question_may_be_named_and_then_joins_statements() -> None:
    asked = "which ratio?"
    assert len(families(claim("r16", "r4", question=asked), claim("r16", "r8", "other", question=asked))) == 1
    assert len(families(claim("r16", "r4", question=asked), claim("r16", "r8"))) == 2


def test_claims_about_two_metrics_are_two_families() -> None:
    assert [each.metric for each in families(claim("r16", "r4"), claim("r16", "r4", metric="gap"))] == [
        "accuracy", "gap",
    ]  # fmt: skip


def test_a_chain_is_one_question_and_accuracies_that_are_reached_are_in_no_family() -> None:
    (ladder,) = claim_families(BUILT_IN.find("writeup_ladder")).values()
    assert (len(ladder.claims), len(ladder.pairs), ladder.kind) == (8, 8, "any")
    assert all(each.worse is not None for each in ladder.claims)


def test_differences_without_a_common_variant_are_of_kind_any() -> None:
    (blocks,) = claim_families(BUILT_IN.find("block_counts")).values()
    assert (len(blocks.pairs), blocks.kind) == (3, "any")


def test_the_intervals_of_a_family_are_moderated_by_its_own_differences_alone() -> None:
    family, other = families(claim("r16", "r4"), claim("r16", "r8"), claim("r2", "none", "other"))
    values = {
        "r16": {0: 0.90, 1: 0.93, 2: 0.91}, "r4": {0: 0.89, 1: 0.90, 2: 0.905}, "r8": {0: 0.88, 1: 0.93, 2: 0.90},
        "r2": {0: 0.1, 1: 0.9}, "none": {0: 0.7, 1: 0.2},
    }  # fmt: skip
    differences = {name: [values["r16"][seed] - values[name][seed] for seed in range(3)] for name in ("r4", "r8")}
    expected = moderated_intervals(differences, "control")
    assert family.moderated(values) == {("r16", name): pytest.approx(expected[name].interval) for name in ("r4", "r8")}
    assert other.moderated(values) == {}, "one difference alone has Student's interval"


def test_built_in_questions() -> None:
    """State the questions of the ablations that have several claims."""
    questions = {
        ablation.name: [(len(family.claims), family.metric) for family in claim_families(ablation).values()]
        for ablation in BUILT_IN
        if len(ablation.claims) > 1
    }
    assert questions["se_ratio"] == [(1, "accuracy"), (1, "accuracy")]
    assert questions["grad_clip"] == [(1, "convergence"), (1, "early convergence")]
    assert questions["lr_schedule"] == [(2, "accuracy"), (2, "oscillation")]
    assert questions["optimizers"] == [(6, "accuracy")]
    assert questions["augmentation"] == [(2, "accuracy"), (1, "gap")]
