"""The plots of a search: every trial at its value, trials without a value told apart, nothing left undrawn."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from made.studies import RATE, WIDTH, search, trial

from cifar_lab.report.charts import sweep as charts
from cifar_lab.report.charts.figure import PageFigure
from cifar_lab.report.sweep_page import DimensionSummary, SweepPage, TrialSummary

BASELINE = trial(0, 0.90, diff={})
VALUES = (BASELINE, trial(1, 0.85), trial(2, 0.92), trial(3, 0.91), trial(4, 0.92), trial(5, 0.95))
OTHERS = (
    trial(6, state="diverged"),
    trial(7, state="pruned", pruned_at=4, last=0.87),
    trial(8, state="infeasible", parameters=6_000_000),
    trial(9, state="failed", note="RuntimeError: lost"),
    trial(10, state="running"),
)
ALL = search(*VALUES, *OTHERS)
SHARES = {"fanova": {"rate": 0.6, "model.width": 0.3}, "ped_anova": {"rate": 0.15, "model.width": 0.85}}


def parsed(figure: PageFigure | None) -> ElementTree.Element:
    assert figure is not None
    return ElementTree.fromstring(figure.drawing)


def titles(figure: PageFigure | None) -> list[str]:
    return [each.text or "" for each in parsed(figure).iter("title")]


def texts(figure: PageFigure | None) -> list[str]:
    return ["".join(each.itertext()) for each in parsed(figure).iter("text")]


def places(figure: PageFigure | None) -> dict[str, tuple[float, float]]:
    """Return the position of each trial's mark in pixels, y downwards."""
    marks = [each for each in parsed(figure).iter("use") if each.find("title") is not None]
    named = {each.findtext("title", "")[:4]: each for each in marks}
    return {name: (float(each.get("x", "")), float(each.get("y", ""))) for name, each in named.items()}


# History


def test_every_value_is_at_its_place_with_its_number() -> None:
    at = places(charts.plot_history(ALL))
    assert [at[each.name][0] for each in VALUES] == sorted(at[each.name][0] for each in VALUES)
    per_point = (at["t001"][1] - at["t005"][1]) / 10
    expected = [at["t005"][1] + per_point * (95 - 100 * each.accuracy) for each in VALUES]
    assert [at[each.name][1] for each in VALUES] == pytest.approx(expected, abs=0.1)
    assert "t002: 92.00 %, 3,000,000 parameters" in titles(charts.plot_history(ALL))


def test_the_best_so_far_rises_where_a_trial_is_better_than_all_before() -> None:
    assert charts.best_so_far(ALL) == [(0, pytest.approx(90)), (2, pytest.approx(92)), (5, pytest.approx(95))]


def test_trials_without_a_value_are_told_apart_and_below_all_values() -> None:
    figure = charts.plot_history(ALL)
    assert {
        "t006: diverged, 7,000,000 parameters", "t007: pruned after epoch 4 at 87.00 %",
        "t008: infeasible, 6,000,000 parameters", "t009: RuntimeError: lost, 10,000,000 parameters",
    } <= set(titles(figure))  # fmt: skip
    at = places(figure)
    assert "t010" not in at, "a running trial has no mark"
    assert at["t000"][1] < at["t007"][1] < at["t001"][1], "a pruned trial is at its last value"
    assert min(at[name][1] for name in ("t006", "t008", "t009")) > at["t001"][1]


def test_a_value_far_below_is_drawn_at_the_low_end_and_counted() -> None:
    figure = charts.plot_history(search(*VALUES, trial(6, state="pruned", pruned_at=1, last=0.11), trial(7, 0.10)))
    assert figure is not None
    assert figure.caption == "2 far below the others, drawn at the low end."
    assert places(figure)["t006"][1] == places(figure)["t007"][1] > places(figure)["t001"][1]
    assert charts.plot_history(ALL).caption == ""  # type: ignore[union-attr]


def test_the_baseline_is_a_line_to_compare_with() -> None:
    assert "baseline: 90.00 %" in titles(charts.plot_history(ALL))
    assert not [each for each in titles(charts.plot_history(search(trial(1, 0.9)))) if "baseline" in each]


def test_a_search_without_measurements_has_no_figures() -> None:
    assert charts.plot_history(search()) is None
    assert charts.plot_history(search(*OTHERS[2:])) is None
    assert charts.plot_trial_costs(search(*OTHERS)) == charts.plot_slices(search(*OTHERS)) == []
    assert list(places(charts.plot_history(search(*OTHERS[:2])))) == ["t007", "t006"], "all were pruned or diverged"


def test_the_legend_names_the_marks_that_occur() -> None:
    assert [each.words.partition(":")[0] for each in charts.history_legend(ALL)] == [
        "trial with a value", "pruned, at its last reported value", "diverged", "infeasible", "failed", "best so far",
    ]  # fmt: skip
    assert [each.words for each in charts.history_legend(search(BASELINE))] == ["trial with a value", "best so far"]
    assert [len(charts.cost_legend(page)) for page in (ALL, search(*VALUES))] == [3, 2]


# Cost


def cost(page: SweepPage) -> PageFigure:
    (figure,) = charts.plot_trial_costs(page)
    return figure


def test_the_text_alternative_has_the_front() -> None:
    costs = (1, 4, 2, 3, 3, 4)
    page = search(*(replace(each, parameters=n * 10**6) for each, n in zip(VALUES, costs, strict=True)))
    assert parsed(cost(page)).get("aria-label") == (
        "accuracy on val against parameters as declared; front: t000 90.00 % with 1,000,000; "
        "t002 92.00 % with 2,000,000; t005 95.00 % with 4,000,000"
    )


