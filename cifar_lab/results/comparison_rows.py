"""Build the comparison table's rows from cell results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cifar_lab.results.cell_results import CellResult, are_executed_alike, by_seed
from cifar_lab.results.comparison import ComparisonRow
from cifar_lab.results.contrasts import Contrast, make_differences
from cifar_lab.results.final_metrics import THRESHOLDS
from cifar_lab.results.stats.convergence import epochs_to, epochs_to_difference
from cifar_lab.results.stats.paired import interval
from cifar_lab.results.stats.replicates import differences_by_seed, summarise
from cifar_lab.store.invocation import Invocation

ONE_VIEW = "test/acc_without_tta"
OF_THE_MACHINE = frozenset({"seconds", "epoch_seconds", "images_per_second", "memory/peak_mib", "memory/reserved_mib"})
"""Metrics that depend on the machine, not on the recipe."""


def make_rows(same: Sequence[Invocation], replicates: list[CellResult], metric: str) -> tuple[ComparisonRow, ...]:
    """Return one row per variant of a setting, in the order of the invocation with the most variants."""
    fullest = max(same, key=lambda invocation: len({cell.variant for cell in invocation.cells}))
    names = [cell.variant for cell in (*fullest.cells, *(replicate.asked for replicate in replicates))]
    of: dict[str, list[CellResult]] = {name: [] for name in names}
    for replicate in replicates:
        of[replicate.asked.variant].append(replicate)
    against = {name: same[-1].compared_with(name) for name, own in of.items() if own}
    compared, alike = make_differences(same, of, against, metric), _alike(of)
    return tuple(_row(of[name], of.get(other or "", []), other, compared.get(name), metric, alike.get(name))
                 for name, other in against.items())  # fmt: skip


def _alike(of: Mapping[str, list[CellResult]]) -> dict[str, str]:
    """Map each variant to an earlier one with bit-identical numbers in every seed that both have."""
    numbers = {name: {each.asked.seed: _numbers(each) for each in own if each.metrics} for name, own in of.items()}
    places = {name: i for i, name in enumerate(numbers)}
    with_them: dict[tuple[int, frozenset[tuple[str, float]]], list[str]] = {}
    found: dict[str, str] = {}
    for name, own in numbers.items():
        keys = [(seed, frozenset(values.items())) for seed, values in own.items() if values]
        candidates = {earlier for key in keys for earlier in with_them.get(key, ())}
        for earlier in sorted(candidates, key=places.__getitem__):
            theirs = numbers[earlier]
            if all(own[seed] and own[seed] == theirs[seed] for seed in own.keys() & theirs.keys()):
                found[name] = earlier
                break
        for key in keys:
            with_them.setdefault(key, []).append(name)
    return found


def _numbers(replicate: CellResult) -> dict[str, float]:
    """Return the metrics without those of the machine; empty without a loss, as accuracies may coincide by chance."""
    numbers = {key: value for key, value in replicate.metrics.items() if key not in OF_THE_MACHINE}
    return numbers if any(key.endswith("loss") for key in numbers) else {}


def _row(own: list[CellResult], other: list[CellResult], against: str | None, compared: Contrast | None,
         metric: str, same_as: str | None) -> ComparisonRow:  # fmt: skip
    values = by_seed(own, metric)
    found = summarise(values)
    states = [replicate.state for replicate in own]
    finished = [each.metrics for each in own if each.metrics]
    asked = own[0].asked
    return ComparisonRow(
        variant=asked.variant,
        against=against,
        n=found.n,
        mean=found.mean,
        std=found.std,
        values=values,
        mean_interval=interval(values),
        missing=states.count("missing"),
        running=states.count("running"),
        failed=states.count("failed"),
        diverged=states.count("diverged"),
        damaged=states.count("damaged"),
        pruned=states.count("pruned"),
        mixed_execution=not are_executed_alike((*own, *other)),
        continues=any(each.cell.recipe.init_from is not None for each in own if each.cell is not None),
        parameters=asked.parameters,
        parameters_trained=asked.parameters_trained,
        macs=asked.macs,
        seconds=_mean([metrics["seconds"] for metrics in finished if "seconds" in metrics]),
        same_as=same_as,
        images_seen=_mean([metrics["images_seen"] for metrics in finished if "images_seen" in metrics]),
        one_view=_mean([metrics[ONE_VIEW] for metrics in finished if ONE_VIEW in metrics]),
        **(compared or Contrast.nothing()).fields(),
        **_fit(own, other),
    )


def _fit(own: list[CellResult], other: list[CellResult]) -> dict[str, Any]:
    """Return speed and generalisation of the finished cells, and their differences by seed from the control."""
    lengths = [each.result.epoch for each in own if each.metrics and each.result is not None]
    found: dict[str, Any] = {
        "epochs": max(lengths, default=None),
        "epochs_to": {},
        "epochs_to_difference": {},
        "rises": tuple(each.rise for each in own if each.rise is not None),
    }
    for name, keys in {"gap": ("gap",), "auc": ("val/auc", "test/auc")}.items():
        values, before = by_seed(own, *keys), by_seed(other, *keys)
        found[name] = summarise(values).mean
        found[f"{name}_difference"] = summarise(differences_by_seed(values, before)).mean
    for x in map(str, THRESHOLDS):
        epochs, theirs = _epochs_to(own, x), _epochs_to(other, x)
        found["epochs_to"][x] = epochs_to(epochs.values())
        found["epochs_to_difference"][x] = epochs_to_difference(epochs, theirs)
    return found


def _epochs_to(replicates: list[CellResult], threshold: str) -> dict[int, float | None]:
    """Return the first epoch at `threshold` by seed of the finished cells; None if it was never reached."""
    return {
        each.asked.seed: each.metrics.get(f"epochs_to/{threshold}") for each in replicates if each.state == "finished"
    }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
