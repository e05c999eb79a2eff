"""Summary metrics of a cell's curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.results.final_metrics import THRESHOLDS, final_metrics
from cifar_lab.results.stats.convergence import oscillation

Points = list[tuple[int, dict[str, float]]]


def curve(*accuracies: float, name: str = "val", **more: float) -> Points:
    """Points of epochs 1, 2, …, whose accuracy on `name` is as given and on clean training images 0.02 higher."""
    return [
        (
            epoch,
            {
                f"{name}/acc": accuracy,
                f"{name}/loss": 1 - accuracy,
                "clean_train/acc": accuracy + 0.02,
                "images_per_second": 100.0 * epoch,
                "memory/peak_mib": 500.0 - epoch,
                **more,
            },
        )
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def test_under_holdout_val_is_watched() -> None:
    metrics = final_metrics(curve(0.3, 0.62, 0.9, 0.84), "holdout")
    assert metrics["val/acc"] == 0.84
    assert metrics["val/best_acc"] == 0.9
    assert metrics["val/loss"] == pytest.approx(0.16)
    assert metrics["val/auc"] == pytest.approx((0.3 + 0.62 + 0.9 + 0.84) / 4)
    assert metrics["gap"] == pytest.approx(0.02)
    assert metrics["images_per_second"] == 250
    assert metrics["memory/peak_mib"] == 499
    assert not any(name.startswith("test/") for name in metrics)


def test_under_the_writeups_protocol_test_is_watched_and_its_peak_says_so() -> None:
    metrics = final_metrics(curve(0.3, 0.9, 0.84, name="test"), "writeup")
    assert (metrics["test/acc"], metrics["test/peak_acc"]) == (0.84, 0.9)
    assert metrics["test/auc"] == pytest.approx((0.3 + 0.9 + 0.84) / 3)
    assert not any(name.startswith("val/") for name in metrics)
    assert "test/best_acc" not in metrics


def test_the_epochs_to_an_accuracy_are_those_to_the_first_that_reached_it() -> None:
    metrics = final_metrics(curve(0.3, 0.62, 0.8, 0.45, 0.84), "holdout")
    reached = {name: value for name, value in metrics.items() if name.startswith("epochs_to/")}
    assert reached == {"epochs_to/0.5": 2, "epochs_to/0.6": 2, "epochs_to/0.7": 3, "epochs_to/0.8": 3}


def test_epochs_are_counted_as_the_points_do() -> None:
    late = [(epoch + 10, values) for epoch, values in curve(0.3, 0.55)]
    assert final_metrics(late, "holdout")["epochs_to/0.5"] == 12


def test_a_gap_may_be_negative() -> None:
    assert final_metrics(curve(0.5, **{"clean_train/acc": 0.45}), "holdout")["gap"] == pytest.approx(-0.05)


@pytest.mark.parametrize(("protocol", "name"), [("holdout", "val"), ("writeup", "test")])
def test_the_rise_is_what_the_last_tenth_of_the_watched_accuracy_brought(protocol: str, name: str) -> None:
    assert final_metrics(curve(*[0.3] * 9, 0.34, name=name), protocol)["rise"] == pytest.approx(0.04)
    two_each = [0.1] * 16 + [0.4, 0.5, 0.5, 0.6]
    assert final_metrics(curve(*two_each, name=name), protocol)["rise"] == pytest.approx(0.55 - 0.45)


@pytest.mark.parametrize(("protocol", "name"), [("holdout", "val"), ("writeup", "test")])
def test_the_early_mean_and_the_oscillation_are_those_of_the_watched_accuracy(protocol: str, name: str) -> None:
    accuracies = [0.2, 0.4, *[0.6] * 12, 0.7, 0.72, 0.7, 0.72, 0.7, 0.72]
    metrics = final_metrics(curve(*accuracies, name=name), protocol)
    assert metrics[f"{name}/early_acc"] == pytest.approx(0.3)
    assert metrics[f"{name}/oscillation"] == oscillation(accuracies) > 0.01


def test_one_epoch_has_no_rise_and_all_else() -> None:
    metrics = final_metrics(curve(0.62), "holdout")
    assert "rise" not in metrics
    assert (metrics["val/acc"], metrics["val/auc"], metrics["epochs_to/0.6"]) == (0.62, 0.62, 1)


def test_nothing_trained_is_nothing_to_say() -> None:
    assert final_metrics([], "holdout") == {}
    assert final_metrics([(1, {"train/loss": 2.0})], "holdout") == {}


def test_a_loss_that_was_not_finite_is_left_out() -> None:
    points = curve(0.5, 0.1)
    del points[-1][1]["val/loss"]
    assert "val/loss" not in final_metrics(points, "holdout")
    assert final_metrics(points, "holdout")["val/acc"] == 0.1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_any_curve(accuracies: list[float]) -> None:
    metrics = final_metrics(curve(*accuracies), "holdout")
    assert all(type(value) is float and np.isfinite(value) for value in metrics.values())
    assert metrics["val/auc"] == pytest.approx(np.mean(accuracies))
    assert metrics["val/acc"] <= metrics["val/best_acc"] == max(accuracies)
    for threshold in THRESHOLDS:
        above = [epoch for epoch, accuracy in enumerate(accuracies, start=1) if accuracy >= threshold]
        assert metrics.get(f"epochs_to/{threshold}") == (above[0] if above else None)
