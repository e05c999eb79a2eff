"""Append-only journal of one cell: one JSON object per line, in order of time.

    {"event": "start",      "time": ms, "execution": {…}, "provenance": {…}}
    {"event": "points",     "time": ms, "epoch": 3, "values": {"val/acc": 0.71, …}}
    {"event": "checkpoint", "time": ms, "epoch": 3, "step": 0}
    {"event": "resume",     "time": ms, "epoch": 3, "step": 0}
    {"event": "failed",     "time": ms, "trace": "…"}
    {"event": "eager",      "time": ms, "why": "no CUDA graph although one was asked for, because …"}
    {"event": "teachers",   "time": ms, "cells": ["3f2a…", …], "compiled": false}
    {"event": "torn",       "time": ms}             the line before was torn by a kill
    {"event": "damaged",    "time": ms, "file": "checkpoint.pt", "kept": "checkpoint.pt.damaged", "why": "…"}
    {"event": "end",        "time": ms, "status": "finished"}

Each line carries the first digits of its checksum as `sha256` (see `store.checksum`). A line with another checksum, or
that cannot be read, is damaged: it is never used, and `JournalReader.damage` names it. A last line without a line end
was torn by a kill and does not count; the next writer ends it and records that in a line of its own. Lines of earlier
versions carry no checksum.

Points count once a checkpoint follows them: those of a lost epoch are written again when it is trained again. `start`
begins from scratch, `resume` after `epoch`: points beyond that no longer count.

Times never decrease within a journal, and their differences are durations: the wall clock is read when a writer begins,
and a monotonic clock measures from there.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cifar_lab.errors import DamageError
from cifar_lab.store import checksum
from cifar_lab.store.journal_events import (
    AttemptEvent,
    CheckpointEvent,
    EndEvent,
    JournalEvent,
    PointsEvent,
    ResumeEvent,
    parse_event,
)

FILE = "journal.jsonl"
DIGITS = 16
"""Number of hexadecimal digits of a line's checksum."""


class JournalPoint(NamedTuple):
    """Metrics of one epoch (counted from 1), with the time in ms at which they were written."""

    epoch: int
    time: int
    values: dict[str, float]


