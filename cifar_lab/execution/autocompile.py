"""Decide whether compiling networks saves time, from measured step times and the number of remaining steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import first_line
from cifar_lab.execution.estimate import trained_images
from cifar_lab.execution.plan import Plan, PlannedCell
from cifar_lab.execution.step_timing import StepTiming, TimingError, time_steps
from cifar_lab.store.cell_record import CellRecord

WORTH_TRYING, SHORTEST = 1200.0, 120.0
"""Seconds that all cells together, and the longest of them, must take to be worth the trial, which takes a minute or
so."""
LEAST = 0.05
"""Minimum relative gain per step; smaller ones are within the noise of the measurement."""
Measure = Callable[[Recipe, Execution], StepTiming]


class CompileDecision(NamedTuple):
    """Decision to compile or not, with a one-line reason."""

    is_on: bool
    why: str


def decide_compile(plan: Plan, execution: Execution, runs: Path, measure: Measure | None = None) -> CompileDecision:
    """Decide whether the missing cells of `plan` are compiled; one decision for all, equal to that of existing cells.

    Compiling pays if the remaining steps save more time than compiling costs. Each cell is compiled anew, once per
    batch size (an epoch's last batch is smaller); the cost is the excess of the first step over the others. The saving
    per step is measured on the longest cell's network and scaled with the work of a step for the others; with several
    precisions it is measured on the longest cell of each, and must pay in all of them. A machine that cannot compile
    does not.

    On CUDA each network is compiled only once: the compiler caches its kernels on disk for later cells.
    """
    missing = plan.to_train(retry_failed=True)
    if not missing:
        return CompileDecision(execution.compile, "nothing is left to train")
    before = _as_before(plan, execution, runs)
    if before is not None:
        return CompileDecision(before, "as the cells that are there")
    seconds = [plan.estimates.get(cell.fingerprint, 0.0) for cell in missing]
    if max(seconds) < SHORTEST or sum(seconds) < WORTH_TRYING:
        said = f"the cells take about {sum(seconds):,.0f} s, the longest {max(seconds):,.0f}"
        return CompileDecision(is_on=False, why=f"{said}: not worth the trial")
    of: dict[str, list[PlannedCell]] = {}
    for cell in sorted(missing, key=lambda cell: plan.estimates.get(cell.fingerprint, 0.0), reverse=True):
        of.setdefault(cell.recipe.train.precision, []).append(cell)
    for cells in of.values():
        found = _tried(cells[0], cells, plan, execution, measure or partial(time_steps, images=plan.dataset.shape))
        if not found.is_on:
            break
    return found


def _tried(
    longest: PlannedCell, missing: Sequence[PlannedCell], plan: Plan, execution: Execution, measure: Measure
) -> CompileDecision:
    """Decide for the cells of one precision."""
    recipe = longest.recipe
    try:
        plain = measure(recipe, execution)
    except TimingError as error:
        return CompileDecision(is_on=False, why=f"training steps could not be timed: {error}")
    try:
        compiled = measure(recipe, replace(execution, compile=True))
    except Exception as error:  # noqa: BLE001 (of many kinds: no compiler, an operation it does not know; it is said)
        first = first_line(error)
        kind = "" if isinstance(error, TimingError) else f"{type(error).__name__}: "
        return CompileDecision(is_on=False, why=f"this machine does not compile it: {kind}{first}")
    won = plain.step - compiled.step
    each = max(0.0, compiled.first - compiled.step)
    steps = sum(_steps(cell, plan) * _work(cell) / _work(longest) for cell in missing)
    saved, spent = won * steps, each * _times(missing, plan, once=execution.device.startswith("cuda"))
    timed = (
        f"{longest.name}: {1000 * plain.step:.1f} ms a step, compiled {1000 * compiled.step:.1f} ms after {each:.0f} s"
    )
    said = f"{timed}; {steps:,.0f} such steps are left, which save {saved:,.0f} s, and compiling takes {spent:,.0f} s"
    return CompileDecision(won >= LEAST * plain.step and saved > spent, said)


def _steps(cell: PlannedCell, plan: Plan) -> int:
    return cell.recipe.train.epochs * cell.recipe.steps_per_epoch(trained_images(cell, plan))


def _work(cell: PlannedCell) -> int:
    """Return the multiply-accumulates of all forward passes of one step (`Recipe.passes`)."""
    return cell.cost.work * cell.recipe.train.batch_size * cell.recipe.passes


def _times(cells: Sequence[PlannedCell], plan: Plan, *, once: bool) -> int:
    """Count the compilations over all cells and batch sizes; `once`: equal networks of several cells count once."""
    pairs = [(cell.recipe.model, size) for cell in cells for size in _shapes(cell, plan)]
    return len(set(pairs)) if once else len(pairs)


def _shapes(cell: PlannedCell, plan: Plan) -> set[int]:
    """Return the batch sizes of an epoch; a network is compiled for each."""
    batch, images = cell.recipe.train.batch_size, trained_images(cell, plan)
    return {min(batch, images), images % batch or min(batch, images)}


def _as_before(plan: Plan, execution: Execution, runs: Path) -> bool | None:
    """Return the compile flag of the latest recorded cell of `plan` on this device and thread count, if any."""
    for cell in reversed(plan.cells):
        record = CellRecord(runs / cell.fingerprint)
        begun = record.cell() if record.state() != "damaged" else None
        if begun is None:
            continue
        before = begun.execution
        is_cuda = execution.device.startswith("cuda")  # there the number of threads does not count
        threads = execution.threads if is_cuda else before.threads
        if (before.device, threads) == (execution.device, execution.threads):
            return before.compile
    return None
