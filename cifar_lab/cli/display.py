"""Display of a running study: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.live import Live
from rich.table import Table

from cifar_lab.cli import console
from cifar_lab.execution.cell_pace import CellPace, accuracy, beginning, begun_anew, is_resumed
from cifar_lab.execution.engine import UNFINISHED
from cifar_lab.execution.worker import CellJob
from cifar_lab.terminal import is_terminal
from cifar_lab.text import many


class _Work:
    """The work of an invocation in estimated seconds of one worker, and how much of it is done."""

    TRUSTED = 0.1
    """Part of the work that has to be done before its own pace counts for more than the estimates."""

    def __init__(self, estimates: Mapping[str, float], workers: int) -> None:
        self._open = dict(estimates)
        self._total = sum(estimates.values())
        self._workers = max(1, workers)
        self._gained = 0.0
        self._began: float | None = None

    def begin(self) -> None:
        """Start the clock at the first training step: until then, workers load their libraries and data."""
        self._began = time.monotonic() if self._began is None else self._began

    def ended(self, fingerprint: str, share_at_start: float) -> None:
        """Count a cell as done."""
        self._gained += self._open.pop(fingerprint, 0.0) * (1 - share_at_start)

    def seconds_left(self, running: Mapping[str, CellPace]) -> float | None:
        """Return how long the rest will take: by the estimates at first, then at the pace so far; None if unknown."""
        if not self._open:
            return None
        gained, left = self._gained, sum(self._open.values())
        for fingerprint, cell in running.items():
            seconds = self._open.get(fingerprint, 0.0)
            gained += seconds * (cell.share - cell.share_at_start)
            left -= seconds * cell.share
        if self._began is None or gained < self.TRUSTED * self._total:
            return left / min(self._workers, len(self._open))
        alone = [own for cell in running.values() if (own := cell.seconds_left()) is not None]
        return max([(time.monotonic() - self._began) * left / gained, *alone])


class Display:
    """Listener of the engine that shows its progress. Use as a context manager."""

    def __init__(
        self, names: dict[str, str], *, is_search: bool = False, estimates: Mapping[str, float] | None = None,
        workers: int = 1, total: int = 0,
    ) -> None:  # fmt: skip
        """Follow cells, which `names` names by fingerprint; with `estimates` in seconds, show the time that is left.

        `total`: number of cells that will be trained, if `names` grows as they begin. A search is shown val only:
        nobody is to choose by test.
        """
        wanted = {name: seconds for name, seconds in (estimates or {}).items() if name in names}
        self._work = _Work(wanted, workers)
        self._metric = "val/acc" if is_search else "test/acc"
        self._names, self._least = names, total
        self._running: dict[str, CellPace] = {}
        self._ended = 0
        self._waiting = 0
        self._is_live = is_terminal(console.err.file)
        self._live = Live(console=console.err, refresh_per_second=4, transient=True)

    def __enter__(self) -> Display:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, job: CellJob) -> None:
        self._running[job.fingerprint] = CellPace.of(job)

    def progress(self, job: CellJob, epoch: int, step: int, steps: int) -> None:
        cell = self._running[job.fingerprint]
        if not cell.is_ours:
            shown = [beginning(job, epoch, step)] if is_resumed(epoch, step) or not self._is_live else []
            for line in [*begun_anew(job), *shown]:
                console.say(f"{self._names[job.fingerprint]}: {line}")
            self._work.begin()
        cell.advance(epoch, step, steps)
        self._news(job, cell)

    def ended(self, job: CellJob, error: str | None) -> None:
        cell = self._running.pop(job.fingerprint, None)
        if cell is not None:
            self._news(job, cell)
        if error in UNFINISHED:
            console.say(f"{self._names[job.fingerprint]}: {error}")
            return
        self._ended += 1
        self._work.ended(job.fingerprint, cell.share_at_start if cell is not None else 0.0)
        result = job.record.result()
        if error is not None or result is None:
            said = error
        elif not result.is_finished:
            said = f"diverged in epoch {result.epoch} at step {result.step}"
        else:
            metrics = result.metrics
            split = self._metric.partition("/")[0]
            said = (
                f"{split} {100 * metrics[self._metric]:.2f} % after {console.duration(metrics['seconds'])} of training"
            )
            said += "" if cell is not None else " (trained by another runner)"
        console.say(f"{self._names[job.fingerprint]}: {said} [{self._progress()}]")

    def _progress(self) -> str:
        """Return `3 of 10`, with the time left where it is known: `3 of 10, about 4 min left`."""
        return f"{self._ended} of {self._total}{self._left()}"

    @property
    def _total(self) -> int:
        """Number of cells; a trial that failed is replaced, so that there may be more than were wanted."""
        return max(self._least, len(self._names))

    def _left(self) -> str:
        seconds = self._work.seconds_left(self._running)
        return f", about {console.duration(seconds)} left" if seconds is not None else ""

    def put_off(self, job: CellJob) -> None:
        self._running.pop(job.fingerprint, None)

    def tick(self, waiting: int) -> None:
        if waiting and not self._running and not self._is_live and waiting != self._waiting:
            console.say(f"{waiting} {'cell waits' if waiting == 1 else 'cells wait'} for another runner")
        self._waiting = waiting if not self._running else 0
        if self._is_live:
            self._live.update(self._table(waiting))

    def _news(self, job: CellJob, cell: CellPace) -> None:
        for point in cell.news():
            if not self._is_live:
                words = f"epoch {point.epoch}/{job.recipe.train.epochs}, {accuracy(point)}"
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
                    accuracy(point) if point else "",
                    f"{point.values['images_per_second']:,.0f}" if point else "",
                    cell.left(),
                )
            )
        title = f"{self._ended} of {many(self._total, 'cell')} done{self._left()}"
        title += f", {waiting} wait" if waiting else ""
        columns = ("cell", "epoch", "accuracy", "images/s", "left")
        return console.table(title, columns, rows, right=("epoch", "images/s"))
