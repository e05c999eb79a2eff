"""Check a runs folder: every record, note and study file, and the repair of each problem."""

from __future__ import annotations

import errno
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from cifar_lab.errors import CellError, DamageError
from cifar_lab.inspect.cleanup import DAMAGED, IN_USE, SUPERSEDED, loose_leftovers
from cifar_lab.store import cell_owner, checksum, invocation, journal
from cifar_lab.store.cell_record import ENDED, PREDICTIONS, WEIGHTS, CellRecord, State, advice_on_damage
from cifar_lab.store.record_files import ResultFile
from cifar_lab.train import cell_artifacts, checkpoint, resume

Kind = Literal["record", "file", "training", "note", "study", "leftover"]
Mend = Literal["rebuild", "set aside", "move", "none"]
DamageOfStudy = Callable[[Path], str | None]
"""Function that returns the damage of a study's file; None if it is sound. Raises OSError if it cannot be read."""
REBUILT = "written again from the copy in predictions.npz, which predictions, journal and files bear out"
DENIED = os.strerror(errno.EACCES)
SET_ASIDE = "the record is set aside, and the cell is trained anew when it is asked for again"


@dataclass(frozen=True, kw_only=True)
class FsckProblem:
    """One problem in a runs folder."""

    kind: Kind
    path: Path
    """Damaged file, or the folder of a damaged record."""
    what: str
    """Description of the problem."""
    mend: Mend
    """Action of a repair: write the file again, set the whole record aside, move the files away, or nothing."""
    words: str
    """Sentence on what a repair does or the user can do."""
    files: tuple[Path, ...] = ()
    """Files that a repair moves."""
    cell: CellRecord | None = None

    @property
    def is_damage(self) -> bool:
        """True unless the problem is a harmless leftover."""
        return self.kind != "leftover"

    def as_dict(self) -> dict[str, Any]:
        fingerprint = self.cell.fingerprint if self.cell is not None else None
        named = {"kind": self.kind, "path": str(self.path), "fingerprint": fingerprint, "what": self.what}
        return {**named, "mend": self.mend, "words": self.words, "damage": self.is_damage}


@dataclass(frozen=True, kw_only=True)
class FsckReport:
    """Result of checking a runs folder."""

    problems: tuple[FsckProblem, ...]
    cells: int
    running: int
    """Number of cells being trained; only their JSON files are read."""
    notes: int
    unasked: int
    """Number of cells that no note asks for: no damage, but no study shows them."""
    unsealed: int
    """Number of cells of an earlier version, whose records have no checksums."""

    @property
    def damage(self) -> tuple[FsckProblem, ...]:
        return tuple(problem for problem in self.problems if problem.is_damage)

    def of_packed_study(self, *, has_predictions: bool) -> FsckReport:
        """Return the findings of a packed study: weights that are not there were left out, predictions may be."""
        left_out = {WEIGHTS} if has_predictions else {WEIGHTS, PREDICTIONS}
        left = [each for each in self.problems if each.path.name not in left_out or os.path.lexists(each.path)]
        return replace(self, problems=tuple(left))

    def as_dict(self) -> dict[str, Any]:
        counts = {"cells": self.cells, "running": self.running, "invocations": self.notes}
        counts |= {"unasked": self.unasked, "unsealed": self.unsealed}
        return {**counts, "problems": [problem.as_dict() for problem in self.problems]}


def check_runs(runs: Path, damage_of_study: DamageOfStudy = lambda _: None) -> FsckReport:
    """Check everything in `runs` without writing. Files of studies are checked by `damage_of_study`."""
    records = [CellRecord(path) for path in sorted(runs.iterdir()) if re.fullmatch("[0-9a-f]{64}", path.name)]
    states = {record: record.state() for record in records}
    problems = [problem for record, state in states.items() for problem in _of_record(record, state)]
    problems += [*_folders(runs), *_notes(runs), *_studies(runs, damage_of_study), *_loose(runs)]
    return FsckReport(
        problems=tuple(map(_left_to_its_owner, problems)),
        cells=len(records),
        running=list(states.values()).count("running"),
        notes=len(_note_paths(runs)),
        unasked=len({record.fingerprint for record in records} - _asked_for(runs)),
        unsealed=sum(checksum.lacks_checksum(record.folder / "cell.json") for record in records),
    )


def _left_to_its_owner(problem: FsckProblem) -> FsckProblem:
    """Return a problem that is mended by a right to read, and not by a repair: nothing shows that it is damaged."""
    if DENIED not in problem.what:
        return problem
    words = f"make it readable: `chmod -R u+rwX {shlex.quote(str(problem.path))}`"
    return replace(problem, mend="none", words=words, files=())


