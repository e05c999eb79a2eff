"""Relations of cells to the invocations of a runs folder.

A cell does not know its ablation. The ablation that it was trained for, its settings and its reference cell are
therefore resolved when the notes are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cifar_lab.config.overrides import format_overrides
from cifar_lab.mlflow_sync.ui_view import UIView
from cifar_lab.results.final_metrics import headline_metric
from cifar_lab.store.invocation import CellRef, Invocation, unite
from cifar_lab.store.invocation_index import InvocationIndex


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
    """Standing of every cell in the ablations of an index."""

    def __init__(self, index: InvocationIndex) -> None:
        self._index = index
        self._standings = self._resolve()

    def standing(self, ablation: str, fingerprint: str) -> CellStanding:
        return self._standings.get((ablation, fingerprint), CellStanding())

    def latest(self, ablation: str, fingerprint: str) -> str | None:
        """Return the id of the latest invocation of an ablation that asked for a cell."""
        past = self._last(ablation, fingerprint)
        return past.id if past is not None else None

    def knows(self, invocation: str) -> bool:
        """Tell whether the index has an invocation of this id."""
        return self._index.find(invocation) is not None

    def same_setting(self, invocation: Invocation) -> list[Invocation]:
        """Return every invocation of the same setting, including this one."""
        return self._index.with_key(invocation.key) or [invocation]

    def trained_for(self, fingerprint: str, began: int) -> str | None:
        """Return the ablation that asked for a cell last before its training began, at `began` in ms."""
        asked = [past.ablation for past, _ in self._index.requests(fingerprint) if past.time <= began]
        return asked[-1] if asked else None

    def view(self, invocation: Invocation) -> UIView:
        """Return the setting of an invocation as shown in MLflow's UI; the same for every invocation of the setting."""
        same = self.same_setting(invocation)
        last, cells = same[-1], unite(same)
        return UIView(
            setting=last.key.digest,
            name=" · ".join(filter(None, [last.scale, last.data.name, format_overrides(last.overrides)])),
            variants=tuple(dict.fromkeys(cell.variant for cell in cells)),
            cells=len(cells),
            metric=last.metric or headline_metric(last.protocol),
            began=same[0].time,
            time=last.time,
        )

    def _resolve(self) -> dict[tuple[str, str], CellStanding]:
        settings: dict[tuple[str, str], dict[str, bool]] = {}
        references: dict[tuple[str, str], tuple[CellRef, int]] = {}
        for key, same in self._index.by_key.items():
            name, stand = key.digest, unite(same)
            for cell in (cell for past in same for cell in past.cells):
                settings.setdefault((key.ablation, cell.fingerprint), {})[name] = False
            for cell in stand:
                settings[key.ablation, cell.fingerprint][name] = True
            known = _references(same)
            references |= {
                (key.ablation, cell.fingerprint): known[cell.fingerprint]
                for cell in stand
                if cell.fingerprint in known
                and (last := self._last(key.ablation, cell.fingerprint)) is not None
                and last.key == key
            }
        return {place: CellStanding(found, *references.get(place, (None, 0))) for place, found in settings.items()}

    def _last(self, ablation: str, fingerprint: str) -> Invocation | None:
        """Return the latest invocation that asked for a cell; its reference counts if settings disagree."""
        requests = self._index.requests(fingerprint)
        return next((past for past, _ in reversed(requests) if past.ablation == ablation), None)


def _references(same: list[Invocation]) -> dict[str, tuple[CellRef, int]]:
    """Return the reference of each cell of a setting by fingerprint, and the time since when it has been that."""
    found: dict[str, tuple[CellRef, int]] = {}
    every: dict[tuple[str, int, str], CellRef] = {}
    recipes: dict[str, str] = {}
    for past in same:  # as `unite` for each beginning of the list, without reading it again each time
        every |= {(cell.variant, cell.seed, cell.recipe): cell for cell in past.cells}
        recipes |= {cell.variant: cell.recipe for cell in past.cells}
        for cell, reference in _pairs([cell for cell in every.values() if cell.recipe == recipes[cell.variant]], past):
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
