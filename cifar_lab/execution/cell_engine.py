"""Base of the engines: the loop of a run, what becomes of a cell that has ended, and how a run ends."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cifar_lab.errors import Interrupted, OutOfSpace, TimeOver
from cifar_lab.execution.engine import NOT_SAVED, STOPPED, STOPPED_AT_ONCE, JobSource, Listener, SettledCell
from cifar_lab.execution.stop_signals import stop_signals
from cifar_lab.execution.watchdog import ProgressWatch, SuspendWatch, stall_after
from cifar_lab.execution.worker import CellJob
from cifar_lab.execution.worker_process import FOUND_FINISHED, NO_SPACE, TAKEN
from cifar_lab.out_of_space import is_out_of_space, where
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.mirror import refresh_runs
from cifar_lab.store.record_files import FailureFile

LOOK_EVERY = 1.0
"""Seconds between two checks of cells that wait for others."""


@dataclass(eq=False, kw_only=True)
class RunningCell:
    """Process that trains one cell."""

    job: CellJob
    watch: ProgressWatch
    has_begun: bool = True
    """False while it waits for free processors, which is no stall."""
    verdict: str | None = None
    """Reason why this runner ended it; None if it did not."""
    killed: float | None = None
    """Time at which it was ended, on the monotonic clock."""

    def kill(self, verdict: str) -> None:
        """End the process; its checkpoint is kept."""
        if self.killed is None:
            self.verdict, self.killed = verdict, time.monotonic()
            self._kill()

    @abstractmethod
    def _kill(self) -> None: ...

    @property
    @abstractmethod
    def what(self) -> str:
        """Words for the process in an error."""


class CellEngine:
    """Engine that trains each cell in a process of its own, which exits with a code of `worker_process`.

    A subclass starts and watches the processes. A cell that runs out of GPU memory beside others is retried once with
    that GPU to itself: it waits in `_alone`.
    """

    TO_DIE: float
    """Seconds after which a process that was ended is given up, for example one blocked on a dead disk."""

    def __init__(self, workers: int, *, patience: float | None, until: float, say: Callable[[str], None]) -> None:
        """Take the settings, as `engine.make_engine` has them."""
        self._workers, self._until, self._say = workers, until, say
        self._patience = stall_after() if patience is None else patience
        self._running: list[Any] = []
        """Cells that are trained now, each a `RunningCell`."""
        self._alone, self._tried_alone = list[CellJob](), set[str]()
        self._full, self._was_cut = "", False
        """One line about the full disk, after which no cell is begun; and whether the time limit stopped a cell."""
        self.trained = 0
        """Number of cells that ended here."""

    @abstractmethod
    def _is_blocked(self) -> bool:
        """Tell whether no cell can be begun before one of the running ones has ended."""

    @abstractmethod
    def _begin(self, job: CellJob) -> None:
        """Start a cell and report it as started; it gets a GPU to itself if it is one of `_tried_alone`."""

    @abstractmethod
    def _hear(self) -> None:
        """Wait for messages or the end of a cell, a moment at most, and handle them."""

    @abstractmethod
    def _stop_all(self, *, at_once: bool = False) -> None:
        """Ask all running cells to save and stop; `at_once`: end them."""

    @abstractmethod
    def _over(self, cell: Any) -> None:
        """Remove a running cell that has ended, or is given up, and conclude it."""

    def _begin_run(self, source: JobSource, listener: Listener) -> None:
        self._queue, self._listener, self._full, self._was_cut = source, listener, "", False
        self._running, self._looked = [], -LOOK_EVERY

    def _train(
        self, source: JobSource, listener: Listener, on_first: Callable[[], None], on_again: Callable[[], None]
    ) -> None:
        """Train the cells of `source` in its order; signals call `on_first` and `on_again` at once."""
        self._begin_run(source, listener)
        looks, hinted = SuspendWatch(), False
        with stop_signals(on_first, on_again) as signalled:

            def stopped() -> bool:
                return bool(signalled() or self._full or time.monotonic() >= self._until)

            while self._running or ((len(source) or self._alone) and not stopped()):
                while not stopped() and self._begin_one():
                    pass
                if stopped():  # a cell may have been started while the signal arrived
                    self._stop_all(at_once=signalled() > 1)
                if signalled() and self._running and not hinted:
                    hinted = True
                    self._say("stopping after saving; once more (Ctrl-C) stops at once")
                busy = len(self._running)
                self._hear()
                self._look_after(looks.missed())
                # Report waiting cells only after refilling free worker slots; after a stop, none are waiting.
                if len(self._running) == busy and (busy or not stopped()):
                    listener.tick(len(source))
        self._end_run(signalled())

    def _begin_one(self) -> bool:
        """Start a cell, or report one that has already ended; False without room or a cell that can begin."""
        if len(self._running) >= self._workers or time.monotonic() - self._looked < LOOK_EVERY or self._is_blocked():
            return False
        if self._alone:  # starting others would make those that need a GPU of their own wait forever
            job = self._alone.pop(0)
            self._tried_alone.add(job.fingerprint)
            self._begin(job)
            return True
        taken = self._queue.take({cell.job.fingerprint for cell in self._running})
        if taken is None:
            self._looked = time.monotonic()
        elif isinstance(taken, SettledCell):
            self._listener.ended(taken.job, taken.error)
        else:
            self._begin(taken)
        return taken is not None

    def _look_after(self, missed: float) -> None:
        """End stuck cells, and give up those that do not even end; `missed`: seconds without a check."""
        for cell in list(self._running):
            cell.watch.was_away(missed)
            if cell.has_begun and cell.killed is None and (line := cell.watch.stalled()) is not None:
                cell.kill(f"{line} ({cell.what} was ended)")
            if cell.killed is not None and time.monotonic() - cell.killed - missed > self.TO_DIE:
                self._over(cell)

    def _end_run(self, signals: int) -> None:
        """Report the cells that were not begun again, and tell why the run ended early, if it did.

        Raises:
            Interrupted: it was stopped; `OutOfSpace` or `TimeOver` by a full disk or the time limit.
        """
        while self._alone:
            self._listener.ended(self._alone.pop(), STOPPED)
            self._was_cut = True
        left = len(self._queue)
        left_out = {0: "", 1: "; 1 cell was not begun"}.get(left, f"; {left} cells were not begun")
        if self._full:
            raise OutOfSpace(f"{self._full}{left_out}")
        if signals:
            raise Interrupted(f"{'stopped at once' if signals > 1 else 'stopped after saving'}{left_out}")
        if time.monotonic() >= self._until and (self._was_cut or left):
            raise TimeOver(f"the time is over: stopped after saving{left_out}")

    def _conclude(self, job: CellJob, code: int | None, line: str, *, verdict: str | None, is_shared: bool) -> None:
        """Report the end of a cell, or queue it again.

        Args:
            code: exit code of its process; negative for a signal, None if it did not even die.
            line: error, if the process could record none itself; for a full disk, the file.
            verdict: reason why this runner ended it; None if it did not.
            is_shared: the cell had its GPU beside others.
        """
        refresh_runs(job.runs, [job.fingerprint, *job.recipe.parents])  # another machine may have trained it
        if verdict is not None and job.record.result() is None:
            self._listener.ended(job, verdict if verdict == STOPPED_AT_ONCE else self._failed(job.record, verdict))
            return
        if code == NO_SPACE:
            self._full = self._full or line
            self._listener.ended(job, NOT_SAVED)
            return
        if code == TAKEN or (code != Interrupted.exit_code and job.record.state() == "running"):
            self._listener.put_off(job)
            self._queue.put_back(job)
            return
        if code == FOUND_FINISHED:
            self._listener.put_off(job)
        error = self._how_it_ended(job.record, code, line)
        failure = job.record.failure() if is_shared else None
        if failure is not None and failure.out_of_memory and job.fingerprint not in self._tried_alone:
            with job.record.changed_by_runner():
                job.record.forget_failure()
            self._alone.append(job)
            self._listener.put_off(job)
            return
        self.trained += error is None and code != FOUND_FINISHED
        self._listener.ended(job, error)

    def _how_it_ended(self, record: CellRecord, code: int | None, line: str) -> str | None:
        """Return a one-line error for a cell without a result, and record it unless its process did; else None."""
        if record.result() is not None:
            return None
        if code == Interrupted.exit_code:
            self._was_cut = self._was_cut or time.monotonic() >= self._until
            return STOPPED
        if (failure := record.failure()) is not None:
            return failure.error
        return self._failed(record, line)

    def _failed(self, record: CellRecord, line: str) -> str:
        """Record that a cell failed, and return the error; on a full disk, begin no more cells instead."""
        try:
            record.folder.mkdir(parents=True, exist_ok=True)
            with record.changed_by_runner():
                record.write_failure(FailureFile(error=line, trace=line, time=time.time_ns() // 1_000_000))
        except OSError as error:
            if not is_out_of_space(error):
                raise
            self._full = self._full or where(error, record.folder)
            return NOT_SAVED
        return line
