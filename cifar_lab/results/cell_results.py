"""Replicates: the cells of a setting as stored on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cifar_lab.config.execution import THEN
from cifar_lab.errors import DamageError
from cifar_lab.results.final_metrics import curve_metrics
from cifar_lab.results.stats.convergence import rise
from cifar_lab.results.stats.decision import CHANCE
from cifar_lab.results.stats.replicates import differences_by_seed
from cifar_lab.store.cell_record import CellContent, CellRecord, State, advice_on_damage
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.journal import read_points
from cifar_lab.store.record_files import CellFile, ResultFile, StoredExecution


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One cell as stored on disk."""

    asked: CellRef
    content: CellContent
    rise: float | None = None
    """Rise of the accuracy over the last tenth of the epochs; None unless finished with at least two epochs."""
    is_pruned: bool = False
    """True if a search stopped the cell early."""

    @property
    def state(self) -> State:
        return "pruned" if self.is_pruned else self.content.state

    @property
    def cell(self) -> CellFile | None:
        return self.content.cell

    @property
    def result(self) -> ResultFile | None:
        return self.content.result

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of a finished cell; empty otherwise, as a diverged cell has none to compare."""
        return self.result.metrics if self.result is not None and self.state == "finished" else {}

    @property
    def damage(self) -> str | None:
        """Name and damage of a damaged cell, with what to do about it, in one line; None for others."""
        asked, damage = self.asked, self.content.damage
        advice = advice_on_damage(asked.fingerprint)
        return f"{asked.variant}/s{asked.seed}: {damage}; {advice}" if damage is not None else None


def read_cell_results(cells: Iterable[CellRef], runs: Path) -> list[CellResult]:
    """Read the cells from `runs`; a damaged cell has nothing but its damage."""
    return [_read(asked, CellRecord(runs / asked.fingerprint)) for asked in cells]


def _read(asked: CellRef, record: CellRecord) -> CellResult:
    content = record.read()
    if content.result is None or not content.result.is_finished:
        return CellResult(asked=asked, content=content)
    try:
        return CellResult(asked=asked, content=content, rise=_rise(record, content.result.metrics))
    except DamageError as error:
        return CellResult(asked=asked, content=CellContent(state="damaged", damage=str(error)))


def with_curve_metrics(each: CellResult, runs: Path) -> CellResult:
    """Return a finished cell with the metrics of its curve, from its journal where its result does not hold them.

    Other cells are returned as they are. A cell whose journal is needed and damaged is returned as damaged.
    """
    if each.cell is None or each.result is None or each.state != "finished":
        return each
    if any(name.endswith("/early_acc") for name in each.metrics):
        return each
    protocol = each.cell.recipe.train.protocol
    name = "test/acc" if protocol == "writeup" else "val/acc"
    try:
        points = read_points(runs / each.asked.fingerprint)
    except DamageError as error:
        return CellResult(asked=each.asked, content=CellContent(state="damaged", damage=str(error)))
    curve = [point.values[name] for point in points if name in point.values]
    metrics = {**curve_metrics(curve, protocol), **each.metrics}
    result = each.result.model_copy(update={"metrics": metrics})
    return replace(each, content=replace(each.content, result=result))


def _rise(record: CellRecord, metrics: dict[str, float]) -> float | None:
    """Return the rise from the result, or from the journal for a cell whose version did not store it."""
    if "rise" in metrics:
        return metrics["rise"]
    points = read_points(record.folder)
    curves = ([p.values[name] for p in points if name in p.values] for name in ("val/acc", "test/acc"))
    return next((rise(curve) for curve in curves if curve), None)


def by_seed(replicates: Iterable[CellResult], *keys: str) -> dict[int, float]:
    """Return the metric by seed, under the first matching key, of the finished cells that have it."""
    found = {each.asked.seed: each.metrics[key] for each in replicates for key in keys if key in each.metrics}
    return dict(sorted(found.items()))


def with_guesses(replicates: Iterable[CellResult], *keys: str) -> dict[int, float]:
    """Return the metric by seed, with the accuracy of guessing for each cell that diverged."""
    found = list(replicates)
    guesses = {each.asked.seed: _chance(each) for each in found if each.state == "diverged"}
    return dict(sorted({**guesses, **by_seed(found, *keys)}.items()))


def _chance(result: CellResult) -> float:
    """Return the accuracy of guessing among the classes of the cell's images; among ten without a record."""
    return 1 / result.cell.shape.classes if result.cell is not None else CHANCE


def differences_at_chance(own: Iterable[CellResult], theirs: Iterable[CellResult], *keys: str) -> dict[int, float]:
    """Return the differences, own less theirs, of seeds in which one of the two diverged: it counts as guessing.

    Seeds in which both diverged, or the other one has no number, say nothing.
    """
    own, theirs = list(own), list(theirs)
    mine, others = by_seed(own, *keys), by_seed(theirs, *keys)
    every = differences_by_seed(with_guesses(own, *keys), with_guesses(theirs, *keys))
    return {seed: value for seed, value in every.items() if (seed in mine) != (seed in others)}


def are_executed_alike(replicates: Iterable[CellResult]) -> bool:
    """Tell whether the cells that were begun were executed alike: kind of device, GPU model, and so on.

    A precision in the recipe is a factor to be compared, and ignored here; one chosen by the device is not. A cell that
    was resumed on another GPU model is not alike by itself.
    """
    begun = [each.cell for each in replicates if each.cell is not None]
    precisions = {cell.execution.precision for cell in begun if cell.recipe.train.precision == "auto"}
    models = {model for cell in begun for model in str(cell.execution.gpu).split(THEN)}
    others = {_what_rounds(cell.execution) for cell in begun}
    return max(len(models), len(others), len(precisions)) <= 1


def _what_rounds(execution: StoredExecution) -> tuple[str, int | None, bool]:
    """Return device, threads and compilation, which may change the digits of a result like precision and GPU model.

    Steps that are replayed as a CUDA graph are bit-identical to eager ones, and on a GPU the number of CPU threads has
    no effect: both are left out.
    """
    threads = None if execution.device.startswith("cuda") else execution.threads
    return execution.device, threads, execution.compile


def group(replicates: Iterable[CellResult]) -> dict[str, list[CellResult]]:
    """Group replicates by variant."""
    found: dict[str, list[CellResult]] = {}
    for each in replicates:
        found.setdefault(each.asked.variant, []).append(each)
    return found
