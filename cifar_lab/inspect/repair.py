"""Repair the problems of a runs folder: nothing is deleted, damaged files move to `damaged/<time>/`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from cifar_lab.errors import TrackingError
from cifar_lab.inspect.cleanup import DAMAGED
from cifar_lab.inspect.fsck import FsckProblem, provable
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.stored_json import write_stored


@dataclass(frozen=True)
class Repaired:
    """One problem and the outcome of its repair."""

    problem: FsckProblem
    left: str | None
    """Reason why it was not repaired; None if it was."""


def new_place(runs: Path) -> Path:
    """Return the folder that this repair moves damaged files to; it is created with the first of them.

    Raises:
        TrackingError: the folder for all repairs cannot be read, or is none.
    """
    if os.path.lexists(runs / DAMAGED) and not (runs / DAMAGED).is_dir():
        raise TrackingError(f"{runs / DAMAGED}: not a folder; move it away, damaged files go there; nothing is mended")
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    place, number = runs / DAMAGED / stamp, 2
    try:
        while place.exists():
            place, number = runs / DAMAGED / f"{stamp}-{number}", number + 1
    except OSError as error:
        raise TrackingError(f"{place.parent}: cannot be read ({error.strerror or error}); nothing is mended") from error
    return place


def repair(problems: Sequence[FsckProblem], runs: Path, place: Path) -> list[Repaired]:
    """Repair what can be repaired; files of `runs` keep their relative path below `place`."""
    return [Repaired(problem, _mend(problem, runs, place)) for problem in problems]


def _mend(problem: FsckProblem, runs: Path, place: Path) -> str | None:
    if problem.mend == "none":
        return "it is left as it is"
    cell = problem.cell
    try:
        with cell.lock().acquire(timeout=0) if cell is not None and _can_be_held(cell) else nullcontext():
            if problem.mend == "rebuild":
                return _rebuild(problem, runs, place)
            for path in problem.files:
                _move(path, runs, place)
    except Timeout:
        return "its cell is trained now"
    except OSError as error:
        return f"it cannot be moved ({error.strerror or error})"
    return None


def _can_be_held(cell: CellRecord) -> bool:
    """Tell whether there is a folder to lock: a file or a broken link may have the cell's name."""
    return cell.folder.is_dir() and not (cell.folder / "lock").is_dir()


def _rebuild(problem: FsckProblem, runs: Path, place: Path) -> str | None:
    """Write `result.json` again, after proving it once more while the cell is locked."""
    assert problem.cell is not None
    copy = provable(problem.cell)
    if copy is None:
        return "what proved it has changed meanwhile"
    _move(problem.path, runs, place)
    write_stored(problem.path, copy)
    return None


def _move(path: Path, runs: Path, place: Path) -> None:
    if not path.exists() and not path.is_symlink():  # moved by the repair of another problem of the same record
        return
    inside = path.relative_to(runs) if path.is_relative_to(runs) else Path(path.name)
    target = place / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
