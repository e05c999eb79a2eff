"""What the cells of an invocation left on disk, and the rows that they come down to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.report.comparison import Row
from cifar_lab.run.summary import THRESHOLDS
from cifar_lab.stats.convergence import epochs_to, epochs_to_difference, rise
from cifar_lab.stats.replicates import paired_difference, summarise
from cifar_lab.tracking.invocation import Asked, Invocation
from cifar_lab.tracking.journal import read_points
from cifar_lab.tracking.record import Record, State


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One cell as it was found."""

    asked: Asked
    state: State
    cell: dict[str, Any] | None
    """`cell.json`, once it was begun."""
    result: dict[str, Any] | None
    """`result.json`, once it came to its end."""
    rise: float | None
    """What the last tenth of its epochs still brought, if it was finished and had two epochs at least."""

    @property
    def metrics(self) -> dict[str, float]:
        """Of a cell that was finished; a diverged one has none that could be compared."""
        return self.result["metrics"] if self.result is not None and self.state == "finished" else {}


def read(cells: Iterable[Asked], runs: Path) -> list[Replicate]:
    """The cells as they lie in `runs` now."""
    return [_read(asked, Record(runs / asked.fingerprint)) for asked in cells]


def _read(asked: Asked, record: Record) -> Replicate:
    state = record.state()
    result = record.result() if state in {"finished", "diverged"} else None
    found = _rise(record, result["metrics"]) if result is not None and state == "finished" else None
    return Replicate(asked=asked, state=state, cell=record.cell(), result=result, rise=found)


def _rise(record: Record, metrics: dict[str, float]) -> float | None:
    """From the result, or from the journal of a cell that was finished before results held it."""
    if "rise" in metrics:
        return metrics["rise"]
    points = read_points(record.folder)
    curves = ([p.values[name] for p in points if name in p.values] for name in ("val/acc", "test/acc"))
    return next((rise(curve) for curve in curves if curve), None)


def make_rows(same: Sequence[Invocation], replicates: list[Replicate], metric: str) -> tuple[Row, ...]:
    """A row a variant of the invocations of one setting, in the order in which the fullest of them asked for them."""
    fullest = max(same, key=lambda invocation: len({cell.variant for cell in invocation.cells}))
    names = [cell.variant for cell in (*fullest.cells, *(replicate.asked for replicate in replicates))]
    of: dict[str, list[Replicate]] = {name: [] for name in names}
    for replicate in replicates:
        of[replicate.asked.variant].append(replicate)
    return tuple(_row(own, of, same[-1].compared_with(name), metric) for name, own in of.items() if own)


def _row(own: list[Replicate], of: dict[str, list[Replicate]], against: str | None, metric: str) -> Row:
    other = of.get(against, []) if against is not None else []
    values = _by_seed(own, metric)
    mean, paired = summarise(values), paired_difference(values, _by_seed(other, metric))
    states = [replicate.state for replicate in own]
    ended = [replicate.result["metrics"] for replicate in own if replicate.result is not None]
    asked = own[0].asked
    return Row(
        variant=asked.variant,
        against=against,
        n=mean.n,
        mean=mean.mean,
        std=mean.std,
        difference=paired.mean,
        difference_std=paired.std,
        interval=None,
        p_value=None,
        verdict=None,
        pairs=paired.n,
        missing=states.count("missing"),
        running=states.count("running"),
        failed=states.count("failed"),
        diverged=states.count("diverged"),
        mixed_execution=len({str(each.cell["execution"]) for each in (*own, *other) if each.cell is not None}) > 1,
        parameters=asked.parameters,
        parameters_trained=asked.parameters_trained,
        macs=asked.macs,
        seconds=_mean([metrics["seconds"] for metrics in ended]),
        images_seen=_mean([metrics["images_seen"] for metrics in ended]),
        **_fit(own, other),
    )


def _fit(own: list[Replicate], other: list[Replicate]) -> dict[str, Any]:
    """Speed and generalisation of the finished cells, and the differences by seed to what they are compared with."""
    lengths = [each.result["epoch"] for each in own if each.metrics and each.result is not None]
    found: dict[str, Any] = {
        "epochs": max(lengths, default=None),
        "epochs_to": {},
        "epochs_to_difference": {},
        "rises": tuple(each.rise for each in own if each.rise is not None),
    }
    for name, keys in {"gap": ("gap",), "auc": ("val/auc", "test/auc")}.items():
        values, before = _by_seed(own, *keys), _by_seed(other, *keys)
        found[name], found[f"{name}_difference"] = summarise(values).mean, paired_difference(values, before).mean
    for x in map(str, THRESHOLDS):
        epochs, theirs = _epochs_to(own, x), _epochs_to(other, x)
        found["epochs_to"][x] = epochs_to(epochs.values())
        found["epochs_to_difference"][x] = epochs_to_difference(epochs, theirs)
    return found


def _by_seed(replicates: list[Replicate], *keys: str) -> dict[int, float]:
    """The metric, under whichever of its names, of the cells that have it."""
    found = {each.asked.seed: each.metrics[key] for each in replicates for key in keys if key in each.metrics}
    return dict(sorted(found.items()))


def _epochs_to(replicates: list[Replicate], threshold: str) -> dict[int, float | None]:
    """By seed of the finished cells: the first epoch at `threshold`, None where there was none."""
    return {each.asked.seed: each.metrics.get(f"epochs_to/{threshold}") for each in replicates if each.metrics}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
