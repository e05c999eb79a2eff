"""The tables of a comparison as words: what is shown, what is blank, and what is said instead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made.comparisons import CONTROL, NOTHING, comparison, reached, row, text

from cifar_lab.report.table_content import (
    COST,
    EVIDENCE,
    FIT,
    HEADINGS,
    NUMBERS,
    TextTable,
    comparison_tables,
    cost_cells,
    cost_table,
    effects_table,
    evidence_cells,
    evidence_table,
    fit_cells,
    fit_table,
    note,
    result_table,
    row_texts,
    span,
)  # fmt: skip
from cifar_lab.results.comparison import ComparisonRow, Effect
from cifar_lab.results.stats.paired import NO_VARIANCE, ONE_PAIR


def shown(of: ComparisonRow) -> dict[str, str]:
    """A row's cells by heading."""
    return dict(zip(HEADINGS, row_texts(of), strict=True))


def shown_evidence(of: ComparisonRow) -> dict[str, str]:
    return dict(zip(EVIDENCE, evidence_cells(of), strict=True))


# The result


def test_accuracies_differences_and_intervals_are_shown_in_points_of_a_percent() -> None:
    there = shown(row())
    assert (there["accuracy %"], there["± std"], there["Δ"]) == ("91.23", "0.12", "-0.46")
    assert there["interval"] == "[-0.88, -0.03]"


def test_a_difference_and_its_bounds_have_a_sign() -> None:
    assert shown(row(difference=0.00456))["Δ"] == "+0.46"
    assert span((-0.001, 0.002)) == "[-0.10, +0.20]"
    assert span(None) == ""


def test_what_rounds_to_zero_has_no_minus_sign() -> None:
    assert shown(row(difference=-0.00004))["Δ"] == "+0.00"
    assert span((-0.001, -0.00004)) == "[-0.10, -0.00]", "zero lies outside"


def test_what_is_not_known_is_blank_and_what_is_missing_is_said() -> None:
    there = shown(NOTHING)
    assert (there["n"], there["accuracy %"], there["± std"], there["Δ"], there["interval"]) == ("0", "", "", "", "")
    assert there["note"] == "5 missing"


def test_a_row_says_how_many_cells_are_not_in_its_mean() -> None:
    said = note(row(missing=1, running=2, failed=3, diverged=4))
    assert all(word in said for word in ("1 missing", "2 running", "3 failed", "4 diverged"))
    assert note(row()) == ""
    assert note(row(pairs=3)) == "Δ over 3 seeds"
    assert note(row(pairs=1)) == "Δ over 1 seed"


def test_a_finished_cell_without_the_metric_is_said_and_counted_nowhere_else() -> None:
    assert note(row(n=4, pairs=4, epochs_to=FAST)) == "1 finished without test/acc"
    peak = comparison(CONTROL, row(n=4, pairs=4, epochs_to=FAST), metric="test/peak_acc")
    assert result_table(peak).rows[1][-1] == "1 finished without test/peak_acc"
    assert note(row(epochs_to=FAST)) == ""


def test_a_row_without_an_interval_says_why() -> None:
    assert note(row(interval=None, reason=NO_VARIANCE)) == NO_VARIANCE
    assert note(row(interval=None, pairs=1, n=1, reason=ONE_PAIR)) == "", "the footer says it once"


def test_a_row_that_mixes_executions_is_marked_and_the_mark_explained() -> None:
    mixed = row(mixed_execution=True)
    assert shown(mixed)["variant"] == "r4 *"
    assert shown(row())["variant"] == "r4"
    assert "* " in text(comparison(CONTROL, mixed))
    assert "executions" not in text(comparison())


def test_a_verdict_is_shown_once_there_is_one() -> None:
    assert shown(row())["verdict"] == ""
    assert shown(row(verdict="worse"))["verdict"] == "worse"


def test_every_row_has_a_cell_for_every_heading() -> None:
    rows = (row(**FITTED), CONTROL, NOTHING)
    assert {len(row_texts(each)) for each in rows} == {len(HEADINGS)}
    assert {len(evidence_cells(each)) for each in rows} == {len(EVIDENCE)}
    assert {len(cost_cells(each, scaled=scaled)) for each in rows for scaled in (True, False)} == {len(COST)}
    assert {len(fit_cells(each, x)) for each in rows for x in ("0.7", None)} == {len(FIT)}
    assert set(NUMBERS) <= set(HEADINGS)


def test_columns_and_tables_that_say_nothing_are_left_out() -> None:
    found = comparison_tables(comparison(replace(NOTHING, images_seen=None)))
    assert [sheet.headings for sheet in found] == [("variant", "n", "note"), ("variant", "parameters", "MACs")]


