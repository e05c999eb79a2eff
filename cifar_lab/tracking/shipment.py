"""The record of one cell on its way into one experiment of a tracking store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from cifar_lab.tracking import journal, sheet
from cifar_lab.tracking.invocation import Asked, Invocation
from cifar_lab.tracking.journal import Point, Reader
from cifar_lab.tracking.mlflow import Found, Store
from cifar_lab.tracking.record import Record

Draw = Callable[[Record], dict[str, bytes]]
"""Pictures of a cell that has ended, by artifact path: `{"figures/loss.png": …, "confusion.png": …}`."""
Say = Callable[[str], None]

UNBEGUN = "none"
"""In place of the time at which a training began, for a cell that failed before it did."""


@dataclass(frozen=True)
class Place:
    """Where the cells of an invocation go: an experiment, and the run that stands for the invocation."""

    experiment: str
    parent: str

    @classmethod
    def of(cls, invocation: Invocation, store: Store, runs: Path) -> Place:
        """Find the place, or make it."""
        asked = sheet.of_invocation(invocation)
        with shipping_lock(runs):
            experiment = store.experiment(invocation.ablation, sheet.note(invocation))
            found = store.find(experiment, **asked.identity)
            return cls(experiment, store.start(experiment, asked, found))


def shipping_lock(runs: Path) -> FileLock:
    """Held while a run is looked for and begun, so that two runners do not begin two for one cell."""
    return FileLock(runs / "shipping.lock")


@dataclass
class Shipment:
    """One cell of an invocation, and how much of it the store has. `ship` may be repeated at any time."""

    runs: Path
    invocation: Invocation
    asked: Asked
    history: Sequence[Invocation]
    """Every invocation in `runs`, the oldest first: they tell which ablation a cell was trained for."""
    draw: Draw
    say: Say
    is_settled: bool = False
    """The store has all that was on disk at the last look."""
    _run: str | None = None
    _status: str | None = None
    _sent: str | None = None
    _began: int | None = None
    _reader: Reader = field(init=False)
    _unsent: list[Point] = field(default_factory=list)
    _curves: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._reader = Reader(self.record.folder)

    @property
    def record(self) -> Record:
        return Record(self.runs / self.asked.fingerprint)

    @property
    def is_empty(self) -> bool:
        """Nothing of the cell is on disk."""
        return self.record.cell() is None and self.record.failure() is None

    def mark(self) -> str | None:
        """The time in ms of the latest thing on disk: the store's `shipped_to`, once it has everything."""
        record, reader = self.record, Reader(self.record.folder)
        result = record.result()
        if result is None:
            reader.poll()
        return _mark(result, record.failure(), reader)

    def ship(self, store: Store, place: Place, *, closing: bool) -> bool:
        """Send what the store lacks; whether there was anything. `closing`: we train the cell no more.

        Raises:
            StoreAway: go on later, from where this ended.
        """
        result, failure = self.record.result(), self.record.failure()
        self.is_settled = self.is_empty or (result is not None and self._sent == str(result["time"]))
        if self.is_settled:
            return False
        self._read()
        mark = _mark(result, failure, self._reader)
        if self._run is None:
            self._find_or_start(store, place, mark)
        assert self._run is not None
        is_new = self._sent != mark
        if self._unsent:
            store.log(self._run, sheet.metrics_of(self._unsent))
            self._unsent.clear()
        status = self._status_now(result, failure, closing=closing)
        if status != self._status or (is_new and status in {"failed", "stopped"}):
            self._turn_to(status, store, result, failure)
            is_new = True
        if is_new and mark is not None:
            shipped = "complete" if result is not None else "partial"
            store.tag(self._run, {"shipped": shipped, "shipped_to": mark})
        self._sent, self.is_settled = mark, True
        return is_new

    def _read(self) -> None:
        new = self._reader.poll()
        if self._reader.began != self._began:  # a training from scratch: it has a run of its own
            self._began, self._run, self._status, self._sent = self._reader.began, None, None, None
            self._unsent.clear()
        self._unsent += new
        self._curves.update(name for point in new for name in point.values)

    def _find_or_start(self, store: Store, place: Place, mark: str | None) -> None:
        began, cell = self._began, self.record.cell()
        with shipping_lock(self.runs):
            found = store.find(place.experiment, role="cell", fingerprint=self.asked.fingerprint)
            if found is not None and found.tags["began"] not in {UNBEGUN, str(began)}:
                store.tag(found.id, {"role": "superseded"})
                found = None
            if found is not None and found.tags.get("shipped_to") == mark:
                self._unsent.clear()
                self._sent, self._status, self._run = mark, found.tags.get("status"), found.id
                return
            told = sheet.of_cell(self.invocation, self.asked, cell, began=began, parent=place.parent)
            run = store.start(place.experiment, told, found)
            changed = {"began": told.identity["began"]} if found is not None else self._origin(store)
            if changed:
                store.tag(run, changed)
        self._run, self._status = run, _status_of(found)

    def _origin(self, store: Store) -> dict[str, str]:
        """`reused_from`, if the cell was trained for another ablation."""
        began, fingerprint = self._began, self.asked.fingerprint
        if began is None:
            return {}
        asked = [
            past.ablation
            for past in self.history
            if past.time <= began and any(cell.fingerprint == fingerprint for cell in past.cells)
        ]
        if not asked or asked[-1] == self.invocation.ablation:
            return {}
        first = store.find_all(asked[-1], role="cell", fingerprint=fingerprint)
        return {"reused_from": first[0].id if first else fingerprint}

    def _status_now(self, result: Any, failure: Any, *, closing: bool) -> str:
        if result is not None:
            return str(result["status"])
        if failure is not None and failure["time"] >= (self._reader.attempted or 0):
            return "failed"
        return "stopped" if closing and self.record.state() != "running" else "running"

    def _turn_to(self, status: str, store: Store, result: Any, failure: Any) -> None:
        assert self._run is not None
        if status == "running":
            store.resume(self._run)
        elif status == "stopped":
            store.end(self._run, "KILLED", self._reader.latest or 0)
        elif status == "failed":
            store.upload(self._run, self._files(), {"failure.txt": failure["trace"].encode()})
            store.tag(self._run, {"last_error": failure["error"]})
            store.end(self._run, "FAILED", failure["time"])
        else:
            store.log(self._run, sheet.metrics_of_result(result, self._curves))
            store.upload(self._run, self._files(), {"recipe.json": self._recipe(), **self._pictures()})
            store.end(self._run, "FINISHED", result["time"])
        store.tag(self._run, {"status": status})
        self._status = status

    def _files(self) -> list[Path]:
        record = self.record
        written = [record.folder / name for name in ("cell.json", "result.json", journal.FILE)]
        made = [record.weights, record.predictions, record.confusion, record.code_diff]
        return [path for path in [*written, *made] if path.exists()]

    def _recipe(self) -> bytes:
        return sheet.recipe_json(self.record.cell() or {}).encode()

    def _pictures(self) -> dict[str, bytes]:
        try:
            return self.draw(self.record)
        except Exception as error:  # noqa: BLE001 (a picture is not worth a result; it is said)
            self.say(f"{self.asked.variant}/s{self.asked.seed}: no figures: {type(error).__name__}: {error}")
            return {}


def _mark(result: Any, failure: Any, reader: Reader) -> str | None:
    if result is not None:
        return str(result["time"])
    times = [time for time in (reader.latest, failure and failure["time"]) if time is not None]
    return str(max(times)) if times else None


def _status_of(found: Found | None) -> str | None:
    return "running" if found is None else found.tags.get("status")