def test_the_budget_is_a_line_and_all_beyond_it_is_shaded() -> None:
    assert {"budget 5 M", "over the budget of 5,000,000"} <= set(titles(cost(ALL)))
    assert "budget 5 M" in texts(cost(ALL))


def test_infeasible_trials_stand_at_their_cost_below_the_values() -> None:
    at = places(cost(ALL))
    assert at["t008"][0] == pytest.approx(at["t005"][0])
    assert at["t008"][1] > at["t001"][1]


def test_a_trial_far_over_the_budget_is_at_the_end_of_the_axis_and_counted() -> None:
    figure = cost(search(BASELINE, trial(1, state="infeasible", parameters=90_000_000)))
    assert re.fullmatch(r"1 infeasible beyond [\d.]+ million, drawn at the end of the axis\.", figure.caption)
    assert places(figure)["t001"][0] > places(figure)["t000"][0]


def test_macs_have_a_plot_where_they_are_limited_or_an_objective() -> None:
    trials = [replace(each, macs=10**8) for each in VALUES]
    for changed in ({"max_macs": 2 * 10**8}, {"objectives": ("accuracy", "macs")}):
        _, second = charts.plot_trial_costs(search(*trials, **changed))
        assert "multiply-accumulates an image, millions" in texts(second)
        assert ("budget 200 M" in texts(second)) == ("max_macs" in changed)
    assert len(charts.plot_trial_costs(search(*trials))) == 1


def test_a_wide_range_of_costs_is_on_a_logarithmic_axis() -> None:
    at = places(cost(search(*(trial(i, 0.9 + i / 100, parameters=10 ** (4 + i)) for i in range(3)))))
    assert at["t001"][0] - at["t000"][0] == pytest.approx(at["t002"][0] - at["t001"][0], abs=0.1)


# Slices


def test_every_dimension_has_a_panel_in_order_of_importance_with_every_trial_that_sampled_it() -> None:
    partial = trial(6, 0.8, params={"model.width": 96, "optim.name": "sgd"})
    figures = charts.plot_slices(search(*VALUES, partial, importances=SHARES))
    assert [each.title for each in figures] == ["rate", "model.width", "optim.name"]
    assert [len(places(each)) for each in figures] == [6, 7, 7]
    assert figures[0].caption == "Not asked for in 1 of 7 trials."
    assert "t006: 80.00 %, 7,000,000 parameters; model.width 96" in titles(figures[1])


def test_a_trial_stands_at_its_value_of_the_dimension() -> None:
    rates = [trial(i, 0.9, params={"rate": rate}) for i, rate in enumerate((0.01, 0.1, 1.0))]
    at = places(charts.plot_slices(search(*rates, dimensions=(RATE,)))[0])
    assert at["t001"][0] - at["t000"][0] == pytest.approx(at["t002"][0] - at["t001"][0], abs=0.1), "log axis"
    widths = [trial(i, 0.9, params={"model.width": width}) for i, width in enumerate((16, 56, 96))]
    at = places(charts.plot_slices(search(*widths, dimensions=(WIDTH,)))[0])
    assert at["t001"][0] - at["t000"][0] == pytest.approx(at["t002"][0] - at["t001"][0], abs=0.1)


def test_choices_are_labels_and_the_legend_counts_the_best_tenth() -> None:
    page = search(*(trial(i, 0.5 + i / 100) for i in range(20)))
    (*_, name) = charts.plot_slices(page)
    assert {"sgd", "adam"} <= set(texts(name))
    assert [each.words for each in charts.slice_legend(page)][1] == "the best tenth, 2 trials"
    assert len(charts.slice_legend(ALL)) == 2


# Importances


def test_both_evaluators_have_bars_with_numbers() -> None:
    figure = charts.plot_importances(search(*VALUES, importances=SHARES))
    assert {title for title in titles(figure) if "rate" in title} == {"rate, fanova: 0.600", "rate, ped_anova: 0.150"}
    assert {"fANOVA", "PED-ANOVA", "0.600", "0.150"} <= set(texts(figure))
    assert "fanova rate 0.600" in (parsed(figure).get("aria-label") or "")


def test_a_dimension_that_an_evaluator_does_not_know_has_a_dash_and_a_reason() -> None:
    page = search(*VALUES, importances={"fanova": {"rate": 1.0}, "ped_anova": {"rate": 0.9, "optim.name": 0.1}})
    figure = charts.plot_importances(page)
    assert texts(figure).count("–") == 1
    assert "–: not every trial was asked for it." in figure.caption
    assert figure.caption.endswith("Not every trial was asked for: model.width.")


def test_long_names_are_clipped() -> None:
    long = DimensionSummary(name="n" * 80, words="", labels=("l" * 80, "b"))
    one = trial(0, 0.9, params={long.name: "b"})
    page = search(one, dimensions=(long,), importances={"fanova": {long.name: 1.0}})
    shown = [*texts(charts.plot_importances(page)), *texts(charts.plot_slices(page)[0])]
    assert max(map(len, shown)) <= 36
    assert any(long.name in title for title in titles(charts.plot_importances(page)))


@pytest.mark.parametrize(
    "trials", [VALUES[:1], VALUES[:2], (trial(3, 0.0),), (trial(0, 1.0), trial(1, 1.0)), (*VALUES, *OTHERS)]
)
def test_no_number_is_left_that_is_none(trials: tuple[TrialSummary, ...]) -> None:
    page = search(*trials, importances=SHARES)
    figures = [charts.plot_history(page), charts.plot_importances(page)]
    for each in [*figures, *charts.plot_trial_costs(page), *charts.plot_slices(page)]:
        assert each is not None
        assert re.findall(r"\b(?:nan|inf|None)\b", f"{each.drawing} {each.caption}") == []
