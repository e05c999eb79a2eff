"""Display of a running study: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.live import Live
from rich.table import Table

from cifar_lab.cli import console
from cifar_lab.run.cell import Job
from cifar_lab.run.engine import UNFINISHED
from cifar_lab.tracking.journal import Point, Reader, read_events


@dataclass
class _Running:
    """One cell that is being trained now."""

    reader: Reader
    epochs: int
    began: float = field(default_factory=time.monotonic)
    done: float = 0.0
    """Epochs done, including the fraction of the current one."""
    done_at_start: float | None = None
    last: Point | None = None

    @property
    def is_ours(self) -> bool:
        """Tell whether it has taken a step here: until then another runner may turn out to have it."""
        return self.done_at_start is not None

    def left(self) -> str:
        """Return the remaining time at the pace so far."""
        gained = self.done - (self.done_at_start or 0.0)
        if gained <= 0:
            return ""
        return console.duration((time.monotonic() - self.began) / gained * (self.epochs - self.done))


class Display:
    """Listener of the engine that shows its progress. Use as a context manager."""

    def __init__(self, names: dict[str, str], *, is_search: bool = False) -> None:
        """Take `names` of cells by fingerprint. A search shows only val, so that nobody selects by test."""
        self._metric = "val/acc" if is_search else "test/acc"
        self._names = names
        self._running: dict[str, _Running] = {}
        self._ended = 0
        self._waiting = 0
        self._live = Live(console=console.err, refresh_per_second=4, transient=True)

    def __enter__(self) -> Display:
        if console.err.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, job: Job) -> None:
        cell = _Running(Reader(job.record.folder), job.recipe.train.epochs)
        cell.reader.events()  # events of an earlier attempt are not shown again
        self._running[job.fingerprint] = cell

    def progress(self, job: Job, epoch: int, step: int, steps: int) -> None:
        cell = self._running[job.fingerprint]
        for line in _begun_anew(job) if not cell.is_ours else ():
            console.say(f"{self._names[job.fingerprint]}: {line}")
        cell.done = epoch - 1 + step / steps
        if not cell.is_ours:
            if not console.err.is_terminal:
                console.say(f"{self._names[job.fingerprint]}: {_begins(job, epoch, step)}")
            cell.done_at_start, cell.began = cell.done, time.monotonic()
        self._news(job, cell)

    def ended(self, job: Job, error: str | None) -> None:
        cell = self._running.pop(job.fingerprint, None)
        if cell is not None:
            self._news(job, cell)
        if error in UNFINISHED:
            console.say(f"{self._names[job.fingerprint]}: {error}")
            return
        self._ended += 1
        result = job.record.result()
        if error is not None or result is None:
            said = error
        elif result["status"] == "diverged":
            said = f"diverged in epoch {result['epoch']} at step {result['step']}"
        else:
            metrics = result["metrics"]
            split = self._metric.partition("/")[0]
            said = f"{split} {100 * metrics[self._metric]:.2f} % in {console.duration(metrics['seconds'])}"
            said += "" if cell is not None else " (trained by another runner)"
        console.say(f"{self._names[job.fingerprint]}: {said} [{self._ended} of {len(self._names)}]")

    def put_off(self, job: Job) -> None:
        self._running.pop(job.fingerprint, None)

    def tick(self, waiting: int) -> None:
        if waiting and not self._running and not console.err.is_terminal and waiting != self._waiting:
            console.say(f"{waiting} {'cell waits' if waiting == 1 else 'cells wait'} for another runner")
        self._waiting = waiting if not self._running else 0
        if console.err.is_terminal:
            self._live.update(self._table(waiting))

    def _news(self, job: Job, cell: _Running) -> None:
        for point in cell.reader.written():
            cell.last = point
            if not console.err.is_terminal:
                words = f"epoch {point.epoch}/{job.recipe.train.epochs}, {_accuracy(point)}"
                speed = f"{point.values['images_per_second']:,.0f} images/s"
                console.say(f"{self._names[job.fingerprint]}: {words}, {speed}")

    def _table(self, waiting: int) -> Table:
        rows = []
        for fingerprint, cell in self._running.items():
            point = cell.last
            rows.append(
                (
                    self._names[fingerprint],
                    f"{cell.done:.2f}" if cell.is_ours else "begins",
                    _accuracy(point) if point else "",
                    f"{point.values['images_per_second']:,.0f}" if point else "",
                    cell.left(),
                )
            )
        title = f"{self._ended} of {console.many(len(self._names), 'cell')} done, {waiting} wait"
        columns = ("cell", "epoch", "accuracy", "images/s", "left")
        return console.table(title, columns, rows, right=("epoch", "images/s"))


def _begins(job: Job, epoch: int, step: int) -> str:
    """Describe how a cell begins, after its first `step` here: from scratch, or from a checkpoint."""
    epochs = job.recipe.train.epochs
    if (epoch, step) == (1, 1):
        return f"training, {console.many(epochs, 'epoch')}"
    return f"resumed at epoch {epoch} of {epochs}"


def _begun_anew(job: Job) -> list[str]:
    """Describe the damaged files that the current attempt set aside before it began, one per line."""
    damaged: list[str] = []
    lines: list[str] = []
    for event in read_events(job.record.folder):
        if event["event"] == "damaged":
            kept = f", kept as {event['kept']}" if event.get("kept") else ""
            damaged.append(f"{event['file']} was damaged ({event['why']}){kept}: the cell begins anew")
        else:
            lines, damaged = (damaged if event["event"] == "start" else lines), []
            lines = [] if event["event"] == "resume" and event["epoch"] + event["step"] else lines
    return lines


def _accuracy(point: Point) -> str:
    name = "val" if "val/acc" in point.values else "test"
    return f"{name} {100 * point.values[f'{name}/acc']:.2f} %"