class Journal:
    """Writer of one cell's journal. One at a time: the holder of the cell's lock."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        reader = JournalReader(folder)
        reader.events()
        self._began = max(time.time_ns() // 1_000_000, reader.latest_written or 0)
        self._clock = time.monotonic()
        self._end_torn_line()

    def now(self) -> int:
        """Return the time in ms that the next line would have."""
        return self._began + round(1000 * (time.monotonic() - self._clock))

    def write(self, event: str, **fields: object) -> None:
        """Append one event with the time, and force it to the disk."""
        self._append(self._line(event, **fields))

    def points(self, epoch: int, values: dict[str, float]) -> None:
        """Append the metrics of `epoch`, without non-finite ones, which JSON cannot represent."""
        self.write("points", epoch=epoch, values={k: v for k, v in values.items() if math.isfinite(v)})

    def _line(self, event: str, **fields: object) -> bytes:
        tree = checksum.seal({"event": event, "time": self.now(), **fields}, DIGITS)
        return json.dumps(tree).encode() + b"\n"

    def _append(self, text: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _end_torn_line(self) -> None:
        """End a last line that a kill left without an end; record that it is torn unless only the end is missing."""
        last = self._path.read_bytes().rpartition(b"\n")[2] if self._path.exists() else b""
        if last:
            whole = not isinstance(_parsed(last), str)
            self._append(b"\n" if whole else b"\n" + self._line("torn"))


@dataclass
class JournalReader:
    """Incremental reader of one cell's journal; `poll` returns the points that were confirmed since."""

    folder: Path
    began: int | None = None
    """Time of the start that the confirmed points belong to; after another start all points come again."""
    attempted: int | None = None
    """Time of the latest start or resume."""
    latest: int | None = None
    """Time of the last event read by `poll`."""
    latest_written: int | None = None
    """Time of the last event read."""
    _offset: int = 0
    _inode: int | None = None
    _lines: int = 0
    _damage: list[str] = field(default_factory=list)
    _suspect: str | None = None
    _pending: dict[int, JournalPoint] = field(default_factory=dict)
    _stood: bool = False
    _told: int = 0

    @property
    def damage(self) -> list[str]:
        """Damaged lines read so far, each as `line 7: not JSON`; they are not used."""
        return [*self._damage, *([self._suspect] if self._suspect is not None else [])]

    @property
    def pending(self) -> list[JournalPoint]:
        """Points not yet followed by a checkpoint, in order of epoch."""
        return [self._pending[epoch] for epoch in sorted(self._pending)]

    def events(self) -> list[JournalEvent]:
        """Return the valid lines written since the last call.

        Raises:
            DamageError: the journal cannot be read.
        """
        path = self.folder / FILE
        try:
            with checksum.open_regular(path) as file:
                self._notice_another(os.fstat(file.fileno()))
                file.seek(self._offset)
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise DamageError(f"{path}: cannot be read ({error.strerror or error})") from error
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [event for line in whole.split(b"\n")[:-1] if (event := self._read(line)) is not None]

    def poll(self) -> list[JournalPoint]:
        """Return the points that were confirmed by a checkpoint since the last call, in order of epoch."""
        standing: list[JournalPoint] = []
        for event in self.events():
            self.latest = event.time
            if isinstance(event, PointsEvent):
                self._pending[event.epoch] = JournalPoint(event.epoch, event.time, event.values)
            elif isinstance(event, AttemptEvent):
                standing = self._go_back(event, standing)
            elif isinstance(event, CheckpointEvent | EndEvent):
                last = event.epoch if isinstance(event, CheckpointEvent) else math.inf
                stand = [epoch for epoch in sorted(self._pending) if epoch <= last]
                standing += [self._pending.pop(epoch) for epoch in stand]
                self._stood = self._stood or bool(stand)
        return standing

    def written(self) -> list[JournalPoint]:
        """Return the points written since the last call, each epoch once, confirmed by a checkpoint or not.

        A lost epoch is trained again with the same numbers, so a viewer need not wait for a checkpoint. Call either
        this or `poll` on a reader, not both: each consumes the lines that it reads.
        """
        news = []
        for event in self.events():
            if isinstance(event, PointsEvent) and event.epoch > self._told:
                news.append(JournalPoint(event.epoch, event.time, event.values))
                self._told = event.epoch
        return news

    def _notice_another(self, status: os.stat_result) -> None:
        """Start over if another file has replaced the journal, because a damaged one was set aside."""
        if (self._inode is not None and status.st_ino != self._inode) or status.st_size < self._offset:
            self._offset, self._lines, self._told, self.began, self._stood = 0, 0, 0, None, False
            self._pending.clear()
            self._damage.clear()
            self._suspect = None
        self._inode = status.st_ino

    def _read(self, line: bytes) -> JournalEvent | None:
        """Return the event of one complete line; None if it is damaged or torn."""
        self._lines += 1
        parsed = _parsed(line)
        self._settle(parsed)
        if isinstance(parsed, str):
            self._suspect = f"line {self._lines}: {parsed}"
            return None
        self.latest_written = parsed.event.time
        return parsed.event

    def _settle(self, parsed: _Line | str) -> None:
        """Classify a bad line before: torn if this line says so or carries no checksum, else damaged."""
        if self._suspect is None:
            return
        is_torn = not isinstance(parsed, str) and (parsed.event.kind == "torn" or not parsed.is_sealed)
        if not is_torn or checksum.CHANGED in self._suspect:
            self._damage.append(self._suspect)
        self._suspect = None

    def _go_back(self, event: AttemptEvent, standing: list[JournalPoint]) -> list[JournalPoint]:
        """Begin an attempt; return the points of `standing` up to the epoch from which it resumes."""
        self._pending.clear()
        self.attempted = event.time
        if isinstance(event, ResumeEvent):
            return [point for point in standing if point.epoch <= event.epoch]
        if self.began is None or self._stood:
            self.began, self._stood = event.time, False
        return []


def read_points(folder: Path) -> list[JournalPoint]:
    """Return every confirmed point of a cell, one per epoch, in order.

    Raises:
        DamageError: a line of the journal is damaged; a curve with missing points would be wrong.
    """
    reader = JournalReader(folder)
    points = list({point.epoch: point for point in reader.poll()}.values())
    if reader.damage:
        raise DamageError(f"{folder / FILE}: damaged: {reader.damage[0]}")
    return points


def read_events(folder: Path) -> list[JournalEvent]:
    """Return every event of a cell from its valid lines."""
    return JournalReader(folder).events()


def damaged_lines(folder: Path) -> list[str]:
    """Return the damaged lines of a cell's journal, each as `line 7: not JSON`."""
    reader = JournalReader(folder)
    reader.events()
    return reader.damage


class _Line(NamedTuple):
    """Valid line of a journal."""

    event: JournalEvent
    is_sealed: bool
    """True if the line carries its checksum."""


def _parsed(line: bytes) -> _Line | str:
    """Return a line's event, or the rule that the line violates."""
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(tree, dict):
        return "not an object"
    rest = checksum.unseal(tree, DIGITS)
    if rest is None:
        return checksum.CHANGED
    event = parse_event(rest)
    return event if isinstance(event, str) else _Line(event, checksum.is_sealed(tree))
