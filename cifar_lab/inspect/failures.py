"""Failed, diverged and damaged cells of a setting, and the commands that retry them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar_lab.store.cell_record import CellRecord, advice_on_damage
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.selection import CellName, Selection


@dataclass(frozen=True, kw_only=True)
class FailedCell:
    """Cell whose last attempt failed."""

    name: CellName
    fingerprint: str
    error: str
    time: int
    """Time in ms since 1970."""
    trace: str
    again: str
    """Command that trains it again, with the options of the original one."""

    def as_dict(self) -> dict[str, Any]:
        return {**self.name._asdict(), **asdict(self), "name": str(self.name)}


@dataclass(frozen=True, kw_only=True)
class DivergedCell:
    """Cell whose loss became non-finite; this counts as a result."""

    name: CellName
    fingerprint: str
    time: int
    epoch: int
    step: int | None

    def as_dict(self) -> dict[str, Any]:
        return {**self.name._asdict(), **asdict(self), "name": str(self.name)}


@dataclass(frozen=True, kw_only=True)
class DamagedCell:
    """Cell whose record is damaged; none of it is used."""

    name: CellName
    fingerprint: str
    damage: str
    """Damaged file and violated rule, in one line."""
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        return {**self.name._asdict(), **asdict(self), "name": str(self.name)}


def read_failures(settings: Iterable[Selection], runs: Path) -> list[FailedCell | DivergedCell | DamagedCell]:
    """Return the failed, diverged and damaged cells of `settings`, each once, under its name in the latest setting."""
    found: dict[str, FailedCell | DivergedCell | DamagedCell] = {}
    for setting in settings:
        for bad in _of(setting, runs):
            found[bad.fingerprint] = bad
    return list(found.values())


def _of(setting: Selection, runs: Path) -> Iterator[FailedCell | DivergedCell | DamagedCell]:
    for asked in setting.cells:
        record = CellRecord(runs / asked.fingerprint)
        name = CellName(setting.latest.ablation, asked.variant, asked.seed)
        match record.state():
            case "failed":
                failure = record.failure() or {}
                again = _retry_command(setting.invocations, asked.fingerprint)
                told = {key: failure.get(key, unknown) for key, unknown in (("error", ""), ("trace", ""), ("time", 0))}
                yield FailedCell(name=name, fingerprint=asked.fingerprint, again=again, **told)
            case "diverged":
                result = record.result() or {}
                when = {key: result[key] for key in ("time", "epoch", "step")}
                yield DivergedCell(name=name, fingerprint=asked.fingerprint, **when)
            case "damaged":
                told = {"damage": record.damage() or "", "remedy": advice_on_damage(asked.fingerprint)}
                yield DamagedCell(name=name, fingerprint=asked.fingerprint, **told)


def _retry_command(invocations: tuple[Invocation, ...], fingerprint: str) -> str:
    """Return the command of the latest invocation with a cell that trains it again, if it failed."""
    latest = next(i for i in reversed(invocations) if any(cell.fingerprint == fingerprint for cell in i.cells))
    if latest.retry:
        return latest.retry
    flag = " --retry-failed" if latest.command.startswith("cifar-lab run-ablation ") else ""
    return latest.command + flag  # an older note has no other command than the one that was typed
