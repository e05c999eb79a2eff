"""The plots of a search: every trial at its place, what has no value told apart, nothing that cannot be drawn."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from made.studies import WIDTH, search, trial

from cifar_lab.report.ablation_page import PageFigure
from cifar_lab.report.charts import sweep as plots
from cifar_lab.report.sweep_page_data import DimensionSummary, SweepPageData, TrialSummary

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


def parsed(made: PageFigure | None) -> ElementTree.Element:
    assert made is not None
    return ElementTree.fromstring(made.drawing)


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


def said(each: ElementTree.Element) -> str:
    return " ".join(title.text or "" for title in each.iter("title"))


def texts(root: ElementTree.Element) -> list[str]:
    return [each.text or each[0].tail or "" for each in root.iter("text")]


def share(text: str | None) -> float:
    assert text is not None
    return float(text.removesuffix("%"))


def corners(path: ElementTree.Element) -> list[tuple[float, float]]:
    """Return the points of a line: x as a share of the width in percent, y in pixels."""
    found = re.findall(r"([\d.e+-]+) ([\d.e+-]+)", path.get("d", ""))
    return [(float(x) / 10, float(y)) for x, y in found]


def dots(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Return the position of each trial's dot."""
    return {said(dot)[:4]: (share(dot.get("cx")), float(dot.get("cy", ""))) for dot in of_class(root, "seed")}


# History


def test_every_value_is_at_its_place_with_its_number() -> None:
    root = parsed(plots.history(ALL))
    places = dots(root)
    xs, ys = [places[each.name][0] for each in VALUES], [places[each.name][1] for each in VALUES]
    per = (ys[1] - ys[5]) / 10
    assert [b - a for a, b in pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * 5, abs=0.02)
    assert ys == pytest.approx([ys[5] + per * (95 - 100 * (each.value or 0)) for each in VALUES], abs=0.2)
    assert "t002: 92.00 %, 3,000,000 parameters" in {said(dot) for dot in of_class(root, "seed")}


def test_the_best_so_far_rises_where_a_trial_is_better_than_all_before() -> None:
    root = parsed(plots.history(ALL))
    assert [said(dot)[:4] for dot in of_class(root, "on")] == ["t000", "t002", "t005"]
    (line,) = of_class(root, "line")
    places = dots(root)
    assert [y for _, y in corners(line)] == [y for name in ("t000", "t002", "t005") for y in [places[name][1]] * 2]
    assert corners(line)[-1][0] == pytest.approx(100, abs=0.1)


def test_what_has_no_value_is_told_apart() -> None:
    root = parsed(plots.history(ALL))
    marks = {name: said(of_class(root, name)[0]) for name in ("diverged", "beyond", "infeasible", "failed")}
    assert marks == {
        "diverged": "t006: diverged",
        "beyond": "t007: pruned after epoch 4 at 87.00 %",
        "infeasible": "t008: infeasible, 6,000,000 parameters",
        "failed": "t009: RuntimeError: lost, 10,000,000 parameters",
    }
    assert "t010" not in "".join(root.itertext())


def test_a_pruned_trial_is_where_it_ended_and_the_others_are_below_all_values() -> None:
    root = parsed(plots.history(ALL))
    places = dots(root)
    (pruned,) = of_class(root, "beyond")
    assert places["t000"][1] < float(pruned.get("y", "")) < places["t001"][1]
    assert float(of_class(root, "diverged")[0].get("y", "")) > plots.HEIGHT
    assert float(of_class(root, "infeasible")[0].get("y1", "")) > plots.HEIGHT


def test_what_is_far_below_is_drawn_at_the_low_end_and_counted() -> None:
    made = plots.history(search(*VALUES, trial(6, state="pruned", pruned_at=1, last=0.11), trial(7, 0.10)))
    assert made is not None
    assert made.caption == "2 far below the others, drawn at the low end."
    assert dots(parsed(made))["t007"][1] == plots.HEIGHT
    assert dots(parsed(made))["t001"][1] < plots.HEIGHT
    assert plots.history(ALL).caption == ""  # type: ignore[union-attr]


def test_the_baseline_is_a_line_to_compare_with() -> None:
    root = parsed(plots.history(ALL))
    (line,) = of_class(root, "reference")
    assert float(line.get("y1", "")) == dots(root)["t000"][1]
    assert of_class(parsed(plots.history(search(trial(1, 0.9)))), "reference") == []


def test_the_history_of_nothing_measured_is_none() -> None:
    assert plots.history(search()) is None
    assert plots.history(search(*OTHERS[2:])) is None
    assert plots.costs(search(*OTHERS)) == []


def test_trials_that_were_all_pruned_have_a_history() -> None:
    assert len(of_class(parsed(plots.history(search(*OTHERS))), "beyond")) == 1


