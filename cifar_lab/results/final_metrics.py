"""Compute a cell's final metrics from its curves: last and best accuracy, convergence, oscillation, gap."""

from __future__ import annotations

from collections.abc import Sequence

from cifar_lab.results.stats.convergence import early_mean, oscillation, rise

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Accuracies whose first epoch is a metric, `epochs_to/0.9`."""
PEAK = "test/peak_acc"
"""Metric of the highest accuracy on test over the epochs, which is selected on test."""


def headline_metric(protocol: str) -> str:
    """Return the metric that cells of a protocol are compared by, unless an invocation names another."""
    return PEAK if protocol == "writeup" else "test/acc"


def final_metrics(points: list[tuple[int, dict[str, float]]], protocol: str) -> dict[str, float]:
    """Return the metrics of a whole training from its points, (epoch, values) in order; accuracies in [0, 1].

    `val/auc` is the mean accuracy over all epochs: the area under the curve with the epochs scaled to length one.
    `epochs_to/x` is the first epoch that reached accuracy x, and is missing if none did. `gap` is the accuracy on clean
    training images minus that on val; `rise` is the gain over the last tenth of the epochs; `val/early_acc` and
    `val/oscillation` as in `curve_metrics`. Under `writeup`, `test` replaces `val`, and the best epoch is
    `test/peak_acc`: selected on test.
    """
    name = _watched(protocol)
    curve = [(epoch, values[f"{name}/acc"]) for epoch, values in points if f"{name}/acc" in values]
    if not curve:
        return {}
    accuracies = [accuracy for _, accuracy in curve]
    last = points[-1][1]
    reserved = [values["memory/reserved_mib"] for _, values in points if "memory/reserved_mib" in values]
    metrics = {
        f"{name}/acc": accuracies[-1],
        f"{name}/loss": last.get(f"{name}/loss"),
        f"{name}/{'peak' if protocol == 'writeup' else 'best'}_acc": max(accuracies),
        f"{name}/auc": sum(accuracies) / len(accuracies),
        **curve_metrics(accuracies, protocol),
        "gap": last["clean_train/acc"] - accuracies[-1],
        "rise": rise(accuracies),
        "images_per_second": sum(values["images_per_second"] for _, values in points) / len(points),
        "memory/peak_mib": max(values.get("memory/peak_mib", 0.0) for _, values in points),
        "memory/reserved_mib": max(reserved, default=None),
    }
    reached = {f"epochs_to/{x}": next((epoch for epoch, accuracy in curve if accuracy >= x), None) for x in THRESHOLDS}
    return {key: float(value) for key, value in (metrics | reached).items() if value is not None}


def curve_metrics(accuracies: Sequence[float], protocol: str) -> dict[str, float]:
    """Return the metrics of the watched accuracies, one per epoch in [0, 1], that older results do not hold.

    `val/early_acc` is the mean over the first tenth of the epochs, `val/oscillation` the standard deviation over the
    last third of them about its straight trend; it is missing below eight epochs. `test/…` under `writeup`.
    """
    name = _watched(protocol)
    metrics = {f"{name}/early_acc": early_mean(accuracies), f"{name}/oscillation": oscillation(accuracies)}
    return {key: value for key, value in metrics.items() if value is not None}


def _watched(protocol: str) -> str:
    """Return the images on which each epoch is evaluated."""
    return "test" if protocol == "writeup" else "val"
