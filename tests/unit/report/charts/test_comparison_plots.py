"""The plots of a study: every seed and every variant is there, at its place, with its numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

import pytest
from made.comparisons import CONTROL, NOTHING, comparison, row
from made.studies import DIFFERENCES, LOST, ONE_SEED, WORSE, curve, study
from markupsafe import Markup

from cifar_lab.report.charts import comparison_plots, learning_curves, svg
from cifar_lab.report.charts.cell_png import intervals
from cifar_lab.report.table_content import points, span
from cifar_lab.results.comparison import Effect


def parsed(made: Markup | None) -> ElementTree.Element:
    assert made is not None
    return ElementTree.fromstring(made)


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


def said(each: ElementTree.Element) -> str:
    return " ".join(title.text or "" for title in each.iter("title"))


def texts(root: ElementTree.Element) -> str:
    """All that is written."""
    return " | ".join("".join(each.itertext()) for each in root.iter("text"))


def share(text: str | None) -> float:
    assert text is not None
    return float(text.removesuffix("%"))


# Differences


def test_every_seed_is_drawn_with_its_number() -> None:
    dots = of_class(parsed(comparison_plots.differences(comparison(CONTROL, WORSE))), "seed")
    assert [said(dot) for dot in dots] == [
        f"r4, seed {seed}: {points(value, sign=True)}" for seed, value in DIFFERENCES.items()
    ]


def test_seeds_mean_interval_margin_and_zero_share_one_scale() -> None:
    root = parsed(comparison_plots.differences(comparison(CONTROL, WORSE)))
    places = {value: share(dot.get("cx")) for value, dot in zip(DIFFERENCES.values(), of_class(root, "seed"),
                                                                strict=True)}  # fmt: skip
    (zero,), (shade,), (bar,), (mean,) = (of_class(root, name) for name in ("zero", "shade", "bar", "mark"))
    a, b = min(places), max(places)
    per = (places[b] - places[a]) / (b - a)

    def at(value: float) -> Any:
        return pytest.approx(places[a] + per * (value - a), abs=0.02)

    assert share(zero.get("x1")) == at(0.0)
    assert share(shade.get("x")) == at(-0.002)
    assert share(shade.get("width")) == pytest.approx(per * 0.004, abs=0.02)
    assert share(mean.get("x")) == at(WORSE.difference or 0.0)
    assert WORSE.interval is not None
    line = bar.findall("line")[0]
    assert (share(line.get("x1")), share(line.get("x2"))) == (at(WORSE.interval[0]), at(WORSE.interval[1]))


def test_the_numbers_and_the_verdict_stand_beside_the_marks() -> None:
    found = texts(parsed(comparison_plots.differences(comparison(CONTROL, WORSE))))
    assert f"{points(WORSE.difference, sign=True)} {span(WORSE.interval)}" in found
    assert "worse" in found


def test_verdicts_are_told_apart_by_shape_too() -> None:
    rows = [
        replace(WORSE, variant=verdict, verdict=verdict) for verdict in ("better", "worse", "equivalent", "undecided")
    ]
    root = parsed(comparison_plots.differences(comparison(CONTROL, *rows)))
    shapes = [mark.findall("path")[0].get("d") for mark in of_class(root, "mark")]
    assert len(set(shapes)) == 4


def test_one_seed_is_a_dot_without_mean_and_interval() -> None:
    root = parsed(comparison_plots.differences(comparison(CONTROL, ONE_SEED)))
    assert len(of_class(root, "seed")) == 1
    assert of_class(root, "bar") == of_class(root, "mark") == []


def test_what_diverged_is_drawn_as_such() -> None:
    root = parsed(comparison_plots.differences(comparison(CONTROL, WORSE, LOST)))
    (cross,) = of_class(root, "cross")
    assert said(cross) == "off: diverged in 3 of 3"
    assert "diverged in 3 of 3" in texts(root)


def test_what_is_missing_is_said_in_its_line() -> None:
    root = parsed(comparison_plots.differences(comparison(CONTROL, replace(NOTHING, against="r16"))))
    assert "5 missing" in texts(root)


def test_a_chain_names_the_stage_before() -> None:
    assert "to the stage before" in texts(parsed(comparison_plots.differences(comparison(CONTROL, WORSE, chain=True))))


def test_where_nothing_is_compared_there_is_no_plot_of_differences() -> None:
    assert comparison_plots.differences(comparison(CONTROL)) is None


def test_an_outlier_earns_the_others_a_close_up() -> None:
    far = replace(WORSE, variant="off", difference=-0.6, interval=(-0.61, -0.59), differences={0: -0.6, 1: -0.601})
    of = comparison(CONTROL, WORSE, far)
    limit = comparison_plots.closeup(of)
    assert limit is not None
    assert 0.0088 < limit < 0.02
    root = parsed(comparison_plots.differences(of, limit))
    assert [said(dot)[:2] for dot in of_class(root, "seed")] == ["r4"] * 5
    (arrow,) = of_class(root, "beyond")
    assert said(arrow).startswith("off: -60.00")
    assert arrow.get("x") == "0%"


WIDE = replace(
    WORSE, n=2, pairs=2, difference=0.1434, differences={0: 0.12, 1: 0.1668}, interval=(-3.4272, 3.714),
)  # fmt: skip


def test_an_interval_that_no_accuracies_could_have_leaves_the_axis_to_what_was_measured() -> None:
    root = parsed(comparison_plots.differences(comparison(CONTROL, WIDE)))
    ticks = [float(text.text or "") for text in of_class(root, "tick")]
    assert -2 < min(ticks) < max(ticks) < 20
    seeds = [share(dot.get("cx")) for dot in of_class(root, "seed")]
    assert seeds[1] - seeds[0] > 20, "the seeds are seen apart"
    (bar,) = of_class(root, "bar")
    assert len(of_class(bar, svg.HEAD)) == 2
    assert [share(head.get("x")) for head in of_class(bar, svg.HEAD)] == [0, 100]
    assert "+14.34 [-342.72, +371.40]" in texts(root), "the numbers beside it stay"


def test_an_interval_that_is_not_far_out_is_drawn_whole() -> None:
    root = parsed(comparison_plots.differences(comparison(CONTROL, WORSE)))
    assert of_class(root, svg.HEAD) == []
    far = replace(WIDE, interval=(0.05, 3.714))
    (head,) = of_class(parsed(comparison_plots.differences(comparison(CONTROL, far))), svg.HEAD)
    assert share(head.get("x")) == 100


def test_an_effect_has_no_seeds_and_its_axis_ends_where_accuracies_do() -> None:
    def drawn(interval: tuple[float, float]) -> ElementTree.Element:
        effect = Effect(name="a × b", pairs=2, difference=0.01, interval=interval, level=0.98, verdict="undecided",
                        reason=None)  # fmt: skip
        return parsed(comparison_plots.effects(comparison(CONTROL, WORSE, effects=(effect,))))

    assert of_class(drawn((-0.3, 0.32)), svg.HEAD) == []
    assert len(of_class(drawn((-4.0, 4.02)), svg.HEAD)) == 2


def test_a_huge_interval_earns_no_close_up() -> None:
    assert (
        comparison_plots.closeup(comparison(CONTROL, WORSE, replace(WORSE, variant="r2", interval=(-3.0, 3.0)))) is None
    )


def test_the_room_on_the_right_is_that_of_the_longest_numbers() -> None:
    def right(*rows: Any) -> float:
        found = re.search(r"--right:([\d.]+)px", str(comparison_plots.differences(comparison(CONTROL, *rows))))
        assert found is not None
        return float(found[1])

    assert right(WORSE, WIDE) == right(WIDE) > right(WORSE)
    assert right(WIDE) >= 6.7 * len("+14.34 [-342.72, +371.40]")


def test_without_an_outlier_there_is_no_close_up() -> None:
    assert comparison_plots.closeup(comparison(CONTROL, WORSE, replace(WORSE, variant="r2"))) is None
    assert comparison_plots.closeup(comparison(CONTROL, LOST)) is None


def test_a_long_name_is_cut_and_said_in_full() -> None:
    name = "a" * 60
    root = parsed(comparison_plots.differences(comparison(CONTROL, replace(WORSE, variant=name))))
    (label,) = of_class(root, "name")
    assert said(label) == name
    assert "".join(label.itertext()) == name + "a" * 17 + "…"


def test_effects_have_their_intervals() -> None:
    names = ("model.se.reduction", "optim.lookahead.enabled", "model.se.reduction × optim.lookahead.enabled")
    found = tuple(
        Effect(name=name, pairs=5, difference=0.001, interval=(-0.001, 0.003), level=0.98, verdict="undecided",
               reason=None) for name in names
    )  # fmt: skip
    root = parsed(comparison_plots.effects(comparison(CONTROL, WORSE, effects=found)))
    assert len(of_class(root, "bar")) == len(of_class(root, "mark")) == 3
    assert [said(label) for label in of_class(root, "name")] == list(names)
    assert comparison_plots.effects(comparison()) is None


def test_accuracies_are_drawn_by_seed_with_their_own_interval() -> None:
    values = {0: 0.91, 1: 0.92}
    root = parsed(comparison_plots.accuracies(comparison(replace(CONTROL, values=values, mean=0.915))))
    assert [said(dot) for dot in of_class(root, "seed")] == ["r16, seed 0: 91.00", "r16, seed 1: 92.00"]
    assert "91.50 [91.00, 91.40]" in texts(root)
    assert of_class(root, "zero") == of_class(root, "shade") == []


# Cost


def test_accuracy_is_drawn_against_each_cost_in_which_the_variants_differ() -> None:
    small = row(parameters=1_000_000, parameters_trained=1_000_000, macs=100_000_000, seconds=100.0)
    found = [parsed(made) for made in comparison_plots.costs(comparison(CONTROL, small))]
    assert [root[0].get("aria-label", "").partition(",")[0] for root in found] == [
        "accuracy on test against parameters", "accuracy on test against multiply-accumulates an image",
        "accuracy on test against seconds of training a cell",
    ]  # fmt: skip
    assert [len(of_class(root, "mark")) for root in found] == [2, 2, 2]
    assert said(of_class(found[0], "mark")[1]) == "r4: 91.23 %, 1,000,000 parameters"
    assert comparison_plots.alike(comparison(CONTROL, small)) == []


def test_costs_that_hardly_differ_are_said_and_not_drawn() -> None:
    of = comparison(CONTROL, row(parameters_trained=4_699_291))
    assert comparison_plots.costs(of) == []
    assert comparison_plots.alike(of)[0] == "parameters: 4,699,290 to 4,699,291"


def test_what_diverged_has_a_cross_at_its_cost() -> None:
    lost = replace(LOST, parameters_trained=1_000_000)
    (root,) = (parsed(made) for made in comparison_plots.costs(comparison(CONTROL, lost)))
    assert [said(cross) for cross in of_class(root, "cross")] == ["off: diverged in 3 of 3, 1,000,000 parameters"]


def test_the_control_has_the_first_colour_wherever_it_stands() -> None:
    assert comparison_plots.indices(comparison(WORSE, CONTROL, LOST)) == {"r16": 0, "r4": 1, "off": 2}


# Curves


def test_the_middle_of_curves_is_their_mean_in_a_band_from_lowest_to_highest() -> None:
    made = learning_curves.middle({0: [(1, 0.2), (2, 0.4)], 1: [(1, 0.4), (2, 0.8), (3, 0.9)]})
    assert made.mean == [(1, pytest.approx(0.3)), (2, pytest.approx(0.6))]
    assert (made.low, made.high) == ([(1, 0.2), (2, 0.4)], [(1, 0.4), (2, 0.8)])


def test_each_variant_has_a_panel_with_a_band_and_the_control_behind_it() -> None:
    control, variant = (parsed(panel.drawing) for panel in learning_curves.panels(study()))
    assert len(of_class(control, "band")) == len(of_class(variant, "band")) == 1
    assert of_class(control, "control") == []
    assert [said(line) for line in of_class(variant, "control")] == ["r16: mean of 5 seeds"]


def test_of_one_seed_there_is_no_band() -> None:
    root = parsed(learning_curves.panels(study(CONTROL, ONE_SEED))[1].drawing)
    assert of_class(root, "band") == []


def test_cells_that_diverged_are_drawn_as_far_as_they_went() -> None:
    panel = learning_curves.panels(study(CONTROL, LOST))[1]
    assert panel.words == "no cell finished, 3 diverged"
    root = parsed(panel.drawing)
    assert len(of_class(root, "lost")) == 3
    assert [said(cross) for cross in of_class(root, "cross")] == [f"off, seed {seed}: diverged" for seed in range(3)]


def test_the_four_figures_have_one_line_a_variant() -> None:
    of = study(CONTROL, WORSE, LOST)
    made = [learning_curves.learning_rate(of), learning_curves.accuracy(of), learning_curves.accuracy_by_interval(of)]
    made += [learning_curves.loss(of, "train/loss"), learning_curves.loss(of, "watched/loss")]
    for figure in made:
        assert len(of_class(parsed(figure), "line")) == 2


def test_a_mark_at_the_end_of_a_line_says_the_mean_over_seeds() -> None:
    ends = [said(mark) for mark in of_class(parsed(learning_curves.accuracy(study())), "mark")]
    mean = 100 * fmean(curve(value)[-1][1] for value in WORSE.values.values())
    assert ends[1] == f"r4, epoch 20: {mean:.4g}"


def test_accuracy_over_intervals_is_that_of_the_single_figures() -> None:
    of = study()
    found = [said(mark) for mark in of_class(parsed(learning_curves.accuracy_by_interval(of)), "mark")]
    (_, _, last) = intervals(curve(0.91234))[-1]
    assert found[0] == f"r16, epochs 11 to 20: {100 * last:.2f} %"
    assert learning_curves.interval_length(of) == 10
    assert learning_curves.interval_length(study(epochs=3)) == 1


def test_under_the_writeups_protocol_the_test_images_are_watched() -> None:
    of = study(split="test", comparison=comparison(CONTROL, WORSE, protocol="writeup"))
    assert "test accuracy, %" in texts(parsed(learning_curves.accuracy(of)))
    assert "validation accuracy, %" in texts(parsed(learning_curves.accuracy(study())))


def test_learning_rates_far_apart_have_a_logarithmic_axis() -> None:
    slow = {"lr": {seed: [(1, 1e-3), (2, 1e-3)] for seed in WORSE.values}}
    fast = {"lr": {seed: [(1, 0.1), (2, 0.05)] for seed in CONTROL.values}}
    assert "logarithmic" in texts(parsed(learning_curves.learning_rate(study(curves={"r16": fast, "r4": slow}))))
    assert "logarithmic" not in texts(parsed(learning_curves.learning_rate(study())))


def test_long_trainings_have_a_close_up_of_their_second_half() -> None:
    assert learning_curves.accuracy(study(epochs=20), late=True) is None
    root = parsed(learning_curves.accuracy(study(epochs=40), late=True))
    assert "20" not in [text.text for text in root.iter("text") if "mid" in text.get("class", "")]
    assert len(of_class(root, "line")) == 2


def test_one_epoch_is_a_mark() -> None:
    root = parsed(learning_curves.accuracy(study(epochs=1)))
    assert len(of_class(root, "mark")) == 2


def test_one_epoch_has_a_bar_from_the_lowest_to_the_highest_seed_and_every_seed() -> None:
    control, variant = (parsed(panel.drawing) for panel in learning_curves.panels(study(epochs=1)))
    assert of_class(variant, "band") == []
    (bar,) = of_class(variant, "bar")
    assert said(bar) == "r4: lowest to highest of 5 seeds"
    dots = of_class(variant, "seed")
    assert [said(dot) for dot in dots] == [
        f"r4, seed {seed}: {points(value)} %" for seed, value in WORSE.values.items()
    ]
    ends = sorted(float(bar.findall("line")[0].get(name) or "") for name in ("y1", "y2"))
    heights = [float(dot.get("cy") or "") for dot in dots]
    assert ends == [min(heights), max(heights)]
    (level,) = of_class(variant, "control")
    assert re.fullmatch(r"M0 \S+L1000 \S+", level.get("d") or ""), "from side to side"


def test_seeds_and_variants_that_lie_on_one_another_are_drawn_beside_one_another() -> None:
    alike = replace(WORSE, values=dict.fromkeys(range(3), 0.9169), n=3)
    of = study(replace(CONTROL, values=alike.values, n=3), alike, epochs=1)
    places = [re.findall(r"translate\((\S+) 0\)", str(panel.drawing)) for panel in learning_curves.panels(of)]
    assert places[1] == ["13", "21", "29"]
    for figure in (
        learning_curves.accuracy(of),
        learning_curves.accuracy_by_interval(of),
        learning_curves.loss(of, "train/loss"),
    ):
        assert len(re.findall(r"translate\(", str(figure))) == 1, "one of two marks is moved aside"
    assert "translate" not in str(learning_curves.accuracy(study(epochs=3)))


def test_the_words_above_the_panels_promise_what_is_drawn() -> None:
    assert "by epoch: the mean over finished seeds in a band" in learning_curves.reading(study())
    words = "after one epoch: the mean over finished seeds with a bar from the lowest to the highest; small dots"
    assert words in learning_curves.reading(study(epochs=1))
    assert "small dots" not in learning_curves.reading(study(CONTROL, epochs=1, curves={}))


def test_means_of_ten_epochs_are_named_where_there_are_any() -> None:
    assert "mean of 10 epochs" in texts(parsed(learning_curves.accuracy_by_interval(study(epochs=20))))
    assert "mean of" not in texts(parsed(learning_curves.accuracy_by_interval(study(epochs=3))))


def test_losses_far_out_are_cut_off() -> None:
    values = [(1, 1e6), *((epoch, 1.0) for epoch in range(2, 50))]
    of = study(CONTROL, curves={"r16": {"train/loss": dict.fromkeys(CONTROL.values, values)}})
    assert not re.search(r"\d,\d{3}", texts(parsed(learning_curves.loss(of, "train/loss"))))


def test_without_curves_there_are_no_figures() -> None:
    of = study(curves={})
    assert learning_curves.panels(of) == []
    assert (
        learning_curves.learning_rate(of)
        is learning_curves.accuracy(of)
        is learning_curves.accuracy_by_interval(of)
        is None
    )
    assert learning_curves.loss(of, "train/loss") is learning_curves.loss(of, "watched/loss") is None
