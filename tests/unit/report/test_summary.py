"""A comparison in one sentence: what it says, and the numbers that it says it with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made.comparisons import CONTROL, NOTHING, UNCOMPARED, comparison, reached, row

from cifar_lab.report.summary import (
    claim_counts,
    comparison_headline,
    comparison_sentence,
    comparison_setting,
    count_unfinished,
    counted_status,
    describe_noise,
    pooled_deviation,
    verdict_names,
)
from cifar_lab.results.comparison import ComparisonRow, Effect, StoppingSummary
from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.stats.power import seeds_needed


def open_row(variant: str = "r4", *, pairs: int = 2, std: float = 0.02, **changed: Any) -> ComparisonRow:
    return row(variant, verdict="undecided", pairs=pairs, n=pairs, difference_std=std, **changed)


def better(variant: str = "r4", difference: float = 0.012, **changed: Any) -> ComparisonRow:
    interval = (difference - 0.009, difference + 0.009)
    return row(variant, verdict="better", difference=difference, interval=interval, **changed)


def test_where_nothing_is_decided_it_says_how_many_seeds_would_show_the_margin() -> None:
    of = comparison(CONTROL, *(open_row(name) for name in ("none", "r8", "r4", "r2")), margin=0.02, comparisons=4)
    needed = seeds_needed(0.02, 0.02, per_comparison(0.95, 4))
    assert (
        comparison_sentence(of) == f"With 2 seeds nothing can be told apart here; about {needed} would show 2 points."
    )


@pytest.mark.parametrize(("dropped", "level"), [(False, 0.98), (True, 0.95)])
def test_under_a_rule_the_seeds_are_those_that_its_last_look_takes(dropped: bool, level: float) -> None:
    rule = StoppingSummary(looks=(5, 12), seen=1, levels=(0.97, 0.98), spending="pocock", dropped=dropped)
    of = comparison(CONTROL, open_row(pairs=5), margin=0.01, comparisons=1, stopping=rule)
    assert f"about {seeds_needed(0.01, 0.02, level)} would show" in comparison_sentence(of)


def test_a_difference_is_named_with_its_size_and_interval() -> None:
    of = comparison(CONTROL, better(), open_row("none", pairs=5), margin=0.002, comparisons=2)
    assert comparison_sentence(of).startswith(
        "r4 is better than r16 by 1.20 points (interval +0.30 to +2.10); none cannot be told apart from r16 with 5 "
        "seeds; about "
    )
    assert comparison_sentence(of).endswith(" would show 0.2 points.")


def test_the_largest_differences_come_first_and_the_others_by_name() -> None:
    rows = [better(f"v{i}", difference=0.01 * i) for i in range(1, 6)]
    said = comparison_sentence(comparison(CONTROL, *rows))
    assert said.startswith("v5 is better than r16 by 5.00 points")
    assert said.endswith("; v3 is better by 3.00 (+2.10 to +3.90); v2 and v1 are better too.")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), ""),
        ((open_row(pairs=1, std=0.0),), "With 1 seed nothing can be told apart here; 2 or more are needed."),
        ((open_row(),), "With 2 seeds nothing can be told apart here; 3 or more would tell how many are needed."),
        ((open_row(pairs=3, std=0.0),),
         "With 3 seeds nothing can be told apart here; no difference varies with the seed."),
        ((open_row(pairs=5, std=1e-9),),
         "With 5 seeds nothing can be told apart here; a difference of 0.2 points would probably have shown."),
        ((open_row(pairs=5, std=9.0),),
         "With 5 seeds nothing can be told apart here; more than 10,000 would be needed to show 0.2 points."),
        ((NOTHING,), "Nothing can be compared yet: no seed is finished in both."),
        ((better(diverged=2), NOTHING),
         "r4 is better than r16 by 1.20 points (interval +0.30 to +2.10) where it trains (2 diverged); "
         "r2 cannot be compared yet."),
        ((row("r8", verdict="equivalent"), row("r2", verdict="equivalent")),
         "r8 and r2 are equivalent to r16 within 0.2 points."),
        ((row("r8", verdict="diverged", n=0, diverged=5, **UNCOMPARED),), "r8 diverged in every seed."),
    ],
)  # fmt: skip
def test_every_end_has_its_words(rows: tuple[ComparisonRow, ...], said: str) -> None:
    assert comparison_sentence(comparison(CONTROL, *rows)) == said


def test_stages_of_a_chain_are_compared_with_the_stage_before() -> None:
    of = comparison(CONTROL, better("s2", against="s1"), open_row("s3", pairs=5, against="s2"), chain=True)
    assert comparison_sentence(of).startswith("s2 is better than s1 by 1.20 points")
    assert "s3 cannot be told apart from s2 with 5 seeds" in comparison_sentence(of)


def test_the_deviation_is_pooled_by_degrees_of_freedom() -> None:
    of = comparison(CONTROL, open_row(pairs=2, std=0.01), open_row("r8", pairs=4, std=0.03))
    assert pooled_deviation(of) == pytest.approx(((0.01**2 + 3 * 0.03**2) / 4) ** 0.5)
    assert pooled_deviation(replace(of, rows=(CONTROL, open_row()))) is None, "one degree of freedom"


def test_a_selection_of_variants_keeps_what_they_are_compared_with() -> None:
    of = comparison(CONTROL, open_row("r8"), open_row("r4"), comparisons=2)
    assert [each.variant for each in of.only(["r4"]).rows] == ["r16", "r4"]
    assert of.only(["r4"]).rows[1] == of.rows[2]
    assert of.only(["r4"]).comparisons == 2, "the intervals hold for all rows together"


INTERACTION = Effect(
    name="model.se.reduction × optim.lookahead.enabled", pairs=5, difference=0.0112, interval=(0.004, 0.0184),
    level=0.98, verdict="present", reason=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "present, +1.12 [+0.40, +1.84] points"),
        ({"verdict": "absent", "difference": 0.0, "interval": (-0.001, 0.001)},
         "absent (within ± 0.20), +0.00 [-0.10, +0.10] points"),
        ({"verdict": "undecided", "interval": (-0.01, 0.03)}, "undecided, +1.12 [-1.00, +3.00] points"),
        ({"verdict": None, "interval": None, "reason": "one seed: no deviation, no interval"},
         "undecided (one seed: no deviation, no interval), +1.12 points"),
        ({"verdict": None, "interval": None, "difference": None, "reason": "no seed is finished in both"},
         "undecided (no seed is finished in both)"),
    ],
)  # fmt: skip
def test_of_two_factors_the_sentence_leads_with_their_interaction(changed: dict[str, Any], words: str) -> None:
    main = replace(INTERACTION, name="model.se.reduction")
    of = comparison(CONTROL, better(), effects=(main, replace(INTERACTION, **changed)))
    lead = f"Interaction of model.se.reduction and optim.lookahead.enabled: {words}. r4 is better than r16 by"
    assert comparison_sentence(of).startswith(lead)
    assert verdict_names(of) == [(f"interaction {words.partition(' ')[0].strip(',')}", ""), ("better", "r4")]


def test_the_headline_is_the_sentence_and_the_setting() -> None:
    of = comparison(CONTROL, better())
    assert comparison_headline(of) == f"{comparison_sentence(of)} 5 seeds, scale writeup, CIFAR-10."
    assert comparison_setting(comparison(overrides={"train.epochs": 3})).endswith("CIFAR-10, train.epochs=3")


def test_the_headline_of_a_single_variant_is_its_accuracy() -> None:
    assert comparison_headline(comparison(CONTROL)).startswith("r16: 91.69 % ± 0.12. 5 seeds,")
    nothing = comparison(replace(CONTROL, n=0, mean=None))
    assert comparison_headline(nothing).startswith("No cell is finished. 0 seeds")


def test_a_verdict_over_some_seeds_names_the_diverged_cells() -> None:
    of = comparison(CONTROL, better("k3313", n=3, pairs=3, diverged=2), open_row("r8"))
    assert verdict_names(of) == [("better where it trains", "k3313 (2 of 5 diverged)"), ("undecided", "r8")]


def test_unfinished_cells_are_counted_by_state() -> None:
    assert count_unfinished(comparison(CONTROL, row(missing=2, failed=1))) == "Of 13 cells, 2 missing, 1 failed."
    lacks = row(n=4, epochs_to={"0.5": reached(2.0, 5)})
    assert count_unfinished(comparison(CONTROL, lacks)) == "Of 10 cells, 1 finished without test/acc."
    assert count_unfinished(comparison()) == ""


def test_claims_are_counted_the_most_informative_status_first() -> None:
    assert claim_counts(["not measured", "supported", "not measured"]) == "3 claims: 1 supported, 2 not measured"
    assert claim_counts(["direction agrees"] * 3) == "3 claims: 3 directions agree"
    assert counted_status(1, "direction disagrees") == "1 direction disagrees"
    assert counted_status(2, "not measured") == "2 not measured"
    assert claim_counts([]) == ""


def test_the_noise_floor_is_that_of_the_control() -> None:
    words = describe_noise(comparison(replace(CONTROL, values={0: 0.9159, 1: 0.9179}, n=2), row()))
    assert "± 0.12 points (deviation over 2 seeds; from 91.59 to 91.79 %)" in words
    assert "not known" in describe_noise(comparison(replace(CONTROL, std=None)))
