"""A cell that is being trained now: how it began, its progress, and the time that is left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cifar_lab.execution.worker import CellJob
from cifar_lab.store.journal import JournalPoint, JournalReader, read_events
from cifar_lab.store.journal_events import DamagedEvent, ResumeEvent, StartEvent
from cifar_lab.text import duration, many


@dataclass
class CellPace:
    """Progress and pace of one cell that is being trained."""

    reader: JournalReader
    epochs: int
    began: float = field(default_factory=time.monotonic)
    done: float = 0.0
    """Epochs done, including the fraction of the current one."""
    done_at_start: float | None = None
    last: JournalPoint | None = None

    @classmethod
    def of(cls, job: CellJob) -> CellPace:
        """Return the cell of a job that has just started, past the events of earlier attempts."""
        cell = cls(JournalReader(job.record.folder), job.recipe.train.epochs)
        cell.reader.events()
        return cell

    @property
    def is_ours(self) -> bool:
        """Tell whether it has taken a step here: until then another runner may turn out to have it."""
        return self.done_at_start is not None

    @property
    def share(self) -> float:
        """Part of its training that is done."""
        return self.done / self.epochs

    @property
    def share_at_start(self) -> float:
        """Part of its training that was done when this attempt began."""
        return (self.done_at_start or 0.0) / self.epochs

    def advance(self, epoch: int, step: int, steps: int) -> None:
        """Note `step` of `steps` in `epoch`, each from 1; the first begins the clock."""
        self.done = epoch - 1 + step / steps
        if not self.is_ours:
            self.done_at_start, self.began = self.done, time.monotonic()

    def news(self) -> list[JournalPoint]:
        """Return the points that were written since the last call, and keep the last as `last`."""
        points = self.reader.written()
        self.last = points[-1] if points else self.last
        return points

    def seconds_left(self) -> float | None:
        """Return how long the rest will take at the pace so far; None before there is one."""
        gained = self.done - (self.done_at_start or 0.0)
        if not self.is_ours or gained <= 0:
            return None
        return (time.monotonic() - self.began) / gained * (self.epochs - self.done)

    def left(self) -> str:
        """Return the time that the rest will take at the pace so far."""
        seconds = self.seconds_left()
        return "" if seconds is None else duration(seconds)


def beginning(job: CellJob, epoch: int, step: int) -> str:
    """Describe how a cell begins, after its first `step` here: from scratch, or from a checkpoint."""
    epochs = job.recipe.train.epochs
    return f"resumed at epoch {epoch} of {epochs}" if is_resumed(epoch, step) else f"training, {many(epochs, 'epoch')}"


def is_resumed(epoch: int, step: int) -> bool:
    """Tell whether a cell whose first step here is this one, each from 1, goes on from a checkpoint."""
    return (epoch, step) != (1, 1)


def begun_anew(job: CellJob) -> list[str]:
    """Describe the damaged files that the current attempt set aside before it began, one per line."""
    damaged: list[str] = []
    lines: list[str] = []
    for event in read_events(job.record.folder):
        if isinstance(event, DamagedEvent):
            kept = f", kept as {event.kept}" if event.kept else ""
            damaged.append(f"{event.file} was damaged ({event.why}){kept}: the cell begins anew")
        else:
            lines, damaged = (damaged if isinstance(event, StartEvent) else lines), []
            lines = [] if isinstance(event, ResumeEvent) and event.epoch + event.step else lines
    return lines


def accuracy(point: JournalPoint) -> str:
    """Return `val 71.30 %`; the accuracy on test where no images are held out."""
    name = "val" if "val/acc" in point.values else "test"
    return f"{name} {100 * point.values[f'{name}/acc']:.2f} %"