def test_what_one_view_reaches_stands_beside_what_several_do_and_only_then() -> None:
    found = cost_table(comparison(CONTROL, row(one_view=0.9)))
    assert found.headings[:3] == ("variant", "accuracy %", "one view %")
    assert [row_texts[2] for row_texts in found.rows] == ["", "90.00"]
    assert found.caption.endswith("one view: without test-time augmentation")
    plain = cost_table(comparison())
    assert "one view %" not in plain.headings
    assert "one view" not in plain.caption


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_table_folds_into_parts_that_fit_and_nothing_is_lost(width: int) -> None:
    whole = evidence_table(comparison(CONTROL, row(), row("r8")))
    parts = whole.folded(width)
    assert all(part.headings[0] == "variant" and len(part.headings) > 1 for part in parts)
    assert [name for part in parts for name in part.headings[1:]] == list(whole.headings[1:])
    for i, own in enumerate(whole.rows):
        assert [cell for part in parts for cell in part.rows[i][1:]] == list(own[1:])
    for part in parts:
        wide = sum(max(map(len, column)) for column in zip(part.headings, *part.rows, strict=True))
        assert wide + 2 * (len(part.headings) - 1) <= width or len(part.headings) == 2


# Cost


def test_accuracy_stands_beside_its_cost() -> None:
    headings = cost_table(comparison()).headings
    assert headings == ("variant", "accuracy %", "parameters", "MACs", "time", "images seen")
    assert cost_table(comparison()).rows[1] == ("r4", "91.23", "4,699,290", "799 M", "3,661 s", "9,000,000")


def test_parameters_as_trained_are_shown_where_the_scale_made_smaller_networks() -> None:
    found = cost_table(comparison(CONTROL, row(parameters_trained=295_000)))
    assert found.rows[1][2:4] == ("4,699,290", "295,000")
    assert "smaller network" in found.caption
    assert "smaller network" not in cost_table(comparison()).caption


# Evidence


def test_evidence_stands_behind_each_difference() -> None:
    there = shown_evidence(row())
    assert (there["pairs"], there["Δ ± std"], there["effect"], there["r"]) == ("5", "0.34", "-1.1", "+0.31")
    assert (there["p"], there["p Holm"]) == ("0.0625", "0.1250")
    assert there["Welch"] == "[-1.00, +0.10]"
    assert there["width"] == f"{(0.0088 - 0.0003) / 0.011:.2f}"


def test_seeds_that_are_needed_are_shown_and_more_than_can_be_is_said() -> None:
    there = shown_evidence(row())
    assert there["seeds"] == "93 / 25 / >10k"
    assert shown_evidence(row(seeds_needed={}))["seeds"] == ""


def test_a_sampled_p_value_is_marked_and_a_tiny_one_is_no_zero() -> None:
    assert shown_evidence(row(p_value=0.01234, p_exact=False))["p"] == "≈ 0.0123"
    assert shown_evidence(row(p_value=0.00001))["p"] == "< 0.0001"


def test_only_rows_with_an_interval_have_evidence() -> None:
    found = evidence_table(comparison(CONTROL, row(), row("r8", interval=None, reason=ONE_PAIR)))
    assert [row_texts[0] for row_texts in found.rows] == ["r4"]
    assert evidence_table(comparison(CONTROL, NOTHING)).rows == ()


# Two factors


def test_a_crossing_has_its_effects_and_others_have_none() -> None:
    effect = Effect(
        name="a × b", pairs=5, difference=0.004, interval=(0.001, 0.007), level=0.983, verdict="present", reason=None
    )
    assert effects_table(comparison(effects=(effect,))).rows == (("a × b", "5", "+0.40", "[+0.10, +0.70]", "present"),)
    assert effects_table(comparison()).rows == ()


# Speed and fit


FAST = {"0.5": reached(2.0, 5), "0.7": reached(4.5, 5)}
SLOW = {"0.5": reached(3.0, 5), "0.7": reached(9.0, 2)}
NOWHERE = {"0.5": reached(None, 0), "0.7": reached(None, 0)}
FITTED = {
    "gap": 0.031, "gap_difference": -0.002, "auc": 0.8, "auc_difference": 0.01, "rises": (0.02, 0.04), "epochs": 10,
    "epochs_to": SLOW, "epochs_to_difference": {"0.5": reached(1.0, 5), "0.7": reached(4.5, 2)},
}  # fmt: skip
FITTED_CONTROL = replace(CONTROL, epochs_to=FAST, gap=0.033, auc=0.79, rises=(0.01, 0.02), epochs=10)


