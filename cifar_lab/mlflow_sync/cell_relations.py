"""Relations of cells to the invocations of a runs folder.

A cell does not know its ablation. The ablation that it was trained for, its settings and its reference cell are
therefore resolved when the notes are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cifar_lab.config.overrides import format_overrides
from cifar_lab.mlflow_sync.ui_view import UIView
from cifar_lab.results.final_metrics import headline_metric
from cifar_lab.store.invocation import CellRef, Invocation, unite


@dataclass(frozen=True)
class CellStanding:
    """Role of one cell in one ablation."""

    settings: Mapping[str, bool] = field(default_factory=dict)
    """Maps setting digest to True if the cell is current there, False if its variant's recipe has since changed."""
    reference: CellRef | None = None
    """Cell of the same seed that it is compared with; the cell itself for the control; None without one."""
    since: int = 0
    """Time in ms of the invocation that made it the reference."""


class InvocationHistory:
    """Several invocations, the oldest first."""

    def __init__(self, invocations: Sequence[Invocation]) -> None:
        self.invocations = tuple(invocations)
        self._settings: dict[tuple[str, ...], list[Invocation]] = {}
        self._asked: dict[str, list[Invocation]] = {}
        for invocation in invocations:
            self._settings.setdefault(invocation.setting(), []).append(invocation)
            for fingerprint in {cell.fingerprint for cell in invocation.cells}:
                self._asked.setdefault(fingerprint, []).append(invocation)
        self._standings = self._resolve()

    def standing(self, ablation: str, fingerprint: str) -> CellStanding:
        return self._standings.get((ablation, fingerprint), CellStanding())

    def latest(self, ablation: str, fingerprint: str) -> str | None:
        """Return the id of the latest invocation of an ablation that asked for a cell."""
        asked = self._asked.get(fingerprint, [])
        return next((past.id for past in reversed(asked) if past.ablation == ablation), None)

    def same_setting(self, invocation: Invocation) -> list[Invocation]:
        """Return every invocation of the same setting, including this one."""
        return self._settings.get(invocation.setting(), [invocation])

    def trained_for(self, fingerprint: str, began: int) -> str | None:
        """Return the ablation that asked for a cell last before its training began, at `began` in ms."""
        asked = [past.ablation for past in self._asked.get(fingerprint, []) if past.time <= began]
        return asked[-1] if asked else None

    def view(self, invocation: Invocation) -> UIView:
        """Return the setting of an invocation as shown in MLflow's UI; the same for every invocation of the setting."""
        same = self.same_setting(invocation)
        last = same[-1]
        return UIView(
            setting=digest(last),
            name=" · ".join(filter(None, [last.scale, last.data["name"], format_overrides(last.overrides)])),
            variants=tuple(dict.fromkeys(cell.variant for cell in unite(same))),
            metric=last.metric or headline_metric(last.protocol),
            began=same[0].time,
            time=last.time,
        )

    def _resolve(self) -> dict[tuple[str, str], CellStanding]:
        settings: dict[tuple[str, str], dict[str, bool]] = {}
        references: dict[tuple[str, str], tuple[CellRef, int]] = {}
        for same in self._settings.values():
            name, stand = digest(same[-1]), unite(same)
            for cell in (cell for past in same for cell in past.cells):
                settings.setdefault((same[-1].ablation, cell.fingerprint), {})[name] = False
            for cell in stand:
                settings[same[-1].ablation, cell.fingerprint][name] = True
            known = _references(same)
            references |= {
                (same[-1].ablation, cell.fingerprint): known[cell.fingerprint]
                for cell in stand
                if cell.fingerprint in known
                and self._last(same[-1].ablation, cell.fingerprint).setting() == same[-1].setting()
            }
        return {place: CellStanding(found, *references.get(place, (None, 0))) for place, found in settings.items()}

    def _last(self, ablation: str, fingerprint: str) -> Invocation:
        """Return the latest invocation that asked for a cell; its reference counts if settings disagree."""
        return next(past for past in reversed(self._asked[fingerprint]) if past.ablation == ablation)


def digest(invocation: Invocation) -> str:
    """Return a short digest of an invocation's setting."""
    return hashlib.sha256(json.dumps(invocation.setting()).encode()).hexdigest()[:8]


def _references(same: list[Invocation]) -> dict[str, tuple[CellRef, int]]:
    """Return the reference of each cell of a setting by fingerprint, and the time since when it has been that."""
    found: dict[str, tuple[CellRef, int]] = {}
    for i, past in enumerate(same, start=1):
        for cell, reference in _pairs(unite(same[:i]), past):
            known = found.get(cell.fingerprint)
            if known is None or known[0].fingerprint != reference.fingerprint:
                found[cell.fingerprint] = (reference, past.time)
    return found


def _pairs(cells: list[CellRef], latest: Invocation) -> list[tuple[CellRef, CellRef]]:
    """Return each cell with its reference, if that was asked for; empty for a single variant."""
    at = {(cell.variant, cell.seed): cell for cell in cells}
    if len({cell.variant for cell in cells}) < 2:
        return []
    against = {cell.variant: latest.compared_with(cell.variant) or cell.variant for cell in cells}
    return [(cell, at[key]) for cell in cells if (key := (against[cell.variant], cell.seed)) in at]
