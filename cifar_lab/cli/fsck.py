"""`fsck`: check a runs folder, and repair it on request."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.inspect.fsck import FsckProblem, FsckReport
    from cifar_lab.inspect.repair import Repaired

Repair = Annotated[bool, typer.Option("--repair", help="Repair what can be repaired; damaged files move to damaged/.")]
NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Do not check what MLflow lacks.")]


def fsck(
    repair: Repair = False, no_mlflow: NoMlflow = False, runs: o.RunsFolderUnopened = o.DEFAULT_RUNS,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Check every record, note and study in a runs folder; exit code 1 when something is damaged and not repaired.

    Checks checksums, journals, checkpoints, files beside results, notes of invocations, files of studies, and leftovers
    of killed processes. Without --repair nothing is changed. With it nothing is deleted: damaged files move to
    `damaged/<time>/` in the runs folder, a result that its predictions and journal prove is written again, and a cell
    that lost its result is trained anew by the next command that asks for it. A packed study is checked, not repaired:
    weights and predictions that were not packed are no damage of it.
    """
    from cifar_lab.errors import UsageError
    from cifar_lab.inspect import fsck as checks
    from cifar_lab.inspect import repair as repairs
    from cifar_lab.store.packed_study import has_predictions

    is_packed = runs.is_file()
    if is_packed and repair:
        o.require_folder(runs)
    folder = o.open_records(runs).resolve()
    if not is_packed:
        o.require_runs(runs)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UsageError(f"--runs {runs}: cannot be read (Permission denied)")
    found = checks.check_runs(folder, _damage_of_study)
    if is_packed:
        found = found.of_packed_study(has_predictions=has_predictions(runs))
    place = repairs.new_place(folder) if repair else None
    done = repairs.repair(found.problems, folder, place) if place is not None else []
    lacks = {} if no_mlflow or is_packed else _lacks(folder)
    damaged = [each for each in done if each.problem.is_damage and each.left] if repair else list(found.damage)
    if as_json:
        console.print_json(_tree(found, done, lacks, place if place is not None and place.exists() else None))
    else:
        for part in _parts(found, done, lacks, folder, place):
            console.out.print(part, soft_wrap=isinstance(part, Text))  # lines stay whole, tables fit
    return 1 if damaged else 0


def _damage_of_study(path: Path) -> str | None:
    from cifar_lab.search.journal_file import first_damage

    rule = first_damage(path)
    return None if rule is None else f"damaged: {rule}"


def _lacks(runs: Path) -> dict[str, int]:
    """Count by ablation the ended cells that MLflow lacks; an unavailable store is reported."""
    from cifar_lab.errors import CifarLabError
    from cifar_lab.mlflow_sync.upload import lacking

    try:
        return lacking(runs)
    except CifarLabError as error:
        console.say(f"MLflow was not asked: {error}")
        return {}


def _tree(found: FsckReport, done: list[Repaired], lacks: dict[str, int], place: Path | None) -> dict[str, Any]:
    left = {id(each.problem): each.left for each in done}
    problems = [
        {
            **problem.as_dict(),
            "repaired": id(problem) in left and left[id(problem)] is None,
            "left": left.get(id(problem)),
        }
        for problem in found.problems
    ]
    moved = str(place) if place is not None else None
    return {**found.as_dict(), "problems": problems, "moved_to": moved, "mlflow_lacks": lacks}


def _parts(
    found: FsckReport, done: list[Repaired], lacks: dict[str, int], runs: Path, place: Path | None
) -> Iterator[RenderableType]:
    if found.problems:
        yield _table(found.problems, runs)
        yield Text()
    outcomes = {id(each.problem): each.left for each in done}
    for problem in found.problems:
        where = _where(problem, runs)
        if not done:
            yield Text(f"{where}: {'with --repair ' if problem.mend != 'none' else ''}{problem.words}")
        elif (left := outcomes[id(problem)]) is None:
            yield Text(f"{where}: {problem.words}", style="green")
        else:
            yield Text(f"{where}: {left}; {problem.words}" if problem.mend == "none" else f"{where}: {left}")
    if found.problems:
        yield Text()
    if place is not None and place.exists():
        yield Text(f"what was moved is in {place}")
    if found.unsealed:
        cells = many(found.unsealed, "cell")
        yield Text(f"{cells} of an earlier version without checksums: only a changed accuracy or curve can be noticed")
    if found.unasked:
        yield Text(f"{many(found.unasked, 'cell')} that no note asks for: no study shows them")
    if found.running:
        yield Text(f"{many(found.running, 'cell')} trained now: not checked")
    for ablation, count in lacks.items():
        yield Text(f"MLflow lacks {many(count, 'cell')} of {ablation}: `cifar-lab sync` ships them")
    yield _total(found, done)


def _total(found: FsckReport, done: list[Repaired]) -> Text:
    looked = f"{many(found.cells, 'cell')} and {many(found.notes, 'invocation')} checked"
    leftovers = len(found.problems) - len(found.damage)
    parts = [f"{len(found.damage)} damaged"] if found.damage else ["nothing is damaged"]
    parts += [many(leftovers, "leftover")] if leftovers else []
    if done:
        mended = sum(each.left is None for each in done)
        parts.append(f"{mended} of {len(done)} mended")
    is_bad = any(each.left for each in done if each.problem.is_damage) if done else bool(found.damage)
    return Text(f"{looked}: {', '.join(parts)}", style="bold red" if is_bad else "bold")


def _table(problems: tuple[FsckProblem, ...], runs: Path) -> RenderableType:
    known, rows = _names(runs), []
    for problem in problems:
        fingerprint = problem.cell.fingerprint if problem.cell is not None else ""
        cell = " ".join([*map(str, known.get(fingerprint, ())[:1]), fingerprint[:12]]).strip()
        file = "" if problem.path.name == fingerprint else problem.path.name
        rows.append((problem.kind, cell, file, problem.what.removeprefix("damaged: ")))
    return console.table("", ("what", "cell", "file", "what is wrong"), rows)


def _names(runs: Path) -> Mapping[str, Sequence[object]]:
    """Return the names of each cell in the notes; empty if these are unreadable, which is reported separately."""
    from cifar_lab.errors import DamageError
    from cifar_lab.store.selection import cell_names

    try:
        return cell_names(runs)
    except DamageError:
        return {}


def _where(problem: FsckProblem, runs: Path) -> str:
    where = str(problem.path.relative_to(runs) if problem.path.is_relative_to(runs) else problem.path)
    return where if problem.cell is None else where.replace(problem.cell.fingerprint, problem.cell.fingerprint[:12])
