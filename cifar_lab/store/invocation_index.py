"""Index of the invocations of a runs folder: every note is read once, and again only if its file changes."""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cifar_lab.errors import DamageError
from cifar_lab.store.comparison_key import ComparisonKey
from cifar_lab.store.invocation import CellRef, Invocation, invocation_paths, read_invocation

SETTLED_AFTER = 0.1
"""Age in seconds of a file's last change from which its size and times identify its content.

A younger file may change again within one tick of the file system's clock, and is read anew each time.
"""
_log = logging.getLogger(__name__)
FileVersion = tuple[int, int, int, int]
"""Size, times of the last change of content and status in ns, and inode of a file."""


@dataclass(frozen=True)
class _Note:
    """Content of one note, or its damage."""

    version: FileVersion
    content: Invocation | DamageError


_notes: dict[Path, _Note] = {}
_indexes: dict[Path, tuple[tuple[_Note, ...], InvocationIndex]] = {}


@dataclass(frozen=True)
class InvocationIndex:
    """Invocations of a runs folder, the oldest first, and the damage of notes that cannot be read."""

    invocations: tuple[Invocation, ...] = ()
    damage: Mapping[Path, DamageError] = field(default_factory=dict)
    """Damage by path of the note."""

    @cached_property
    def _by_id(self) -> dict[str, Invocation]:
        return {invocation.id: invocation for invocation in self.invocations}

    @cached_property
    def by_key(self) -> dict[ComparisonKey, list[Invocation]]:
        """Return the invocations by comparison key; keys in the order of their first invocation."""
        groups: dict[ComparisonKey, list[Invocation]] = {}
        for invocation in self.invocations:
            groups.setdefault(invocation.key, []).append(invocation)
        return groups

    @cached_property
    def _by_fingerprint(self) -> dict[str, list[tuple[Invocation, CellRef]]]:
        groups: dict[str, list[tuple[Invocation, CellRef]]] = {}
        for invocation in self.invocations:
            for cell in invocation.cells:
                groups.setdefault(cell.fingerprint, []).append((invocation, cell))
        return groups

    def find(self, id: str) -> Invocation | None:
        """Return the invocation with this id; None if there is no readable one."""
        return self._by_id.get(id)

    def of_ablation(self, ablation: str) -> list[Invocation]:
        """Return the invocations of one ablation."""
        return [invocation for invocation in self.invocations if invocation.ablation == ablation]

    def with_key(self, key: ComparisonKey) -> list[Invocation]:
        """Return the invocations with this comparison key."""
        return list(self.by_key.get(key, ()))

    def requests(self, fingerprint: str) -> list[tuple[Invocation, CellRef]]:
        """Return every request for a cell: the invocation and its entry for the cell."""
        return list(self._by_fingerprint.get(fingerprint, ()))

    @property
    def fingerprints(self) -> Iterable[str]:
        """Return the fingerprints of all cells that were requested."""
        return self._by_fingerprint.keys()

    def damage_of(self, ablation: str) -> list[DamageError]:
        """Return the damage of the notes whose file name has this ablation."""
        return [error for path, error in self.damage.items() if path.stem.partition("-")[2] == ablation]


def read_index(runs: Path) -> InvocationIndex:
    """Return the index of `runs`; damaged notes are left out, with a warning.

    Raises:
        DamageError: the folder of the notes cannot be read.
    """
    index = _index(runs)
    for error in index.damage.values():
        _log.warning("warning: %s; the others are read (`cifar-lab fsck`)", error)
    return index


def _index(runs: Path) -> InvocationIndex:
    paths, before = invocation_paths(runs), None
    notes: dict[Path, _Note] = {}
    for path in paths:
        if (note := _note(path, before)) is not None:
            notes[path] = note
            before = note.content if isinstance(note.content, Invocation) else before
    earlier = _indexes.get(runs)
    if earlier is not None and len(earlier[0]) == len(notes) and all(map(operator.is_, earlier[0], notes.values())):
        return earlier[1]
    contents = {path: note.content for path, note in notes.items()}
    index = InvocationIndex(
        tuple(content for content in contents.values() if isinstance(content, Invocation)),
        {path: content for path, content in contents.items() if isinstance(content, DamageError)},
    )
    _indexes[runs] = (tuple(notes.values()), index)
    return index


def _note(path: Path, before: Invocation | None = None) -> _Note | None:
    """Return a note as it was read before, if its file has not changed since; None if it is gone.

    `before`: the note before it. Runners of one study ask for the same cells, which are kept in memory once.
    """
    version = _version(path)
    kept = _notes.get(path)
    if kept is not None and kept.version == version:
        return kept
    try:
        content: Invocation | DamageError | None = read_invocation(path)
    except DamageError as error:
        content = error
    if content is None:
        return None
    if isinstance(content, Invocation) and before is not None and content.cells == before.cells:
        object.__setattr__(content, "cells", before.cells)  # nobody else has it yet
    note = _Note(version, content) if version is not None else _Note((0, 0, 0, 0), content)
    if version is not None and isinstance(content, Invocation) and _is_settled(version):
        _notes[path] = note
    return note


def _version(path: Path) -> FileVersion | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _is_settled(version: FileVersion) -> bool:
    _, modified, changed, _ = version
    return time.time() - max(modified, changed) / 1e9 > SETTLED_AFTER
