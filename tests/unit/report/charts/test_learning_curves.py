"""Learning curves and the four figures: means, bands and every cell at its value."""

from __future__ import annotations

from statistics import fmean
from typing import Any
from xml.etree import ElementTree

import pytest
from made.comparisons import CONTROL, comparison
from made.studies import LOST, ONE_SEED, WORSE, curve, study

from cifar_lab.report.ablation_page import AblationPage
from cifar_lab.report.charts import learning_curves
from cifar_lab.report.charts.figure import PageFigure
from cifar_lab.report.charts.learning_curves import CurveBand, epoch_intervals
from cifar_lab.report.table_content import points


def titles(figure: PageFigure) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(figure.drawing).iter("title")]


def panels(page: AblationPage) -> list[PageFigure]:
    return learning_curves.plot_learning_curves(page.comparison, page.curves)


def four(page: AblationPage) -> list[PageFigure]:
    return learning_curves.plot_four_figures(page.comparison, page.curves)


def bands(page: AblationPage, metric: str = "watched/acc") -> list[CurveBand]:
    return learning_curves.finished_bands(page.comparison, page.curves, metric)


def test_a_band_is_the_mean_over_seeds_at_the_epochs_of_all() -> None:
    band = CurveBand(name="r4", index=1, curves={0: [(1, 0.2), (2, 0.4)], 1: [(1, 0.4), (2, 0.8), (3, 0.9)]})
    assert band.mean == [(1, pytest.approx(0.3)), (2, pytest.approx(0.6))]
    assert band.by_epoch == {1: [0.2, 0.4], 2: [0.4, 0.8]}


def test_each_variant_has_a_panel_with_a_band_and_the_control_behind_it() -> None:
    control, variant = panels(study())
    assert titles(control)[:2] == ["r16: lowest to highest of 5 seeds", "r16: mean of 5 seeds"]
    assert {"r16: mean of 5 seeds", "r4: mean of 5 seeds", "r4: lowest to highest of 5 seeds"} <= set(titles(variant))
    assert variant.caption.startswith(f"{points(WORSE.difference and sum(WORSE.values.values()) / 5)} % after epoch 20")
    assert variant.caption in (ElementTree.fromstring(variant.drawing).get("aria-label") or "")


def test_a_single_seed_has_no_band() -> None:
    assert not [each for each in titles(panels(study(CONTROL, ONE_SEED))[1]) if "lowest" in each]


def test_diverged_cells_are_drawn_to_their_last_epoch() -> None:
    panel = panels(study(CONTROL, LOST))[1]
    assert panel.caption == "no cell finished, 3 diverged"
    assert [each for each in titles(panel) if "diverged" in each] == [f"off, seed {i}: diverged" for i in range(3)]


def test_one_epoch_shows_every_seed_beside_the_mean() -> None:
    variant = panels(study(epochs=1))[1]
    seeds = [f"r4, seed {seed}: {points(value)} %" for seed, value in WORSE.values.items()]
    assert [each for each in titles(variant) if ", seed" in each] == seeds
    assert "a bar from the lowest to the highest; small dots" in describe(study(epochs=1))
    assert "by epoch: the mean over finished seeds in a band" in describe(study())


def describe(page: AblationPage) -> str:
    return learning_curves.describe_panels(page.comparison, page.curves)


def test_the_four_figures_have_one_line_a_variant_and_its_last_mean() -> None:
    figures = four(study(CONTROL, WORSE, LOST))
    assert [each.title.partition(" ")[0] for each in figures] == ["1", "2", "3", "4a", "4b"]
    for figure in (figures[0], figures[1], figures[3], figures[4]):
        assert [each for each in titles(figure) if "mean of" in each] == [
            "r16: mean of 5 seeds", "r4: mean of 5 seeds",
        ]  # fmt: skip
    mean = 100 * fmean(curve(value)[-1][1] for value in WORSE.values.values())
    assert f"r4, epoch 20: {mean:.4g}" in titles(figures[1])
    assert f"r4 {mean / 100:.4g} after epoch 20" in (ElementTree.fromstring(figures[1].drawing).get("aria-label") or "")


def test_accuracy_over_intervals_is_the_mean_of_ten_epochs() -> None:
    (*_, last) = epoch_intervals(curve(0.91234))[-1]
    assert f"r16, epochs 11 to 20: {100 * last:.2f} %" in titles(four(study())[2])
    assert four(study())[2].title == "3 · Validation accuracy, mean of 10 epochs"
    assert four(study(epochs=3))[2].title == "3 · Validation accuracy, epoch by epoch"


def test_an_interval_is_the_mean_of_its_ten_epochs_and_the_last_may_be_shorter() -> None:
    values = [(epoch, float(epoch)) for epoch in range(1, 24)]
    assert epoch_intervals(values) == [(1, 10, 5.5), (11, 20, 15.5), (21, 23, 22.0)]
    assert epoch_intervals([(9, 1.0), (11, 3.0)]) == [(9, 9, 1.0), (11, 11, 3.0)], "a gap does not shift intervals"


def test_under_the_writeups_protocol_the_test_images_are_drawn() -> None:
    page = study(split="test", comparison=comparison(CONTROL, WORSE, protocol="writeup"))
    assert four(page)[1].title == "2 · Test accuracy by epoch"
    assert four(study())[1].title == "2 · Validation accuracy by epoch"


def test_learning_rates_far_apart_have_a_logarithmic_axis() -> None:
    slow = {"lr": {seed: [(1, 1e-3), (2, 1e-3)] for seed in WORSE.values}}
    fast = {"lr": {seed: [(1, 0.1), (2, 0.05)] for seed in CONTROL.values}}
    far, near = study(curves={"r16": fast, "r4": slow}), study()
    scales = [scale_of(learning_curves.draw_learning_rate(bands(page, "lr"))) for page in (far, near)]
    assert scales == ["log", "linear"]


def scale_of(figure: Any) -> str:
    return str(figure.axes[0].get_yscale())


def test_a_loss_far_out_does_not_flatten_the_others() -> None:
    values = [(1, 1e6), *((epoch, 1.0) for epoch in range(2, 50))]
    page = study(CONTROL, curves={"r16": {"train/loss": dict.fromkeys(CONTROL.values, values)}})
    figure = learning_curves.draw_loss(bands(page, "train/loss"), "loss")
    assert figure is not None
    assert 1 < figure.axes[0].get_ylim()[1] < 10


def test_a_training_without_curves_has_no_figures() -> None:
    assert panels(study(curves={})) == four(study(curves={})) == []
