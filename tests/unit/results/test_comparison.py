"""Header and footer of a comparison."""

from __future__ import annotations

from typing import Any

import pytest
from made.comparisons import CONTROL, NOTHING, UNCOMPARED, comparison, reached, row, text

from cifar_lab.report import table_notes
from cifar_lab.results.comparison import ComparisonRow, StoppingSummary
from cifar_lab.results.stats.decision import RULE

# Curves that had not come to rest


def rising(*lengths: int | None) -> str:
    of = (row(f"r{i}", rises=(0.031,), epochs=length) for i, length in enumerate(lengths))
    return next((line for line in table_notes.footer(comparison(CONTROL, *of)) if line.startswith("still rising")), "")


def test_curves_that_still_rise_are_said_with_the_length_of_the_training() -> None:
    assert rising(10) == "still rising: r0 +3.1 points in the last epoch of 10: a longer training may change the order"
    assert "r0 +3.1, r1 +3.1 points in the last tenth of 200 epochs:" in rising(200, 200)


def test_where_every_row_rises_the_range_is_said() -> None:
    rows = [row(f"r{i}", rises=(0.01 * i,), epochs=10) for i in range(1, 5)]
    said = next(line for line in table_notes.footer(comparison(*rows)) if line.startswith("still rising"))
    assert said.startswith("still rising: every row, +1.0 to +4.0 points in the last epoch of 10:")


def test_of_trainings_of_several_lengths_the_range_is_said() -> None:
    assert "points in the last epoch of 2 to 10 epochs:" in rising(10, 2)
    assert "points in the last tenth of 2 to 200 epochs:" in rising(200, 2)
    assert "points in the last tenth of the epochs:" in rising(None)


def test_curves_that_are_flat_or_as_likely_fall_are_not_said() -> None:
    for rises in ((), (0.0002,), (-0.02,), (-0.04, 0.03, 0.07)):
        assert "still rising" not in text(comparison(CONTROL, row(rises=rises, epochs=10)))
    assert "still rising: r4 +3.0" in text(comparison(CONTROL, row(rises=(0.02, 0.03, 0.04), epochs=10)))


# Header and footer


def test_the_header_names_study_scale_data_overrides_control_and_invocation() -> None:
    head = "\n".join(table_notes.header(comparison(scale="small", overrides={"train.epochs": 30, "optim.lr": 0.05})))
    for word in ("se_ratio", "small", "CIFAR-10", "train.epochs=30", "optim.lr=0.05", "r16", "20261122T210000.000"):
        assert word in head


def test_where_nothing_is_compared_the_header_names_nothing_to_be_compared_with() -> None:
    assert "Δ against r16, paired by seed" in text(comparison())
    assert "Δ" not in text(comparison(CONTROL, comparisons=0))
    assert "Δ" not in text(comparison(CONTROL, NOTHING))


def test_a_training_that_still_rises_alone_has_no_order_to_change() -> None:
    rising = {"rises": (0.02, 0.03, 0.025), "epochs": 10}
    assert "may change the order" in text(comparison(CONTROL, row(**rising)))
    said = text(comparison(row("control", against=None, **(UNCOMPARED | rising)), control="control", comparisons=0))
    assert "still rising: control +2.5 points in the last epoch of 10" in said
    assert "order" not in said


def test_the_header_tells_the_last_weights_from_a_peak_that_was_selected_on_test() -> None:
    assert "selected on test" in text(comparison(metric="test/peak_acc", protocol="writeup"))
    assert "selected on test" not in text(comparison())


def test_the_header_says_when_several_invocations_are_read_together() -> None:
    assert "3" in table_notes.header(comparison(invocations=3))[-1]
    assert "latest of" not in text(comparison())


def test_the_footer_states_the_rule_the_margin_and_what_the_intervals_hold_for() -> None:
    said = text(comparison(margin=0.005, comparisons=4))
    for words in (RULE, "margin: 0.5 points", "95 % together (4 differences, Šidák)", "this test set and this split"):
        assert words in said
    assert "together" not in text(comparison())


