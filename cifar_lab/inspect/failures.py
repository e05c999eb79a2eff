"""Failed, diverged and damaged cells of a setting, and the commands that retry them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.store.cell_record import CellRecord, advice_on_damage
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.record_files import FailureFile, ResultFile
from cifar_lab.store.selection import CellName, Selection, select


@dataclass(frozen=True, kw_only=True)
class BadCell:
    """Cell that has no usable number."""

    name: CellName
    fingerprint: str

    def as_dict(self) -> dict[str, object]:
        """Return the names of the cell, and what is to be known about its end."""
        return {**self.name._asdict(), "name": str(self.name), "fingerprint": self.fingerprint}


@dataclass(frozen=True, kw_only=True)
class FailedCell(BadCell):
    """Cell whose last attempt failed."""

    failure: FailureFile
    again: str
    """The original command with `--retry-failed` added; kept whole so that the cell runs with the same options."""

    def as_dict(self) -> dict[str, object]:
        failure = {"error": self.failure.error, "time": self.failure.time, "trace": self.failure.trace}
        return {**super().as_dict(), **failure, "again": self.again}


@dataclass(frozen=True, kw_only=True)
class DivergedCell(BadCell):
    """Cell whose loss became non-finite; this counts as a result."""

    result: ResultFile

    def as_dict(self) -> dict[str, object]:
        end = {"time": self.result.time, "epoch": self.result.epoch, "step": self.result.step}
        return {**super().as_dict(), **end}


@dataclass(frozen=True, kw_only=True)
class DamagedCell(BadCell):
    """Cell whose record is damaged; none of it is used."""

    damage: str
    """Damaged file and violated rule, in one line."""
    remedy: str

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "damage": self.damage, "remedy": self.remedy}


def read_failures(settings: Iterable[Selection], runs: Path) -> list[BadCell]:
    """Return the failed, diverged and damaged cells of `settings`, each once, under its name in the latest setting."""
    return list({bad.fingerprint: bad for setting in settings for bad in _of(setting, runs)}.values())


def failures_elsewhere(setting: Selection, runs: Path) -> list[tuple[Invocation, int]]:
    """Return the other settings with failed or damaged cells, by latest invocation, and how many such cells each has.

    Cells that `setting` has, too, are not counted.
    """
    own, counted = {cell.fingerprint for cell in setting.cells}, []
    for other in setting.others:
        bad = read_failures([select(runs, other.ablation, invocation=other.id)], runs)
        count = sum(isinstance(each, FailedCell | DamagedCell) and each.fingerprint not in own for each in bad)
        counted += [(other, count)] if count else []
    return counted


def _of(setting: Selection, runs: Path) -> Iterator[BadCell]:
    latest = {cell.fingerprint: asked for asked in setting.invocations for cell in asked.cells}
    for asked in setting.cells:
        name = CellName(setting.latest.ablation, asked.variant, asked.seed)
        content = CellRecord(runs / asked.fingerprint).read()
        if content.state == "failed" and content.failure is not None:
            again = _retry_command(latest[asked.fingerprint])
            yield FailedCell(name=name, fingerprint=asked.fingerprint, failure=content.failure, again=again)
        elif content.state == "diverged" and content.result is not None:
            yield DivergedCell(name=name, fingerprint=asked.fingerprint, result=content.result)
        elif content.damage is not None:
            remedy = advice_on_damage(asked.fingerprint)
            yield DamagedCell(name=name, fingerprint=asked.fingerprint, damage=content.damage, remedy=remedy)


def _retry_command(latest: Invocation) -> str:
    """Return the command of the latest invocation with a cell that trains it again, if it failed."""
    if latest.retry:
        return latest.retry
    flag = " --retry-failed" if latest.command.startswith("cifar-lab run-ablation ") else ""
    return latest.command + flag  # an older note has no other command than the one that was typed
