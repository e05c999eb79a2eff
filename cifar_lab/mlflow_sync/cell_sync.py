"""Ship the record of one cell to one experiment of a tracking store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cifar_lab.errors import TrackingError
from cifar_lab.mlflow_sync import run_fields, ui_view
from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.mlflow_sync.client import ExistingRun, MLflowStore
from cifar_lab.mlflow_sync.run_fields import MetricPoint
from cifar_lab.mlflow_sync.server_errors import ArtifactsRefused
from cifar_lab.mlflow_sync.shipped_mark import is_shipped, record_mark, result_mark, whole_run
from cifar_lab.mlflow_sync.tag_names import (
    BEGAN,
    BELOW,
    DIFFERENCE,
    PARENT,
    SHIPPED_TO,
    UNBEGUN,
    WITHOUT_FILES,
    setting_tag,
)
from cifar_lab.mlflow_sync.upload_target import Say, UploadTarget, locked
from cifar_lab.store import journal, search_data
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef, Invocation
from cifar_lab.store.journal import JournalPoint, JournalReader
from cifar_lab.store.record_files import FailureFile, ResultFile

Draw = Callable[[CellRecord], dict[str, bytes]]
"""Pictures of a cell that has ended, by artifact path: `{"figures/loss.png": …, "confusion.png": …}`."""

MOST_DRAWN = 500
"""Most cells of an invocation whose cells get figures: drawing them takes longer than all else that is shipped."""
UNDRAWN = (
    "{ablation}: no figures for each of {cells:,} cells in MLflow, as drawing them takes long; their numbers, curves "
    "and confusion.csv are there"
)


class _Dues(NamedTuple):
    """Tags and differences that the run of a cell has from other cells."""

    tags: dict[str, str]
    differences: list[MetricPoint]
    awaits: bool
    """True if the cell or the one that it is compared with has not ended."""


@dataclass
class CellUpload:
    """One cell of an invocation, and how much of it the store has. `ship` may be repeated at any time."""

    runs: Path
    invocation: Invocation
    asked: CellRef
    history: InvocationHistory
    """Every invocation in `runs`, to find what the cell was trained for and what it is compared with."""
    draw: Draw
    say: Say
    is_settled: bool = False
    """True if the store has everything that was on disk at the last check."""
    is_damaged: bool = False
    """True if a file of its record, or of its reference's, cannot be read; nothing of it is shipped."""
    is_final: bool = False
    """True if the cell has ended, and the store has all of it: nothing more comes unless its record is set aside, or
    another cell becomes its reference."""
    lacks_files: bool = False
    """True if the store took everything but the artifacts."""
    run: str | None = None
    """Id of the cell's run, once known."""
    stands_beside: bool = False
    """True if the run was created beside one of another runs folder, which trained the cell for itself."""
    _was_absent: bool = False
    """True if the store had no run of the cell at the last check: only another runner can have created one since."""
    _status: str | None = None
    _sent: str | None = None
    _began: int | None = None
    _reader: JournalReader = field(init=False)
    _unsent: list[JournalPoint] = field(default_factory=list)
    _tags: dict[str, str] = field(default_factory=dict)
    _curves: set[str] = field(default_factory=set)
    _placed: Mapping[str, str] = field(default_factory=dict)
    """Tags of the run as `look` found them."""

    def __post_init__(self) -> None:
        self._reader = JournalReader(self.record.folder)

    @property
    def record(self) -> CellRecord:
        return CellRecord(self.runs / self.asked.fingerprint)

    @property
    def is_empty(self) -> bool:
        """True if the disk has nothing to begin a run with: no training has begun or failed."""
        record = self.record
        if self._reader.began is not None or record.result() is not None or record.failure() is not None:
            return False
        return not any(event.kind == "start" for event in journal.read_events(record.folder))

    def mark(self) -> str | None:
        """Identity of the latest content on disk; the tag `SHIPPED_TO` once the store has everything."""
        record, reader = self.record, JournalReader(self.record.folder)
        result = record.result()
        if result is None:
            reader.poll()
        return record_mark(result, record.failure(), reader)

    def look(self, there: Sequence[ExistingRun]) -> None:
        """Take over from the store what it has of the cell; `there`: its runs, also those of other runs folders."""
        mark, self._was_absent = self.mark(), not there
        unended = {"RUNNING", "KILLED"} if self._is_pruned else {"RUNNING"}
        found = whole_run(self.record, there, mark)
        is_whole = found is not None and found.status not in unended
        result = self.record.result()
        self.is_settled = self.is_empty or (mark is not None and is_whole)
        self.run = found.id if found is not None and is_whole else None
        if found is None or not is_whole:
            return
        self._placed, self._sent = found.tags, mark
        lacks_tags = self._dues(result).tags.items() - found.tags.items()
        if lacks_tags or self._new_place(found.tags) == self.invocation.id:
            self.is_settled = self.is_empty
        if result is not None:  # nothing of the record is left to send
            self._status, self._tags = found.tags.get("status"), dict(found.tags)

    def is_behind(self) -> bool:
        """Tell whether the disk has more of the cell than was sent, for a cell that was last looked at a while ago."""
        try:
            return not self.is_final and not self.is_empty and self._sent != self.mark()
        except TrackingError:
            return True

    def check_parent(self, place: UploadTarget) -> None:
        """Have the run shipped again if it is below a run of its invocation that was deleted since."""
        if self._placed.get(BELOW) == self.invocation.id and self._placed.get(PARENT) != place.parent:
            self.is_settled = False

    def ship(self, store: MLflowStore, place: UploadTarget, *, closing: bool) -> bool:
        """Send what the store lacks; return True if there was anything. `closing`: we no longer train the cell.

        Raises:
            StoreUnavailable: resume later from the same point.
        """
        result, failure = self.record.result(), self.record.failure()
        dues, differences, awaits = self._dues(result)
        is_sent = result is not None and self._sent == result_mark(result) and self.run is not None
        if not is_sent:
            self.is_settled = False
            self._read()
            if self._began is None and result is None and failure is None:  # the run would seem to begin too early
                self.is_settled = True
                return False
        is_new = not is_sent and self._ship_record(store, place, result, failure, closing=closing)
        lacking = dict(dues.items() - self._tags.items())
        place_of_run = self._place_below_the_latest(store, place, closing=closing)
        if lacking or place_of_run:
            assert self.run is not None
            store.log(self.run, differences if DIFFERENCE in lacking else [], {**lacking, **place_of_run})
            self._tags |= {**lacking, **place_of_run}
        self.is_settled = not self.lacks_files
        self.is_final = self.is_settled and result is not None and not awaits
        return is_new or bool(lacking)

    def _place_below_the_latest(self, store: MLflowStore, place: UploadTarget, *, closing: bool) -> dict[str, str]:
        """Return the tags that put the cell's run below the run of the latest invocation that asked for it."""
        below = self._new_place(self._tags)
        if below is None and self._tags.get(BELOW) == self.invocation.id:
            below = self.invocation.id  # the run of the invocation may have been deleted, and be another one now
        if below == self.invocation.id:
            tags = {BELOW: below, PARENT: place.parent}
            return tags if not tags.items() <= self._tags.items() else {}
        parent = place.parent_of(below, store) if below is not None and closing else None
        return {BELOW: below, PARENT: parent} if below is not None and parent is not None else {}

    def _new_place(self, tags: Mapping[str, str]) -> str | None:
        """Return the invocation below whose run the cell's run, with these tags, is to be moved; None if it stays.

        It stays below an invocation that this runs folder does not know: a copy of the folder has put it there.
        """
        latest, below = self.history.latest(self.invocation.ablation, self.asked.fingerprint), tags.get(BELOW)
        return latest if latest != below and (below is None or self.history.knows(below)) else None

    def _ship_record(
        self, store: MLflowStore, place: UploadTarget, result: ResultFile | None, failure: FailureFile | None,
        *, closing: bool,
    ) -> bool:  # fmt: skip
        """Send what is on disk of the cell itself; return True if there was anything."""
        mark = record_mark(result, failure, self._reader)
        if self.run is None:
            self._find_or_start(store, place, mark, failure)
        assert self.run is not None
        is_new = self._sent != mark
        if self._unsent:
            store.log(self.run, run_fields.metrics_of(self._unsent))
            self._unsent.clear()
        status, last = self._status_now(result, failure, closing=closing), {}
        if status != self._status or (is_new and status != "running"):
            self._turn_to(status, store, result, failure)
            is_new, last = True, {"status": status}
        if is_new and mark is not None:
            last |= {SHIPPED_TO: WITHOUT_FILES if self.lacks_files else mark}
        store.tag(self.run, last)
        self._status, self._sent = status, mark
        return is_new

    def _dues(self, result: ResultFile | None) -> _Dues:
        """Return what this cell's run has from other cells.

        The tag `DIFFERENCE` identifies the differences in the store; it changes with either of the two results.
        """
        standing = self.history.standing(self.invocation.ablation, self.asked.fingerprint)
        values = {True: ui_view.CURRENT, False: ui_view.REPLACED}
        tags = {setting_tag(setting): values[stands] for setting, stands in standing.settings.items()}
        tags |= self.invocation.tags.get(self.asked.fingerprint, {})
        reference = standing.reference
        other = CellRecord(self.runs / reference.fingerprint).result() if reference is not None else None
        if result is None or reference is None or other is None:
            return _Dues(tags, [], awaits=reference is not None)
        differences = self._seen(run_fields.metrics_of_difference(result, other, since=standing.since))
        if differences:
            tags["compared_with"] = f"{reference.variant}/s{reference.seed}"
            tags[DIFFERENCE] = f"{reference.fingerprint[:12]} {differences[0].time}"
        return _Dues(tags, differences, awaits=False)

    def _seen(self, metrics: list[MetricPoint]) -> list[MetricPoint]:
        """Return the metrics without those that a search must not select by."""
        if not search_data.is_search(self.invocation):
            return metrics
        return [metric for metric in metrics if search_data.TEST not in metric.name]

    @property
    def _is_pruned(self) -> bool:
        return self.invocation.is_pruned(self.asked.fingerprint)

    def _read(self) -> None:
        new = self._reader.poll()
        if self._reader.began != self._began:  # a training from scratch has a run of its own
            self._began, self.run, self._status, self._sent = self._reader.began, None, None, None
            self._unsent.clear()
            self._tags = {}
        self._unsent += new
        self._curves.update(name for point in new for name in point.values)

    def _find_or_start(
        self, store: MLflowStore, place: UploadTarget, mark: str | None, failure: FailureFile | None
    ) -> None:
        began, cell = self._began, self.record.cell()
        time = failure.time if failure is not None else self.invocation.time
        told = run_fields.of_cell(self.invocation, self.asked, cell, began=began, time=time, parent=place.parent)
        start_time = told.time if self._was_absent else None  # another runner has the same from the journal
        with locked(self.record.folder / "shipping.lock", store):
            there = store.find_each(place.experiment, start_time, role="cell", fingerprint=self.asked.fingerprint)
            self._was_absent = False
            found = self._own(there, told.identity[BEGAN])
            if found is None:
                self._supersede(there, store)
            self._tags = dict(found.tags) if found is not None else {}
            if found is not None and is_shipped(self.record, found, mark):
                self._unsent.clear()
                self._sent, self._status, self.run = mark, found.tags.get("status"), found.id
                return
            run = store.start(place.experiment, told, found)
            if found is None:
                self._tags = {BELOW: self.invocation.id, PARENT: place.parent}
            changed = {BEGAN: told.identity[BEGAN]} if found is not None else self._origin(store)
            if changed:
                store.tag(run, changed)
        self.run, self._status = run, _status_of(found)

    def _own(self, there: Sequence[ExistingRun], began: str) -> ExistingRun | None:
        """Return the run of this training: it began at the same time, or failed here before it began."""
        same = [run for run in there if run.tags.get(BEGAN) == began != UNBEGUN]
        failed = [run for run in there if run.tags.get(BEGAN) == UNBEGUN and self._is_of_this_folder(run)]
        return next(iter([*same, *failed]), None)

    def _supersede(self, there: Sequence[ExistingRun], store: MLflowStore) -> None:
        """Mark this folder's former runs of the cell; the trainings of other runs folders stand beside this one."""
        former = [run for run in there if self._is_of_this_folder(run)]
        for run in former:
            store.tag(run.id, {"role": "superseded"})
        self.stands_beside = len(former) < len(there)

    def _is_of_this_folder(self, run: ExistingRun) -> bool:
        """Tell whether a run is below an invocation of this runs folder; some of an earlier version are below none."""
        below = run.tags.get(BELOW)
        return below is None or self.history.knows(below)

    def _origin(self, store: MLflowStore) -> dict[str, str]:
        """Return the tag `reused_from` if the cell was trained for another ablation."""
        if self._began is None:
            return {}
        first = self.history.trained_for(self.asked.fingerprint, self._began)
        if first is None or first == self.invocation.ablation:
            return {}
        found = store.find_all(first, role="cell", fingerprint=self.asked.fingerprint)
        own = [run.id for run in found if run.tags.get(BEGAN) == str(self._began)]
        return {"reused_from": own[0] if own else self.asked.fingerprint}

    def _status_now(self, result: ResultFile | None, failure: FailureFile | None, *, closing: bool) -> str:
        if result is not None:
            return result.status
        if failure is not None and failure.time >= (self._reader.attempted or 0):
            return "failed"
        if self.record.state() == "running":
            return "running"
        return "pruned" if self._is_pruned else "stopped" if closing else "running"

    def _turn_to(self, status: str, store: MLflowStore, result: ResultFile | None, failure: FailureFile | None) -> None:
        assert self.run is not None
        if status == "running":
            store.resume(self.run)
        elif status == "stopped":
            store.end(self.run, "KILLED", self._reader.latest or 0)
        elif status == "pruned":
            store.tag(self.run, {"pruned": "true"})
            store.end(self.run, "FINISHED", self._reader.latest or 0)
        elif status == "failed":
            assert failure is not None, "a cell has failed because there is a failure"
            self._upload(store, {"failure.txt": failure.trace.encode()})
            store.tag(self.run, {"last_error": failure.error})
            store.end(self.run, "FAILED", failure.time)
        else:
            assert result is not None, "the other states follow from a result"
            self.record.require_sound(*self._files())  # damaged files are not uploaded
            store.log(self.run, self._seen(run_fields.metrics_of_result(result, self._curves)))
            self._upload(store, {**self._recipe(), **self._pictures(result)})
            store.end(self.run, "FINISHED", result.time)

    def _upload(self, store: MLflowStore, made: Mapping[str, bytes]) -> None:
        """Upload the files of the record, and `made`; on refusal report it, and continue with the rest."""
        assert self.run is not None
        try:
            store.upload(self.run, self._files(), made)
            self.lacks_files = False
        except ArtifactsRefused as error:
            self.lacks_files = True
            self.say(f"{error}; metrics, params and tags are there, and `cifar-lab sync` sends the files later")

    def _files(self) -> list[Path]:
        record = self.record
        if search_data.is_search(self.invocation):
            return search_data.files(record)
        written = [record.folder / name for name in ("cell.json", "result.json", journal.FILE)]
        made = [record.weights, record.predictions, record.confusion, record.code_diff]
        return [path for path in [*written, *made] if record.fetch(path)]

    def _recipe(self) -> dict[str, bytes]:
        """Return the recipe of the cell as an artifact; empty if its record was set aside meanwhile."""
        cell = self.record.cell()
        return {"recipe.json": run_fields.recipe_json(cell).encode()} if cell is not None else {}

    def _pictures(self, result: ResultFile | None) -> dict[str, bytes]:
        """Return the figures of a cell; for a search those without test, with the val metrics of its result."""
        drawn: dict[str, bytes] = {}
        try:
            if len(self.invocation.cells) <= MOST_DRAWN:
                drawn = self.draw(self.record)
            else:
                self.say(UNDRAWN.format(ablation=self.invocation.ablation, cells=len(self.invocation.cells)))
        except Exception as error:  # noqa: BLE001 (a picture is not worth a result; it is said)
            self.say(f"{self.asked.variant}/s{self.asked.seed}: no figures: {type(error).__name__}: {error}")
        if search_data.is_search(self.invocation):
            return search_data.shown_pictures(drawn) | search_data.shown_result(result)
        return drawn


def _status_of(found: ExistingRun | None) -> str | None:
    return "running" if found is None else found.tags.get("status")