def test_a_table_of_nothing_compared_states_no_rule() -> None:
    assert RULE not in text(comparison(CONTROL, comparisons=0))


def of_pairs(pairs: int, name: str = "r4") -> ComparisonRow:
    return row(name, pairs=pairs, differences=dict.fromkeys(range(pairs), 0.01))


@pytest.mark.parametrize(("pairs", "smallest"), [(2, "0.5"), (3, "0.25"), (5, "0.0625"), (10, "0.00195")])
def test_the_footer_says_which_p_values_so_few_pairs_can_have(pairs: int, smallest: str) -> None:
    assert f"{pairs} pairs: no sign-flip p is below {smallest}" in text(comparison(CONTROL, of_pairs(pairs)))


def test_the_smallest_p_is_that_of_most_pairs_and_corrected_for_all_differences() -> None:
    said = text(comparison(CONTROL, of_pairs(2), of_pairs(7, "r8"), of_pairs(7, "r2"), comparisons=3))
    assert "2 to 7 pairs: no sign-flip p is below 0.0156, 0.0469 where it is the smallest of 3" in said


def test_one_seed_decides_nothing_and_the_footer_says_so() -> None:
    one = row(**{**UNCOMPARED, "pairs": 1, "differences": {0: 0.01}})
    assert "one seed shows no deviation" in text(comparison(CONTROL, one))


def test_where_others_have_more_seeds_the_footer_names_those_that_have_one() -> None:
    one = row("r8", **{**UNCOMPARED, "pairs": 1, "differences": {0: 0.01}})
    assert "r8: one seed shows no deviation" in text(comparison(CONTROL, of_pairs(5), one))


def stopped(**changed: Any) -> StoppingSummary:
    fields: dict[str, Any] = {"looks": (5, 8, 12), "seen": 2, "levels": (0.97, 0.98, 0.98), "spending": "pocock"}
    return StoppingSummary(**(fields | changed))


def test_seeds_that_were_added_until_all_was_decided_are_said() -> None:
    said = text(comparison(stopping=stopped()))
    assert "added by a rule, until all is decided: looks after 5, 8, 12 seeds, 2 taken" in said
    assert "as if there had been one look" in said
    assert "by a rule" not in text(comparison())


def test_a_rule_that_ended_with_something_undecided_says_so() -> None:
    open_row = row(verdict="undecided")
    assert "and not all is decided" in text(comparison(CONTROL, open_row, stopping=stopped(seen=3)))
    assert "until all is decided" in text(comparison(CONTROL, row(verdict="worse"), stopping=stopped(seen=3)))


def test_seeds_that_were_seen_before_a_rule_was_begun_are_said() -> None:
    assert "5 seeds were compared before the rule was begun" in text(comparison(stopping=stopped(before=5)))
    assert "before the rule" not in text(comparison(stopping=stopped()))


def test_a_margin_that_was_changed_is_said() -> None:
    said = text(comparison(margin=0.04, margin_before=(0.01, "20260101T000000.000-se_ratio")))
    assert "margin: 4 points" in said
    assert "the margin was 1 point before invocation 20260101T000000.000-se_ratio" in said


def test_the_footer_says_that_the_speed_of_a_stage_that_goes_on_is_not_compared() -> None:
    of = row(continues=True, epochs_to={"0.5": reached(2.0, 5)})
    assert "begins warm" in text(comparison(CONTROL, of))
    assert "begins warm" not in text(comparison())


def test_the_footer_lists_other_settings() -> None:
    assert "--scale small --data cifar10" in text(comparison(others=("--scale small --data cifar10",)))


def test_a_rule_that_was_dropped_is_said_in_place_of_its_looks() -> None:
    dropped = StoppingSummary(looks=(5, 8, 12), seen=2, levels=(0.97, 0.98, 0.98), spending="pocock", dropped=True)
    said = text(comparison(stopping=dropped))
    assert "a stopping rule was dropped after results were seen: intervals are not protected against looking" in said
    assert "added by a rule" not in said
