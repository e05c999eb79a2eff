"""Progress of one cell, from its record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cifar_lab.store.cell_owner import BEAT, SILENCE
from cifar_lab.store.cell_record import ENDED, CellRecord, State
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.journal import JournalPoint, JournalReader
from cifar_lab.store.record_files import OwnerFile, ResultFile

QUIET = 3 * BEAT
"""Seconds without a heartbeat (normally one per `BEAT`) after which nothing is estimated."""


@dataclass(frozen=True, kw_only=True)
class CellProgress:
    """Current progress of one cell. Times are in ms since 1970, accuracies are fractions."""

    asked: CellRef
    state: State
    epoch: int = 0
    """Last epoch with valid metrics."""
    epochs: int | None = None
    """Total number of epochs; None if not known yet."""
    step: int | None = None
    """Step at which it diverged."""
    val: float | None = None
    test: float | None = None
    images_per_second: float | None = None
    seen: int | None = None
    """Time of the last sign of life, or of the end."""
    owner: OwnerFile | None = None
    """Owner of the running training."""
    silent: float | None = None
    """Seconds since the owner's last sign of life, if suspiciously long."""
    last_sign: float | None = None
    """Seconds since the owner's last sign of life, while it is being trained."""
    resumes: bool = False
    """True if nobody trains it and there is a checkpoint to resume from."""
    error: str | None = None
    waits_for: str | None = None
    """Unfinished cell whose weights it starts from."""
    stuck: bool = False
    """True if the cell that it waits for failed or diverged."""
    seconds: float | None = None
    """Duration of the whole training: measured if finished, extrapolated from the pace so far if running."""
    left: float | None = None
    """Estimated seconds of training until it is done."""

    @property
    def name(self) -> str:
        return f"{self.asked.variant}/s{self.asked.seed}"

    @property
    def is_settled(self) -> bool:
        """True if it will not change by itself: it ended, failed, or waits for a cell that did not finish."""
        return self.state in ENDED | {"failed", "damaged", "pruned"} or self.stuck

    def as_dict(self) -> dict[str, Any]:
        return {
            "variant": self.asked.variant,
            "seed": self.asked.seed,
            "fingerprint": self.asked.fingerprint,
            "state": self.state,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "step": self.step,
            "val_acc": self.val,
            "test_acc": self.test,
            "images_per_second": self.images_per_second,
            "seen": self.seen,
            "owner": self.owner.as_json() if self.owner is not None else None,
            "silent_seconds": self.silent,
            "last_sign_seconds": self.last_sign,
            "resumes": self.resumes,
            "error": self.error,
            "waits_for": self.waits_for,
            "left_seconds": self.left,
        }


def read_progress(asked: CellRef, record: CellRecord, now: float) -> CellProgress:
    """Return the progress of the cell at `now`, in seconds since 1970; a damaged record has its damage as `error`."""
    content = record.read()
    state = content.state
    if state == "damaged":
        return CellProgress(asked=asked, state=state, error=content.damage)
    epochs = content.cell.recipe.train.epochs if content.cell is not None else None
    known = CellProgress(asked=asked, state=state, epochs=epochs)
    if content.result is not None:
        return _ended(known, content.result)
    resumes = record.has_checkpoint
    reader = JournalReader(record.folder)
    points = reader.poll()
    if points and (resumes or state == "running"):  # ignore points of an attempt that has no checkpoint to resume from
        known = replace(known, **_measured(points[-1].values), epoch=points[-1].epoch)
    if state == "running":
        return _running(known, record.owner(), reader, points, now)
    failure = content.failure
    if failure is None:
        return replace(known, resumes=resumes, seen=reader.latest)
    return replace(known, resumes=resumes, seen=_latest(reader.latest, failure.time or None), error=failure.error)


def _ended(known: CellProgress, result: ResultFile) -> CellProgress:
    return replace(
        known,
        **_measured(result.metrics),
        epoch=result.epoch,
        step=result.step if known.state == "diverged" else None,
        seen=result.time,
        seconds=result.metrics.get("seconds") if known.state == "finished" else None,
    )


def _running(
    known: CellProgress, owner: OwnerFile | None, reader: JournalReader, points: list[JournalPoint], now: float
) -> CellProgress:
    silence = now - owner.time / 1000 if owner else 0.0
    pace = _pace(points, reader.attempted)
    left = None
    if pace is not None and known.epochs is not None and silence <= QUIET:
        left = max(0.0, pace * (known.epochs - known.epoch) - max(0.0, now - points[-1].time / 1000))
    return replace(
        known,
        owner=owner,
        seen=_latest(reader.latest, owner.time if owner else None),
        silent=silence if silence > SILENCE else None,
        last_sign=silence if owner else None,
        seconds=pace * known.epochs if pace is not None and known.epochs is not None else None,
        left=left,
    )


def _measured(values: dict[str, float]) -> dict[str, Any]:
    fields = {"val": "val/acc", "test": "test/acc", "images_per_second": "images_per_second"}
    return {field: values.get(name) for field, name in fields.items()}


def _pace(points: list[JournalPoint], attempted: int | None) -> float | None:
    """Return seconds per epoch in this attempt; the first point includes the start-up and counts only if alone."""
    if attempted is None:
        return None
    fresh = [point for point in points if point.time >= attempted]
    if len(fresh) == 1:
        return (fresh[0].time - attempted) / 1000
    return (fresh[-1].time - fresh[0].time) / 1000 / (fresh[-1].epoch - fresh[0].epoch) if fresh else None


def _latest(*moments: int | None) -> int | None:
    return max((moment for moment in moments if moment is not None), default=None)
