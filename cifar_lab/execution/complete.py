"""Completion of a requested plan: decide on compiling, train what is missing, compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.execution.autocompile import decide_compile
from cifar_lab.execution.engine import LOCAL, Listener
from cifar_lab.execution.plan import Plan, PlannedCell
from cifar_lab.execution.request import Request
from cifar_lab.execution.resolved_recipes import BY_HAND
from cifar_lab.execution.runner import RunReport, carry_out
from cifar_lab.execution.step_timing import time_steps
from cifar_lab.execution.upload import Upload
from cifar_lab.results.compare import tabulate
from cifar_lab.results.comparison import Comparison
from cifar_lab.results.declaration import of_declaration
from cifar_lab.store.ablation_file import SEARCH
from cifar_lab.store.cell_record import ENDED
from cifar_lab.store.invocation import RecordedCommand, StoppingRule
from cifar_lab.store.selection import select

OpenListener = Callable[[Request, list[PlannedCell]], AbstractContextManager[Listener]]
"""Function that opens an observer of the training of these cells; it is called once they are decided upon."""


class CompletedRun(NamedTuple):
    """Outcome of a request: what was done, what is there now, and the comparison of it."""

    plan: Plan
    """The plan with the states of its cells afterwards."""
    report: RunReport
    by_another_runner: int
    """Cells that another runner trained meanwhile."""
    comparison: Comparison

    @property
    def undone(self) -> list[PlannedCell]:
        """Return the cells that did not end: failed, damaged, or left by an interruption."""
        return [cell for cell in self.plan.cells if not cell.is_done]


def with_compiling(found: Request, runs: Path, say: Callable[[str], None]) -> tuple[Request, str]:
    """Return the request with the decision on compiling the networks, and its reason; empty if it was typed."""
    if found.compile is not None:
        return found, ""
    place = found.places[0] if found.places else ""
    timed = partial(time_steps, place=place, images=found.plan.dataset.shape)
    is_on, compiling = decide_compile(found.plan, found.execution, runs, timed)
    if is_on:
        say(f"networks are compiled: {compiling}")
    return found._replace(execution=replace(found.execution, compile=is_on)), compiling


def complete(
    found: Request, runs: Path, *, command: RecordedCommand, watch: OpenListener, upload: Upload,
    say: Callable[[str], None], retry_failed: bool = False, stopping: StoppingRule | None = None,
    patience: float | None = None, until: float = math.inf, engine: str = LOCAL,
) -> CompletedRun:  # fmt: skip
    """Train the missing cells of a request, and compare the variants; failures of cells are in the result.

    The arguments after `watch` are as for `cifar_lab.execution.runner.carry_out`.
    """
    found, compiling = with_compiling(found, runs, say)
    plan = found.plan
    with watch(found, plan.to_train(retry_failed=retry_failed)) as listener:
        report = carry_out(
            plan, runs=runs, execution=found.execution, workers=found.workers, command=command, places=found.places,
            listener=listener, upload=upload, retry_failed=retry_failed, say=say, stopping=stopping,
            compiling=compiling, patience=patience, until=until, engine=engine,
        )  # fmt: skip
    after = replace(plan, cells=tuple(replace(cell, state=cell.now(runs)) for cell in plan.cells))
    ended = sum(cell.now(runs) in ENDED for cell in plan.to_train(retry_failed=True))
    others = max(0, ended - report.trained)
    return CompletedRun(after, report, others, _compare(plan.ablation, report.invocation, runs))


def _compare(ablation: Ablation, invocation: str, runs: Path) -> Comparison:
    """Compare the variants of a declaration in the setting of its invocation.

    Single recipes trained by hand and candidates of a search have no declaration but what was asked for.
    """
    setting = select(runs, ablation.name, invocation=invocation)
    is_declared = ablation.name != BY_HAND and not ablation.name.startswith(SEARCH)
    return tabulate(of_declaration(setting, ablation) if is_declared else setting, runs)
