"""Train a finished, failed or damaged cell anew: its record is set aside, not deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from cifar_lab.errors import DamageError, UsageError
from cifar_lab.run.device import is_there
from cifar_lab.run.execution import Execution
from cifar_lab.run.plan import Cell, Plan
from cifar_lab.run.setting import Name, names
from cifar_lab.tracking.record import Record


def find(plan: Plan, prefix: str) -> Cell:
    """The one cell of `plan` whose fingerprint starts with `prefix`.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = {cell.fingerprint: cell for cell in plan.cells if cell.fingerprint.startswith(prefix)}
    if len(found) == 1:
        return next(iter(found.values()))
    which = "; ".join(f"{cell.name} is {cell.fingerprint[:12]}" for cell in list((found or _all(plan)).values())[:5])
    raise UsageError(f"--redo {prefix}: {len(found)} cells of {plan.ablation.name} start so; {which}")


def known_as(cell: Cell, plan: Plan, runs: Path) -> str:
    """`r4/s0`, with every other name that an ablation has for it: `r4/s0 (layers base/s0, too)`."""
    own = Name(plan.ablation.name, cell.variant, cell.seed)
    others = [str(name) for name in names(runs).get(cell.fingerprint, []) if name != own]
    return f"{cell.name} ({', '.join(others)}, too)" if others else cell.name


def executed_as(cells: Sequence[Cell], runs: Path, chosen: Execution) -> Execution:
    """How the records that `cells` are to replace were made: device, threads and compile; `chosen` where none was.

    Raises:
        UsageError: they were not all made alike, or on a device that is not here.
    """
    before = [tree["execution"] for cell in cells if (tree := _cell(Record(runs / cell.fingerprint))) is not None]
    made = [Execution.of_record(each) for each in before]
    found = {
        replace(
            chosen,
            device=each.device,
            threads=each.threads,
            compile=each.compile,
            graph=chosen.graph and each.device == "cuda",
        )
        for each in made
    }
    if len(found) > 1:
        raise UsageError("--redo: these cells were executed differently; redo them one by one, or type --workers")
    execution = found.pop() if found else chosen
    if not is_there(execution.device):
        raise UsageError(
            f"--redo: trained on {execution.device} before, which this machine has not; type --device to go elsewhere"
        )
    return execution


def set_aside(plan: Plan, cells: list[Cell], runs: Path) -> Plan:
    """`plan` with `cells` missing. Cells that continue one of them keep their results: the same weights led to them.

    Raises:
        UsageError: a cell is being trained.
    """
    for cell in cells:
        record = Record(runs / cell.fingerprint)
        try:
            if record.is_begun:
                record.set_aside()
        except Timeout:
            raise UsageError(f"--redo {cell.fingerprint[:12]}: {cell.name} is being trained") from None
    gone = {cell.fingerprint for cell in cells}
    return replace(
        plan,
        cells=tuple(replace(cell, state="missing") if cell.fingerprint in gone else cell for cell in plan.cells),
    )


def _cell(record: Record) -> dict[str, Any] | None:
    """Return `cell.json`, if there is one that can be read: how a damaged record was executed is not known."""
    try:
        return record.cell("execution")
    except DamageError:
        return None


def _all(plan: Plan) -> dict[str, Cell]:
    return {cell.fingerprint: cell for cell in plan.cells}
