"""A comparison in one sentence: what it says, and the numbers that it says it with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made.comparisons import CONTROL, NOTHING, UNCOMPARED, comparison, row

from cifar_lab.report.sentence import pooled_deviation, sentence
from cifar_lab.results.comparison import ComparisonRow
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
    assert sentence(of) == f"With 2 seeds nothing can be told apart here; about {needed} would show 2 points."


def test_a_difference_is_named_with_its_size_and_interval() -> None:
    of = comparison(CONTROL, better(), open_row("none", pairs=5), margin=0.002, comparisons=2)
    assert sentence(of).startswith(
        "r4 is better than r16 by 1.20 points (interval +0.30 to +2.10); none cannot be told apart from r16 with 5 "
        "seeds; about "
    )
    assert sentence(of).endswith(" would show 0.2 points.")


def test_the_largest_differences_come_first_and_the_others_by_name() -> None:
    rows = [better(f"v{i}", difference=0.01 * i) for i in range(1, 6)]
    said = sentence(comparison(CONTROL, *rows))
    assert said.startswith("v5 is better than r16 by 5.00 points")
    assert said.endswith("; v3 is better by 3.00 (+2.10 to +3.90); v2 and v1 are better too.")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), ""),
        ((open_row(pairs=1, std=0.0),), "With 1 seed nothing can be told apart here; 2 or more are needed."),
        ((open_row(),), "With 2 seeds nothing can be told apart here; 3 or more would tell how many are needed."),
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
    assert sentence(comparison(CONTROL, *rows)) == said


def test_stages_of_a_chain_are_compared_with_the_stage_before() -> None:
    of = comparison(CONTROL, better("s2", against="s1"), open_row("s3", pairs=5, against="s2"), chain=True)
    assert sentence(of).startswith("s2 is better than s1 by 1.20 points")
    assert "s3 cannot be told apart from s2 with 5 seeds" in sentence(of)


def test_the_deviation_is_pooled_by_degrees_of_freedom() -> None:
    of = comparison(CONTROL, open_row(pairs=2, std=0.01), open_row("r8", pairs=4, std=0.03))
    assert pooled_deviation(of) == pytest.approx(((0.01**2 + 3 * 0.03**2) / 4) ** 0.5)
    assert pooled_deviation(replace(of, rows=(CONTROL, open_row()))) is None, "one degree of freedom"


def test_a_selection_of_variants_keeps_what_they_are_compared_with() -> None:
    of = comparison(CONTROL, open_row("r8"), open_row("r4"), comparisons=2)
    assert [each.variant for each in of.only(["r4"]).rows] == ["r16", "r4"]
    assert of.only(["r4"]).rows[1] == of.rows[2]
    assert of.only(["r4"]).comparisons == 2, "the intervals hold for all rows together"