def test_the_key_names_what_is_there_and_nothing_else() -> None:
    assert [words.partition(":")[0] for _, words in plots.history_key(ALL)] == [
        "trial with a value", "best so far", "pruned, at its last reported value", "diverged", "infeasible", "failed",
    ]  # fmt: skip
    assert [words for _, words in plots.history_key(search(BASELINE))] == ["trial with a value", "best so far"]
    assert [words for _, words in plots.cost_key(ALL)][2:] == ["infeasible, not trained"]
    assert len(plots.cost_key(search(*VALUES))) == 2


# Cost


def cost(made: SweepPageData) -> ElementTree.Element:
    (figure,) = plots.costs(made)
    return parsed(figure)


def test_the_front_is_a_stair_through_its_trials_up_to_the_budget() -> None:
    costs = (1, 4, 2, 3, 3, 4)
    root = cost(search(*(replace(each, parameters=n * 10**6) for each, n in zip(VALUES, costs, strict=True))))
    assert [said(dot)[:4] for dot in of_class(root, "on")] == ["t000", "t002", "t005"]
    places, (line,) = dots(root), of_class(root, "line")
    corner = corners(line)
    assert corner[::2] == [pytest.approx(places[name], abs=0.06) for name in ("t000", "t002", "t005")]
    assert corner[-1][0] == pytest.approx(share(of_class(root, "limit")[0].get("x1")), abs=0.1)


def test_the_budget_is_a_line_and_all_beyond_it_is_shaded() -> None:
    root = cost(ALL)
    line, label = of_class(root, "limit")
    (shade,) = of_class(root, "shade")
    assert (said(line), label.text, said(shade)) == ("budget 5 M", "budget 5 M", "over the budget of 5,000,000")
    assert shade.get("x") == line.get("x1")
    assert share(shade.get("x")) + share(shade.get("width")) == pytest.approx(100, abs=0.02)
    assert dots(root)["t005"][0] > share(line.get("x1")) > dots(root)["t003"][0]


def test_infeasible_trials_stand_at_what_they_would_cost() -> None:
    root = cost(ALL)
    (hollow,) = of_class(root, "hollow")
    assert said(hollow) == "t008: infeasible, 6,000,000 parameters"
    assert share(hollow.get("x")) == pytest.approx(dots(root)["t005"][0])


def test_what_is_far_over_the_budget_is_at_the_end_of_the_axis_and_counted() -> None:
    (figure,) = plots.costs(search(BASELINE, trial(1, state="infeasible", parameters=90_000_000)))
    assert re.fullmatch(r"1 infeasible beyond [\d.]+ million, drawn at the end of the axis\.", figure.caption)
    assert share(of_class(parsed(figure), "hollow")[0].get("x")) == 100


def test_macs_have_a_plot_where_they_are_limited_or_an_objective() -> None:
    trials = [replace(each, macs=10**8) for each in VALUES]
    for changed in ({"max_macs": 2 * 10**8}, {"objectives": ("accuracy", "macs")}):
        _, second = plots.costs(search(*trials, **changed))
        assert "multiply-accumulates an image, millions" in texts(parsed(second))
        assert len(of_class(parsed(second), "limit")) == (2 if "max_macs" in changed else 0)
    assert len(plots.costs(search(*trials))) == 1


