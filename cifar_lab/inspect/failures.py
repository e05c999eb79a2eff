"""Failed, diverged and damaged cells of a setting, and the commands that retry them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.store.cell_record import CellRecord, advice_on_damage
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.record_files import FailureFile, ResultFile
from cifar_lab.store.selection import CellName, Selection


@dataclass(frozen=True, kw_only=True)
class FailedCell:
    """Cell whose last attempt failed."""

    name: CellName
    fingerprint: str
    failure: FailureFile
    again: str
    """The original command with `--retry-failed` added; kept whole so that the cell runs with the same options."""

    def as_dict(self) -> dict[str, object]:
        failure = {"error": self.failure.error, "time": self.failure.time, "trace": self.failure.trace}
        return {**_identity(self.name, self.fingerprint), **failure, "again": self.again}


@dataclass(frozen=True, kw_only=True)
class DivergedCell:
    """Cell whose loss became non-finite; this counts as a result."""

    name: CellName
    fingerprint: str
    result: ResultFile

    def as_dict(self) -> dict[str, object]:
        end = {"time": self.result.time, "epoch": self.result.epoch, "step": self.result.step}
        return {**_identity(self.name, self.fingerprint), **end}


@dataclass(frozen=True, kw_only=True)
class DamagedCell:
    """Cell whose record is damaged; none of it is used."""

    name: CellName
    fingerprint: str
    damage: str
    """Damaged file and violated rule, in one line."""
    remedy: str

    def as_dict(self) -> dict[str, object]:
        return {**_identity(self.name, self.fingerprint), "damage": self.damage, "remedy": self.remedy}


def _identity(name: CellName, fingerprint: str) -> dict[str, object]:
    return {**name._asdict(), "name": str(name), "fingerprint": fingerprint}


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
            again = _again(setting.invocations, asked.fingerprint)
            yield FailedCell(name=name, fingerprint=asked.fingerprint, failure=failure, again=again)
        elif state == "diverged" and (result := record.result()) is not None:
            yield DivergedCell(name=name, fingerprint=asked.fingerprint, result=result)
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
