"""The append-only record of one cell: a JSON object a line, in the order in which things happened.

    {"event": "start",      "time": ms, "execution": {…}, "provenance": {…}}
    {"event": "points",     "time": ms, "epoch": 3, "values": {"val/acc": 0.71, …}}
    {"event": "checkpoint", "time": ms, "epoch": 3, "step": 0}
    {"event": "resume",     "time": ms, "epoch": 3, "step": 0}
    {"event": "failed",     "time": ms, "trace": "…"}
    {"event": "eager",      "time": ms, "why": "no CUDA graph although one was asked for, because …"}
    {"event": "end",        "time": ms, "status": "finished"}

Points count once a checkpoint stands behind them: those of an epoch that was lost are written again when it
is trained again. `start` begins from nothing, `resume` after `epoch`: what stood beyond that counts no more.
A line torn by a kill is passed over.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

FILE = "journal.jsonl"


class Point(NamedTuple):
    """The metrics of one epoch (counted from 1), with the time in ms at which they were written."""

    epoch: int
    time: int
    values: dict[str, float]


class Journal:
    """Appends to the journal of one cell. One writer at a time: the holder of the cell's lock."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._end_torn_line()

    def write(self, event: str, **fields: object) -> None:
        """Append one event, stamped with the time, and force it to the disk."""
        line = json.dumps({"event": event, "time": time.time_ns() // 1_000_000, **fields}, allow_nan=False)
        with self._path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def points(self, epoch: int, values: dict[str, float]) -> None:
        """Append the metrics of `epoch`. What is not finite is left out: JSON has no word for it."""
        self.write("points", epoch=epoch, values={k: v for k, v in values.items() if math.isfinite(v)})

    def _end_torn_line(self) -> None:
        if self._path.exists():
            with self._path.open("rb+") as file:
                if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")


@dataclass
class Reader:
    """Reads the journal of one cell as it grows; `poll` returns what has come to stand since."""

    folder: Path
    began: int | None = None
    """Time of the start that the standing points come from: another one means that they all came anew."""
    attempted: int | None = None
    """Time of the latest start or resume."""
    latest: int | None = None
    """Time of the last event read."""
    _offset: int = 0
    _pending: dict[int, Point] = field(default_factory=dict)
    _stood: bool = False
    _told: int = 0

    def events(self) -> list[dict[str, Any]]:
        """The whole lines written since the last call."""
        path = self.folder / FILE
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [event for line in whole.splitlines() if (event := _parsed(line)) is not None]

    def poll(self) -> list[Point]:
        """The points that a checkpoint has come to stand behind since the last call, in order of epoch."""
        standing: list[Point] = []
        for event in self.events():
            kind, self.latest = event["event"], event["time"]
            if kind == "points":
                self._pending[event["epoch"]] = Point(event["epoch"], event["time"], event["values"])
            elif kind in {"start", "resume"}:
                standing = self._go_back(event, standing)
            elif kind in {"checkpoint", "end"}:
                stand = [epoch for epoch in sorted(self._pending) if kind == "end" or epoch <= event["epoch"]]
                standing += [self._pending.pop(epoch) for epoch in stand]
                self._stood = self._stood or bool(stand)
        return standing

    def written(self) -> list[Point]:
        """Return the points written since the last call, each epoch once, whether or not a checkpoint stands behind.

        An epoch that is lost is trained again to the same numbers: who only looks need not wait for a checkpoint.
        A reader is asked by this or by `poll`, not by both: each takes the lines that it reads.
        """
        news = []
        for event in self.events():
            if event["event"] == "points" and event["epoch"] > self._told:
                news.append(Point(event["epoch"], event["time"], event["values"]))
                self._told = event["epoch"]
        return news

    def _go_back(self, event: dict[str, Any], standing: list[Point]) -> list[Point]:
        """Begin an attempt: what is left of `standing` at the epoch from which it goes on."""
        self._pending.clear()
        self.attempted = event["time"]
        if event["event"] == "resume":
            return [point for point in standing if point.epoch <= event["epoch"]]
        if self.began is None or self._stood:
            self.began, self._stood = event["time"], False
        return []


def read_points(folder: Path) -> list[Point]:
    """Every point of a cell that stands, one an epoch, in order."""
    return list({point.epoch: point for point in Reader(folder).poll()}.values())


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Every event of a cell."""
    return Reader(folder).events()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
