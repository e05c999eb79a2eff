"""Whether compiling networks pays: decided from step times that were measured, and from the steps that are left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cifar_lab.recipe import Recipe
from cifar_lab.run.estimate import Timed, time_steps
from cifar_lab.run.execution import Execution
from cifar_lab.run.plan import Cell, Plan
from cifar_lab.tracking.record import Record

WORTH_TRYING = 1200.0
"""Seconds that the longest cell must take for the trial itself, a minute or so, to be worth its time."""
LEAST = 0.05
"""Share of a step that must be won: below that, what is measured is as much the machine's mood."""
Measure = Callable[[Recipe, Execution], Timed]


class Compiling(NamedTuple):
    """The decision, and the one line that is written down with it."""

    is_on: bool
    why: str


def decide(plan: Plan, execution: Execution, runs: Path, measure: Measure | None = None) -> Compiling:
    """Whether the cells of `plan` that are missing should be compiled; all alike, and as those that are there.

    Compiling pays in a cell whose steps save more time than its compiling takes, which is what the first step takes
    more than the others. A machine that cannot compile does not.
    """
    missing = plan.to_train(retry_failed=True)
    if not missing:
        return Compiling(execution.compile, "nothing is left to train")
    before = _as_before(plan, execution, runs)
    if before is not None:
        return Compiling(before, "as the cells that are there")
    longest = max(missing, key=lambda cell: plan.estimates.get(cell.fingerprint, 0.0))
    seconds = plan.estimates.get(longest.fingerprint, 0.0)
    if seconds < WORTH_TRYING:
        return Compiling(is_on=False, why=f"the longest cell takes about {seconds:,.0f} s: not worth the trial")
    return _tried(longest, seconds, execution, measure or time_steps)


def _tried(cell: Cell, seconds: float, execution: Execution, measure: Measure) -> Compiling:
    recipe = cell.recipe
    plain = measure(recipe, execution)
    try:
        compiled = measure(recipe, replace(execution, compile=True))
    except Exception as error:  # noqa: BLE001 (of many kinds: no compiler, an operation it does not know; it is said)
        first = (str(error).strip().splitlines() or [""])[0]
        return Compiling(is_on=False, why=f"this machine does not compile it: {type(error).__name__}: {first}")
    won = 1 - compiled.step / plain.step
    cost = max(0.0, compiled.first - compiled.step)
    said = f"{cell.name}: {1000 * plain.step:.1f} ms a step, compiled {1000 * compiled.step:.1f} ms after {cost:.0f} s"
    return Compiling(won >= LEAST and won * seconds > cost, f"{said}; a cell takes about {seconds:,.0f} s")


def _as_before(plan: Plan, execution: Execution, runs: Path) -> bool | None:
    """How the latest cell of `plan` was executed that has a record from this device with as many threads."""
    for cell in reversed(plan.cells):
        known = Record(runs / cell.fingerprint).cell("execution")
        if known is None:
            continue
        made = known["execution"]
        if (made["device"], made["threads"]) == (execution.device, execution.threads):
            return bool(made["compile"])
    return None
