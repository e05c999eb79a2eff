"""Failed, diverged and damaged cells of a setting, and the commands that retry them."""

from __future__ import annotations

import shlex
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
    """The original command with `--retry-failed` added; kept whole so that the cell runs with the same options."""

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
        state = record.state()
        if state == "failed" and (failure := record.failure()) is not None:
            yield FailedCell(
                name=name,
                fingerprint=asked.fingerprint,
                error=failure.error,
                time=failure.time,
                trace=failure.trace,
                again=_again(setting.invocations, asked.fingerprint),
            )
        elif state == "diverged" and (result := record.result()) is not None:
            yield DivergedCell(
                name=name, fingerprint=asked.fingerprint, time=result.time, epoch=result.epoch, step=result.step
            )
        elif state == "damaged":
            remedy = advice_on_damage(asked.fingerprint)
            yield DamagedCell(name=name, fingerprint=asked.fingerprint, damage=record.damage() or "", remedy=remedy)


def _again(invocations: tuple[Invocation, ...], fingerprint: str) -> str:
    latest = next(i for i in reversed(invocations) if any(cell.fingerprint == fingerprint for cell in i.cells))
    if latest.is_call:
        return f"{latest.command.removesuffix(')').removesuffix(', retry_failed=True')}, retry_failed=True)"
    words = iter(shlex.split(latest.command))
    kept = []
    for word in words:
        if word == "--redo":  # do not discard records a second time
            next(words, None)
        elif word not in {"--json", "--retry-failed"} and not word.startswith("--redo="):
            kept.append(word)
    retry = [] if latest.ablation == "train" else ["--retry-failed"]  # `train` retries failed cells by default
    return shlex.join([*kept, *retry])
