"""Retrain a finished, failed or damaged cell: its record is set aside, not deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filelock import Timeout

from cifar_lab.config.execution import Execution
from cifar_lab.errors import DamageError, UsageError
from cifar_lab.execution.device import is_there
from cifar_lab.execution.plan import Plan, PlannedCell
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.selection import CellName, cell_names


def find_planned_cell(plan: Plan, prefix: str) -> PlannedCell:
    """Return the one cell of `plan` whose fingerprint starts with `prefix`, ignoring case.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = {cell.fingerprint: cell for cell in plan.cells if cell.fingerprint.startswith(prefix.lower())}
    if len(found) == 1:
        return next(iter(found.values()))
    which = "; ".join(f"{cell.name} is {cell.fingerprint[:12]}" for cell in list((found or _all(plan)).values())[:5])
    many = f"{len(found)} cells" if found else "no cell"
    raise UsageError(f"--redo {prefix}: {many} of {plan.ablation.name} with a fingerprint that begins so; {which}")


def known_as(cell: PlannedCell, plan: Plan, runs: Path) -> str:
    """Return all names of a cell in ablations: `r4/s0 (layers base/s0, too)`."""
    own = CellName(plan.ablation.name, cell.variant, cell.seed)
    others = [str(name) for name in cell_names(runs).get(cell.fingerprint, []) if name != own]
    return f"{cell.name} ({', '.join(others)}, too)" if others else cell.name


def executed_as(cells: Sequence[PlannedCell], runs: Path, chosen: Execution) -> Execution:
    """Return the execution of the records that `cells` replace: device, threads, compile; `chosen` without records.

    Raises:
        UsageError: the records were executed differently, or on a device that this machine does not have.
    """
    before = [_execution(CellRecord(runs / cell.fingerprint)) for cell in cells]
    found = {
        replace(
            chosen,
            device=each.device,
            threads=each.threads,
            compile=each.compile,
            graph=chosen.graph and each.device == "cuda",
        )
        for each in before
        if each is not None
    }
    if len(found) > 1:
        raise UsageError("--redo: these cells were executed differently; redo them one by one, or type --workers")
    execution = found.pop() if found else chosen
    if not is_there(execution.device):
        raise UsageError(
            f"--redo: trained on {execution.device} before, which this machine has not; type --device to go elsewhere"
        )
    return execution


def set_aside(plan: Plan, cells: list[PlannedCell], runs: Path) -> Plan:
    """Set the records of `cells` aside and return `plan` with them missing.

    Cells that continue one of them keep their results: retraining gives the same weights.

    Raises:
        UsageError: a cell is being trained.
    """
    for cell in cells:
        record = CellRecord(runs / cell.fingerprint)
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


def _execution(record: CellRecord) -> Execution | None:
    """Return the execution of a record; None for a cell that was not begun, or whose record is damaged."""
    try:
        cell = record.cell()
    except DamageError:
        return None
    return cell.execution.settings if cell is not None else None


def _all(plan: Plan) -> dict[str, PlannedCell]:
    return {cell.fingerprint: cell for cell in plan.cells}