def test_a_wide_range_of_costs_is_on_a_logarithmic_axis() -> None:
    root = cost(search(*(trial(i, 0.9 + i / 100, parameters=10 ** (4 + i)) for i in range(3))))
    xs = [place[0] for _, place in sorted(dots(root).items())]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.1, 5.0, (0.1, 0.2, 0.5, 1, 2, 5)), (1e-4, 1.0, (1e-4, 1e-3, 1e-2, 0.1, 1)), (3.0, 4.0, (3.0, 4.0)),
     (2, 20, (2, 5, 10, 20))],
)  # fmt: skip
def test_a_logarithmic_axis_has_round_ticks(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert plots.fine(low, high).ticks == pytest.approx(ticks)


# Parallel coordinates


def lines(made: SweepPageData) -> dict[str, ElementTree.Element]:
    return {said(line)[:4]: line for line in of_class(parsed(plots.parallel(made)), "line")}


def test_every_trial_with_a_value_is_a_line_and_the_best_stand_out() -> None:
    made = search(*(trial(i, 0.5 + i / 100) for i in range(20)), *(replace(each, number=40) for each in OTHERS))
    found = {name: line.get("class", "").split()[1] for name, line in lines(made).items()}
    assert found == {f"t{i:03}": "rest" for i in range(18)} | {"t018": "top", "t019": "first"}
    assert list(found)[-1] == "t019", "the best is drawn on top"
    assert [words for _, words in plots.parallel_key(made)][1] == "the best tenth, 2 trials"


def test_a_line_crosses_each_axis_where_its_trial_was() -> None:
    one = trial(0, 0.9, params={"model.width": 36, "rate": 0.1, "optim.name": "adam"})
    (line,) = lines(search(one)).values()
    (_, width, rate, name) = [x for x, _ in corners(line)]
    assert (width, rate, name) == (pytest.approx(25), pytest.approx(50), pytest.approx(75))


def test_trials_with_one_choice_stand_side_by_side_the_better_on_the_right() -> None:
    made = search(trial(0, 0.8), trial(1, 0.9), trial(2, 0.85))
    at = {name: corners(line)[3][0] for name, line in lines(made).items()}
    assert at["t000"] < at["t002"] < at["t001"]
    assert at["t002"] == pytest.approx(25)
    assert "the better ones on the right" in plots.parallel(made).caption


def test_what_was_not_asked_for_stands_apart() -> None:
    partial = trial(1, 0.8, params={"model.width": 96, "optim.name": "sgd"})
    made = search(BASELINE, partial)
    assert corners(lines(made)["t001"])[2][0] > 93 > corners(lines(made)["t000"])[2][0]
    assert "not asked" in texts(parsed(plots.parallel(made)))
    assert "not asked" in plots.parallel(made).caption
    assert "not asked" not in texts(parsed(plots.parallel(search(BASELINE))))


def test_axes_are_named_and_ordered_by_importance() -> None:
    made = search(*VALUES, importances=SHARES)
    found = parsed(plots.parallel(made))
    assert [said(each) or each.text for each in of_class(found, "name")] == [
        "accuracy on val, %", "rate", "model.width", "optim.name",
    ]  # fmt: skip
    assert {"sgd", "adam", "0.01", "80"} <= set(texts(found))
    assert "by importance" in plots.parallel(made).caption


def test_one_trial_of_no_labels_is_drawn() -> None:
    assert list(lines(search(trial(0, 0.9), dimensions=(WIDTH,)))) == ["t000"]


# Importances


def bars(made: SweepPageData) -> dict[str, float]:
    return {said(bar): share(bar.get("width")) for bar in of_class(parsed(plots.importances(made)), "share")}


def test_every_share_is_a_bar_as_long_as_it_is_large() -> None:
    found = bars(search(*VALUES, importances=SHARES))
    longest = found["model.width, ped_anova: 0.850"]
    assert found == {
        f"{name}, {by}: {value:.3f}": pytest.approx(longest * value / 0.85, abs=0.01)
        for by, shares in SHARES.items() for name, value in shares.items()
    }  # fmt: skip


def test_both_evaluators_have_a_column_of_numbers() -> None:
    found = parsed(plots.importances(search(*VALUES, importances=SHARES)))
    assert {"fANOVA", "PED-ANOVA", "0.600", "0.150"} <= set(texts(found))
    columns = {bar.get("x") for bar in of_class(found, "share")}
    assert columns == {"0.00%", f"{100 * plots.PAIR:.2f}%"}


def test_a_dimension_that_one_of_them_does_not_know_has_a_dash_and_a_reason() -> None:
    made = search(*VALUES, importances={"fanova": {"rate": 1.0}, "ped_anova": {"rate": 0.9, "optim.name": 0.1}})
    figure = plots.importances(made)
    assert texts(parsed(figure)).count("–") == 1
    assert "–: not every trial was asked for it." in figure.caption
    assert figure.caption.endswith("Not every trial was asked for: model.width.")


def test_shares_of_nothing_are_drawn_as_nothing() -> None:
    assert set(bars(search(*VALUES, importances={"fanova": {"rate": 0.0}})).values()) == {0.0}


def test_long_names_are_clipped_to_the_room_they_have() -> None:
    long = DimensionSummary(name="n" * 80, words="", labels=("l" * 80, "b"))
    one = trial(0, 0.9, params={long.name: "b"})
    made = search(one, dimensions=(long,), importances={"fanova": {long.name: 1.0}})
    assert max(map(len, texts(parsed(plots.importances(made))))) == plots.NAME
    assert {len(text) for text in texts(parsed(plots.parallel(made)))} >= {plots.WHOLE, plots.TICK}
    assert max(map(len, texts(parsed(plots.parallel(made))))) == plots.WHOLE
    assert long.name in said(parsed(plots.parallel(made)))


# Whatever comes


@pytest.mark.parametrize(
    "trials", [VALUES[:1], VALUES[:2], (trial(3, 0.0),), (trial(0, 1.0), trial(1, 1.0)), (*VALUES, *OTHERS)]
)
def test_no_number_is_left_that_is_none(trials: tuple[TrialSummary, ...]) -> None:
    made = search(*trials, importances=SHARES)
    figures = [plots.history(made), *plots.costs(made), plots.parallel(made), plots.importances(made)]
    for each in figures:
        assert each is not None
        assert re.findall(r"\b(?:nan|inf|None)\b", f"{each.drawing} {each.caption}") == []
