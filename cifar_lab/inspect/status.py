"""Status of a setting: the states of its cells, their dependencies, and an estimate of the remaining time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from cifar_lab.inspect import progress
from cifar_lab.inspect.progress import CellProgress
from cifar_lab.store.cell_record import CellRecord, State
from cifar_lab.store.search_data import is_search
from cifar_lab.store.selection import Selection, typed

Family = Mapping[tuple[str, int], str]
"""Fingerprints of the cells of a setting by lineage and seed."""
STATES: tuple[State, ...] = ("finished", "diverged", "running", "failed", "pruned", "missing", "damaged")


@dataclass(frozen=True, kw_only=True)
class AblationStatus:
    """Current status of the cells of one setting."""

    setting: Selection
    cells: tuple[CellProgress, ...]

    def counts(self) -> dict[State, int]:
        """Return the number of cells in each state; pruned cells are listed if a search has some."""
        states = [cell.state for cell in self.cells]
        return {state: states.count(state) for state in STATES if state != "pruned" or state in states}

    @property
    def is_settled(self) -> bool:
        """True if nothing will change until the ablation is run again."""
        return all(cell.is_settled for cell in self.cells)

    @property
    def left(self) -> float | None:
        """Seconds until the last cell is done, with as many trained at a time as now (at least one)."""
        lefts = [cell.left for cell in self.cells if not cell.is_settled]
        known = [left for left in lefts if left is not None]
        if len(known) < len(lefts):
            return None
        return max([sum(known) / max(1, self.counts()["running"]), *known], default=0.0)

    def summary(self) -> dict[str, Any]:
        """Return the status without the cells, as JSON."""
        counts: dict[str, Any] = {"of": len(self.cells)} | {str(state): n for state, n in self.counts().items()}
        return {**self.setting.as_dict(), **counts, "left_seconds": self.left}

    def as_dict(self) -> dict[str, Any]:
        """Return the status with the cells, as JSON."""
        return {
            **self.summary(),
            "cells": [cell.as_dict() for cell in self.cells],
            "others": [typed(other) for other in self.setting.others],
        }


def look(setting: Selection, runs: Path, now: float | None = None) -> AblationStatus:
    """Return the status of the cells of `setting` at `now` (seconds since 1970; None: the present)."""
    now = time.time() if now is None else now
    cells = [progress.read_progress(asked, CellRecord(runs / asked.fingerprint), now) for asked in setting.cells]
    cells = [_of_search(cell, setting) for cell in cells]
    cells = list(_with_waits(cells, setting, runs))
    epochs = {cell.asked.variant: cell.epochs for cell in cells if cell.epochs is not None}
    cells = [replace(cell, epochs=cell.epochs or epochs.get(cell.asked.variant)) for cell in cells]
    return AblationStatus(setting=setting, cells=tuple(_with_estimates(cells)))


def _of_search(cell: CellProgress, setting: Selection) -> CellProgress:
    """Return the cell of a search without its test accuracy, and as pruned if it was stopped early."""
    if not is_search(setting.latest):
        return cell
    cell = replace(cell, test=None)
    if cell.state == "missing" and setting.latest.is_pruned(cell.asked.fingerprint):
        return replace(cell, state="pruned", resumes=False)
    return cell


def _with_waits(cells: list[CellProgress], setting: Selection, runs: Path) -> Iterator[CellProgress]:
    """Yield the cells, each with the cell that it waits for. Parents come before children in every plan."""
    known = {cell.asked.fingerprint: cell for cell in cells}
    family = {(cell.asked.recipe, cell.asked.seed): cell.asked.fingerprint for cell in reversed(cells)}
    typed_parent = setting.latest.overrides.get("init_from")
    for cell in cells:
        parents = _parents(cell, family, typed_parent, runs) if cell.state == "missing" else []
        waits = [each for parent in parents if (each := _waiting(cell, parent, known, runs)).waits_for is not None]
        if waits:
            known[cell.asked.fingerprint] = next((each for each in waits if each.stuck), waits[0])
        yield known[cell.asked.fingerprint]


def _parents(cell: CellProgress, family: Family, typed_parent: str | None, runs: Path) -> list[str]:
    """Return the fingerprints of the cells that must be finished before `cell`: that it continues, and its teachers."""
    continued = _parent(cell, family, typed_parent, runs)
    return [*([continued] if continued is not None else []), *cell.asked.teachers]


def _parent(cell: CellProgress, family: Family, typed_parent: str | None, runs: Path) -> str | None:
    """Return the fingerprint of the cell whose final weights `cell` starts from; None if it starts from scratch."""
    begun = CellRecord(runs / cell.asked.fingerprint).cell()
    if begun is not None:
        return begun.recipe.init_from
    lineage = cell.asked.recipe.partition(" after ")[2]  # format of the plan: own digest, then the parent's lineage
    return family.get((lineage, cell.asked.seed), typed_parent)


def _waiting(cell: CellProgress, parent: str, known: Mapping[str, CellProgress], runs: Path) -> CellProgress:
    found = known.get(parent)
    state = found.state if found is not None else CellRecord(runs / parent).state()
    if state == "finished":
        return cell
    stuck = state in {"failed", "diverged", "damaged"} or (found is not None and found.stuck)
    return replace(cell, waits_for=found.name if found is not None else parent[:12], stuck=stuck)


def _with_estimates(cells: list[CellProgress]) -> Iterator[CellProgress]:
    """Yield the cells; one without a pace of its own gets that of its variant, else that of all variants."""
    paces: dict[str, list[float]] = {}
    for cell in cells:
        if cell.seconds is not None:
            paces.setdefault(cell.asked.variant, []).append(_seconds_per_mac(cell))
    of_variant = {variant: fmean(values) for variant, values in paces.items()}
    of_all = fmean(pace for values in paces.values() for pace in values) if paces else None
    for cell in cells:
        pace = of_variant.get(cell.asked.variant, of_all)
        if cell.is_settled or cell.left is not None or pace is None:
            yield cell
        else:
            share = 1 - cell.epoch / cell.epochs if cell.epochs else 1.0
            yield replace(cell, left=pace * _macs(cell) * share)


def _seconds_per_mac(cell: CellProgress) -> float:
    return (cell.seconds or 0.0) / max(1, _macs(cell))


def _macs(cell: CellProgress) -> int:
    """Return the multiply-accumulates of an image in a training step, in units of a forward and a backward pass."""
    return cell.asked.macs * cell.asked.passes + cell.asked.teacher_macs // 3
