"""What the invocations of a runs folder, read together, say of a cell.

Which ablation it was trained for, in which settings it stands, and what it is compared with: all of this is resolved
at reading time, for a cell knows no ablation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cifar_lab.tracking.invocation import Asked, Invocation, unite
from cifar_lab.tracking.view import View


@dataclass(frozen=True)
class Standing:
    """How one cell stands in one ablation."""

    settings: Mapping[str, bool] = field(default_factory=dict)
    """By digest: whether it is a replicate there still. It is none once its variant has another recipe."""
    reference: Asked | None = None
    """The cell of the same seed that it is compared with; of the control's cell, itself; none where there is none."""
    since: int = 0
    """The time in ms of the invocation that made it the reference."""


class History:
    """Some invocations, the oldest first."""

    def __init__(self, invocations: Sequence[Invocation]) -> None:
        self.invocations = tuple(invocations)
        self._settings: dict[tuple[str, ...], list[Invocation]] = {}
        self._asked: dict[str, list[Invocation]] = {}
        for invocation in invocations:
            self._settings.setdefault(invocation.setting(), []).append(invocation)
            for fingerprint in {cell.fingerprint for cell in invocation.cells}:
                self._asked.setdefault(fingerprint, []).append(invocation)
        self._standings = self._resolve()

    def standing(self, ablation: str, fingerprint: str) -> Standing:
        return self._standings.get((ablation, fingerprint), Standing())

    def latest(self, ablation: str, fingerprint: str) -> str | None:
        """Return the id of the invocation of an ablation that asked for a cell last."""
        asked = self._asked.get(fingerprint, [])
        return next((past.id for past in reversed(asked) if past.ablation == ablation), None)

    def same_setting(self, invocation: Invocation) -> list[Invocation]:
        """Every invocation that asks the question of this one, itself among them."""
        return self._settings.get(invocation.setting(), [invocation])

    def trained_for(self, fingerprint: str, began: int) -> str | None:
        """The ablation that asked for a cell last before its training began, at that time in ms."""
        asked = [past.ablation for past in self._asked.get(fingerprint, []) if past.time <= began]
        return asked[-1] if asked else None

    def view(self, invocation: Invocation) -> View:
        """The setting of an invocation, as MLflow's UI is to show it: the same for every invocation of the setting."""
        same = self.same_setting(invocation)
        last = same[-1]
        overrides = (f"{path}={_typed(value)}" for path, value in last.overrides.items())
        return View(
            setting=digest(last),
            name=" · ".join([last.scale, last.data["name"], *overrides]),
            variants=tuple(dict.fromkeys(cell.variant for cell in unite(same))),
            metric=last.metric or ("test/peak_acc" if last.protocol == "writeup" else "test/acc"),
            began=same[0].time,
            time=last.time,
        )

    def _resolve(self) -> dict[tuple[str, str], Standing]:
        settings: dict[tuple[str, str], dict[str, bool]] = {}
        references: dict[tuple[str, str], tuple[Asked, int]] = {}
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
        return {place: Standing(found, *references.get(place, (None, 0))) for place, found in settings.items()}

    def _last(self, ablation: str, fingerprint: str) -> Invocation:
        """The latest to ask for a cell. Where its settings disagree on the reference, that of this one counts."""
        return next(past for past in reversed(self._asked[fingerprint]) if past.ablation == ablation)


def _typed(value: object) -> str:
    """As it was typed, or could have been."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def digest(invocation: Invocation) -> str:
    """A short name of an invocation's setting."""
    return hashlib.sha256(json.dumps(invocation.setting()).encode()).hexdigest()[:8]


def _references(same: list[Invocation]) -> dict[str, tuple[Asked, int]]:
    """The reference of each cell of a setting by fingerprint, and the time of the invocation since which it is that."""
    found: dict[str, tuple[Asked, int]] = {}
    for i, past in enumerate(same, start=1):
        for cell, reference in _pairs(unite(same[:i]), past):
            known = found.get(cell.fingerprint)
            if known is None or known[0].fingerprint != reference.fingerprint:
                found[cell.fingerprint] = (reference, past.time)
    return found


def _pairs(cells: list[Asked], latest: Invocation) -> list[tuple[Asked, Asked]]:
    """Each cell with the one that it is compared with, where that was asked for; none if there is but one variant."""
    at = {(cell.variant, cell.seed): cell for cell in cells}
    if len({cell.variant for cell in cells}) < 2:
        return []
    against = {cell.variant: latest.compared_with(cell.variant) or cell.variant for cell in cells}
    return [(cell, at[key]) for cell in cells if (key := (against[cell.variant], cell.seed)) in at]