def _folders(runs: Path) -> Iterator[FsckProblem]:
    """Check that nothing but a folder has the name of one that a redo or a repair moves files to."""
    for path, words in ((runs / SUPERSEDED, "moved away"), (runs / DAMAGED, "move it away: a repair needs its place")):
        if os.path.lexists(path) and not path.is_dir():
            mend: Mend = "move" if path.name == SUPERSEDED else "none"
            yield FsckProblem(
                kind="file", path=path, what="damaged: not a folder", mend=mend, words=words, files=(path,)
            )


def _of_record(record: CellRecord, state: State) -> Iterator[FsckProblem]:
    try:
        record.require_folder()
    except DamageError as error:
        rule = str(error).removeprefix(f"{record.folder}: ")
        words = "moved away; the cell is trained anew when it is asked for again"
        yield FsckProblem(kind="record", path=record.folder, what=rule, mend="move", words=words,
        files=(record.folder,),
                      cell=record)  # fmt: skip
        return
    if state == "running":
        return
    if state == "damaged":
        yield from _damaged(record)
    elif state in ENDED:
        yield from _of_finished(record)
    else:
        yield from _of_unfinished(record)
    partials = sorted(record.folder.glob(".*.partial"))
    yield from (_leftover(path, "half written by a process that is gone", record) for path in partials)
    if state != "damaged" and (record.folder / cell_owner.FILE).exists():
        yield _leftover(record.folder / cell_owner.FILE, "its owner is gone", record)


def _damaged(record: CellRecord) -> Iterator[FsckProblem]:
    """Yield a problem for each damaged JSON file, or only the one that requires setting the whole record aside."""
    whole: list[tuple[Path, str]] = []
    alone: list[tuple[Path, str]] = []
    for name, read in (("result.json", record.result), ("cell.json", record.cell), ("cell.json", record.ended),
                       ("failure.json", record.failure), (cell_owner.FILE, record.owner)):  # fmt: skip
        try:
            read()
        except DamageError as error:
            if not str(error).startswith(f"{record.folder / name}: "):  # another file, reported separately
                continue
            rule = str(error).removeprefix(f"{record.folder / name}: ")
            if (record.folder / name, rule) in whole:
                continue
            (whole if name in {"result.json", "cell.json"} else alone).append((record.folder / name, rule))
    for path, rule in whole[:1]:
        is_provable = len(whole) == 1 and path.name == "result.json" and provable(record) is not None
        mend: Mend = "rebuild" if is_provable else "set aside"
        words, file = (REBUILT, path) if is_provable else (SET_ASIDE, record.folder)
        yield FsckProblem(kind="record", path=path, what=rule, mend=mend, words=words, files=(file,), cell=record)
    for path, rule in alone if not whole else ():
        words = "moved away; nothing of the training depends on it"
        yield FsckProblem(kind="record", path=path, what=rule, mend="move", words=words, files=(path,), cell=record)


def provable(record: CellRecord) -> ResultFile | None:
    """Return the content of `result.json` from the copy in the predictions, if everything confirms it; else None.

    The copy must have its original checksum, its accuracy must be that of the predictions, every file beside it must
    match its checksum, and the journal must be complete.
    """
    try:
        copy = cell_artifacts.read_copy(record)
        if copy is None or record.cell() is None or journal.damaged_lines(record.folder):
            return None
        digests = record.digests()
    except (DamageError, OSError):
        return None
    return copy if copy.files == digests else None


def _of_finished(record: CellRecord) -> Iterator[FsckProblem]:
    result = record.result()
    if result is None:  # set aside meanwhile
        return
    words = (
        f"the number stands, what reads this file refuses it; {advice_on_damage(record.fingerprint).partition(', ')[2]}"
    )
    for path in (record.weights, record.predictions, record.confusion, record.code_diff, record.journal):
        rule = _rule(record, path, is_vouched=path.name in result.files)
        if rule is not None:
            yield FsckProblem(kind="file", path=path, what=rule, mend="none", words=words, cell=record)
    rule = _other_accuracy(record, result)
    if rule is not None:
        yield FsckProblem(
            kind="record", path=record.folder / "result.json", what=rule, mend="set aside", words=SET_ASIDE,
            files=(record.folder,), cell=record,
        )  # fmt: skip


