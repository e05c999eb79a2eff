"""The plots of a comparison: every seed and every variant is there, at its value, with its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from made.comparisons import CONTROL, NOTHING, comparison, row
from made.studies import DIFFERENCES, LOST, ONE_SEED, WORSE

from cifar_lab.report.charts import comparison as charts
from cifar_lab.report.charts.figure import PageFigure
from cifar_lab.report.table_content import points
from cifar_lab.results.comparison import Comparison, Effect

WIDE = replace(
    WORSE, n=2, pairs=2, difference=0.1434, differences={0: 0.12, 1: 0.1668}, interval=(-3.4272, 3.714),
)  # fmt: skip


def plotted(of: Comparison) -> PageFigure:
    return charts.plot_forest("Differences", "", charts.difference_rows(of), "difference", of.margin)


def titles(figure: PageFigure) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(figure.drawing).iter("title")]


def texts(figure: PageFigure) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(figure.drawing).iter("text")]


def words(figure: PageFigure) -> str:
    return ElementTree.fromstring(figure.drawing).get("aria-label") or ""


def lines(of: Comparison) -> list[tuple[str, list[float]]]:
    """Return (marker, x values) of each line of the forest plot of differences."""
    figure = charts.draw_forest(charts.difference_rows(of), axis="", margin=of.margin)
    return [(str(line.get_marker()), [float(x) for x in line.get_xdata()]) for line in figure.axes[0].lines]


def test_every_seed_mean_and_interval_is_drawn_at_its_value() -> None:
    drawn = lines(comparison(CONTROL, WORSE))
    assert ("o", pytest.approx([100 * value for value in DIFFERENCES.values()])) in drawn
    assert ("v", pytest.approx([100 * (WORSE.difference or 0.0)])) in drawn
    assert WORSE.interval is not None
    assert ("None", pytest.approx([100 * end for end in WORSE.interval])) in drawn
    assert ("None", [0.0, 0.0]) in drawn, "the line of the control"


def test_tooltips_name_seed_and_number_and_the_margin() -> None:
    figure = plotted(comparison(CONTROL, WORSE))
    seeds = [f"r4, seed {seed}: {points(value, sign=True)}" for seed, value in DIFFERENCES.items()]
    assert [title for title in titles(figure) if "seed" in title] == seeds
    assert "± 0.20 points: a difference that does not matter" in titles(figure)


def test_the_numbers_and_the_verdict_are_text_and_in_the_text_alternative() -> None:
    figure = plotted(comparison(CONTROL, WORSE, LOST))
    assert {"-0.46 [-0.88, -0.03]", "worse", "r4", "diverged in 3 of 3"} <= set(texts(figure))
    assert words(figure) == "difference: r4 -0.46 [-0.88, -0.03] worse; off diverged in 3 of 3 diverged"


def test_verdicts_are_told_apart_by_marker_too() -> None:
    rows = [replace(WORSE, variant=each, verdict=each) for each in ("better", "worse", "equivalent", "undecided")]
    markers = {marker for marker, xs in lines(comparison(CONTROL, *rows)) if len(xs) == 1} - {"|", "<", ">"}
    assert len(markers) == 4


def test_one_seed_is_a_dot_without_mean_and_interval() -> None:
    assert [marker for marker, _ in lines(comparison(CONTROL, ONE_SEED))] == ["None", "o"], "zero line, and the seed"


def test_a_variant_without_numbers_says_why() -> None:
    figure = plotted(comparison(CONTROL, LOST, replace(NOTHING, against="r16")))
    assert "off: diverged in 3 of 3" in titles(figure)
    assert any("5 missing" in text for text in texts(figure))


def test_an_interval_that_no_accuracies_could_have_leaves_the_axis_to_the_seeds() -> None:
    of = comparison(CONTROL, WIDE)
    low, high = charts.forest_axis(charts.difference_rows(of), of.margin)
    assert -0.02 < low < high < 0.2
    ends = {marker: xs for marker, xs in lines(of) if marker in "<>"}
    assert ends == {"<": [pytest.approx(100 * low)], ">": [pytest.approx(100 * high)]}
    assert "+14.34 [-342.72, +371.40]" in texts(plotted(of)), "the numbers beside it stay"
    assert charts.ARROWS in plotted(of).caption


def test_an_interval_that_is_not_far_out_is_drawn_whole() -> None:
    of = comparison(CONTROL, WORSE)
    assert not [marker for marker, _ in lines(of) if marker in "<>"]
    assert charts.ARROWS not in plotted(of).caption


def test_an_effect_has_no_seeds_and_its_axis_ends_where_accuracies_do() -> None:
    def captioned(interval: tuple[float, float]) -> str:
        effect = Effect(name="a × b", pairs=2, difference=0.01, interval=interval, level=0.98, verdict="undecided",
                        reason=None)  # fmt: skip
        rows = charts.effect_rows(comparison(CONTROL, WORSE, effects=(effect,)))
        assert [each.name for each in rows] == ["interaction: a × b"]
        return charts.plot_forest("", "", rows, "", 0.002).caption

    assert captioned((-0.3, 0.32)) == ""
    assert captioned((-4.0, 4.02)) == charts.ARROWS


def test_accuracies_have_their_own_intervals_without_signs() -> None:
    values = {0: 0.91, 1: 0.92}
    (accuracy,) = charts.accuracy_rows(comparison(replace(CONTROL, values=values, mean=0.915)))
    assert (accuracy.dots, accuracy.numbers(signed=False)) == (values, "91.50 [91.00, 91.40]")


def test_a_long_name_is_clipped_and_whole_in_its_tooltip() -> None:
    name = "a" * 60
    figure = plotted(comparison(CONTROL, replace(WORSE, variant=name)))
    assert name in titles(figure)
    assert name not in texts(figure)


# Cost


def test_accuracy_is_drawn_against_each_cost_in_which_the_variants_differ() -> None:
    small = row(parameters=1_000_000, parameters_trained=1_000_000, macs=100_000_000, seconds=100.0)
    figures = charts.plot_row_costs(comparison(CONTROL, small))
    assert [words(each).partition(",")[0].partition(":")[0] for each in figures] == [
        "accuracy on test against parameters", "accuracy on test against multiply-accumulates an image",
        "accuracy on test against seconds of training a cell",
    ]  # fmt: skip
    assert titles(figures[0]) == ["r16: 91.69 %, 4,699,290 parameters", "r4: 91.23 %, 1,000,000 parameters"]
    assert "r4: 91.23 %, 1,000,000 parameters" in words(figures[0])
    assert charts.similar_costs(comparison(CONTROL, small)) == []


def test_costs_that_hardly_differ_are_named_and_not_drawn() -> None:
    of = comparison(CONTROL, row(parameters_trained=4_699_291))
    assert charts.plot_row_costs(of) == []
    assert charts.similar_costs(of)[0] == "parameters: 4,699,290 to 4,699,291"


def test_a_diverged_variant_is_at_its_cost() -> None:
    (figure,) = charts.plot_row_costs(comparison(CONTROL, replace(LOST, parameters_trained=1_000_000)))
    assert "off: diverged in 3 of 3, 1,000,000 parameters" in titles(figure)


@pytest.mark.parametrize("rows", [(WORSE, CONTROL, LOST), (CONTROL, WORSE, LOST)])
def test_the_control_has_the_first_colour_in_any_order(rows: Any) -> None:
    assert charts.row_indices(comparison(*rows)) == {"r16": 0, "r4": 1, "off": 2}