def fit_of(*rows: ComparisonRow) -> TextTable:
    return fit_table(comparison(*rows))


def test_speed_and_fit_have_a_table_of_their_own() -> None:
    found = fit_of(FITTED_CONTROL, row(**FITTED))
    assert found.headings == ("variant", "epochs to 70 %", "Δ epochs", "AUC %", "Δ AUC", "gap", "Δ gap", "rise")
    assert found.rows == (
        ("r16", "4.5", "", "79.00", "", "+3.30", "", "+1.50"),
        ("r4", "9.0 (2 of 5)", "+4.5 (2 of 5)", "80.00", "+1.00", "+3.10", "-0.20", "+3.00"),
    )
    assert found.numbers == found.headings[1:]


@pytest.mark.parametrize(
    ("protocol", "words"), [("holdout", "less val ·"), ("writeup", "less test ·"), ("mixed", "less val (test, under")]
)
def test_the_table_of_fit_says_which_images_were_watched(protocol: str, words: str) -> None:
    assert words in fit_table(comparison(FITTED_CONTROL, protocol=protocol)).caption


def test_the_table_of_fit_says_how_its_threshold_was_chosen() -> None:
    assert "the highest threshold that every cell of the control reached" in fit_of(FITTED_CONTROL).caption
    never = replace(FITTED_CONTROL, epochs_to=NOWHERE)
    assert "the highest threshold that any cell reached" in fit_of(never, row(**FITTED)).caption
    assert "threshold" not in fit_of(never).caption


def test_the_speed_of_a_stage_that_begins_warm_is_compared_with_nothing() -> None:
    warm = row("s2", against="r16", continues=True, **FITTED)
    cold = row("s3", against="s2", **FITTED)
    again = row("s4", against="s3", **FITTED)
    table = fit_of(FITTED_CONTROL, warm, cold, again)
    found = {row_texts[0]: dict(zip(FIT, row_texts, strict=True)) for row_texts in table.rows}
    compared = ("epochs to", "Δ epochs", "Δ AUC")
    assert [found["s2"][name] for name in compared] == ["", "", ""]
    assert [found["s3"][name] for name in compared] == ["9.0 (2 of 5)", "", ""]
    assert all(found["s4"][name] for name in compared)
    assert all(found[stage]["AUC %"] and found[stage]["Δ gap"] for stage in ("s2", "s3", "s4"))


def test_images_seen_by_a_stage_that_goes_on_are_its_own() -> None:
    assert "of this stage alone" in cost_table(comparison(CONTROL, row("s2", continues=True))).caption
    assert "of this stage alone" not in cost_table(comparison()).caption


def test_columns_of_which_nothing_is_known_are_not_in_the_table_of_fit() -> None:
    found = fit_of(replace(CONTROL, gap=0.01), NOTHING)
    assert found.headings == ("variant", "gap")
    assert found.rows == (("r16", "+1.00"), ("r2", ""))


def test_where_nothing_is_finished_there_is_no_table_of_fit() -> None:
    assert fit_of(NOTHING).rows == ()


def test_the_threshold_is_the_highest_that_every_cell_of_the_control_reached_else_any_cell() -> None:
    assert comparison(replace(CONTROL, epochs_to=FAST), row(epochs_to=SLOW)).threshold == "0.7"
    assert comparison(replace(CONTROL, epochs_to=SLOW), row(epochs_to=FAST)).threshold == "0.5"
    assert comparison(replace(CONTROL, epochs_to=NOWHERE), row(epochs_to=SLOW)).threshold == "0.7"
    assert comparison(replace(CONTROL, epochs_to={"0.5": reached(None, 0, 0)}), row(epochs_to=SLOW)).threshold == "0.7"
    assert comparison(replace(CONTROL, epochs_to=NOWHERE), row(epochs_to=NOWHERE)).threshold is None
    assert comparison(row(epochs_to=SLOW)).threshold == "0.7", "without a control, any cell"


def test_a_threshold_that_nobody_reached_has_no_column() -> None:
    found = fit_of(replace(FITTED_CONTROL, epochs_to=NOWHERE), row(epochs_to=NOWHERE))
    assert not any("epochs" in heading for heading in found.headings)


def test_cells_that_never_got_there_are_said() -> None:
    found = fit_of(FITTED_CONTROL, row(epochs_to=NOWHERE), replace(NOTHING, epochs_to={}))
    assert found.headings[1] == "epochs to 70 %"
    assert [each[1] for each in found.rows] == ["4.5", "never", ""]
    assert fit_cells(row(epochs_to={"0.5": reached(None, 0, 0)}), "0.5")[1] == ""