def _rule(record: CellRecord, path: Path, *, is_vouched: bool) -> str | None:
    """Return the problem of a file of a finished cell; a file of an earlier version need only be readable."""
    try:
        record.require_sound(path)
        if is_vouched or not path.exists():
            return None
        if path == record.predictions:
            cell_artifacts.read_predictions(record)
        elif path == record.weights:
            with safe_open(path, framework="numpy") as file:
                file.keys()
        elif path == record.journal and (lines := journal.damaged_lines(record.folder)):
            return f"damaged: {lines[0]}"
    except DamageError as error:
        return str(error).removeprefix(f"{path}: ")
    except (SafetensorError, OSError) as error:
        return f"cannot be read ({error})"
    return None


def _other_accuracy(record: CellRecord, result: ResultFile) -> str | None:
    """Describe a difference of the accuracy from the predictions'; the only check of records without checksums."""
    told = result.metrics.get("test/acc")
    if told is None or not record.predictions.exists():
        return None
    try:
        predictions, labels = cell_artifacts.read_predictions(record)
    except DamageError:  # reported separately
        return None
    accuracy = float((predictions == labels).mean())
    if abs(accuracy - told) <= cell_artifacts.SAME_ACCURACY:
        return None
    return f"damaged: test/acc is {told:.4f}, and its predictions come to {accuracy:.4f}"


def _of_unfinished(record: CellRecord) -> Iterator[FsckProblem]:
    """Check the files that training resumes from; a cell that ended and lost its result may still be provable."""
    if not record.checkpoint.exists() and record.predictions.exists() and provable(record) is not None:
        path = record.folder / "result.json"
        what = "not there, although the cell has ended"
        yield FsckProblem(
            kind="record", path=path, what=what, mend="rebuild", words=REBUILT, files=(path,), cell=record
        )
        return
    state, rules = None, {}
    try:
        state = checkpoint.load_checkpoint(record.checkpoint, record.fingerprint)
    except CellError as error:
        rules[record.checkpoint] = str(error).removeprefix(f"{record.checkpoint}: ")
    if (bad := resume.journal_damage(record, state)) is not None:
        rules[record.journal] = f"damaged: {bad}"
    for path in record.obstacles():
        words = "moved away; the training writes its own"
        what = "cannot be read (not a regular file)"
        yield FsckProblem(kind="training", path=path, what=what, mend="move", words=words, files=(path,), cell=record)
    files = tuple(path for path in (record.checkpoint, record.journal) if path.exists())
    for path, rule in rules.items():
        words = "checkpoint and journal are moved away, and the cell begins anew when it is asked for again"
        yield FsckProblem(kind="training", path=path, what=rule, mend="move", words=words, files=files, cell=record)


def _note_paths(runs: Path) -> list[Path]:
    """Return the paths of the notes; empty if their folder cannot be read, which is reported separately."""
    try:
        return invocation.invocation_paths(runs)
    except DamageError:
        return []


def _asked_for(runs: Path) -> set[str]:
    """Return the fingerprints of the cells that any note asks for."""
    asked = set()
    for path in _note_paths(runs):
        with suppress(DamageError):  # reported separately
            note = invocation.read_invocation(path)
            asked |= {cell.fingerprint for cell in note.cells} if note is not None else set()
    return asked


def _notes(runs: Path) -> Iterator[FsckProblem]:
    try:
        paths = invocation.invocation_paths(runs)
    except DamageError as error:
        path = runs / invocation.FOLDER
        words = "make it a folder that can be read, or bring back a copy"
        rule = str(error).removeprefix(f"{path}: ")
        yield FsckProblem(kind="note", path=path, what=rule, mend="none", words=words)
        return
    for path in paths:
        try:
            invocation.read_invocation(path)
        except DamageError as error:
            words = "moved away; the command that asked for its cells, typed again, writes another one"
            rule = str(error).removeprefix(f"{path}: ")
            yield FsckProblem(kind="note", path=path, what=rule, mend="move", words=words, files=(path,))


def _studies(runs: Path, damage_of_study: DamageOfStudy) -> Iterator[FsckProblem]:
    for path in sorted(runs.glob("*.journal")):
        try:
            rule = damage_of_study(path)
        except OSError as error:
            rule = f"cannot be read ({error.strerror or error})"
        if rule is not None:
            words = "bring back a copy, or move it away and begin the studies anew"
            yield FsckProblem(kind="study", path=path, what=rule, mend="none", words=words)


def _loose(runs: Path) -> Iterator[FsckProblem]:
    old = time.time() - IN_USE
    for path in loose_leftovers(runs):
        if path.lstat().st_mtime < old:
            yield _leftover(path, "half written by a process that is gone", None)


def _leftover(path: Path, what: str, cell: CellRecord | None) -> FsckProblem:
    return FsckProblem(kind="leftover", path=path, what=what, mend="move", words="moved away", files=(path,), cell=cell)
