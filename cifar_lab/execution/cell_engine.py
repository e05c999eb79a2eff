"""Base of the engines: what becomes of a cell whose process or task has ended, and how a run ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from cifar_lab.errors import Interrupted, OutOfSpace, TimeOver
from cifar_lab.execution.engine import NOT_SAVED, STOPPED, STOPPED_AT_ONCE, JobSource, Listener
from cifar_lab.execution.watchdog import stall_after
from cifar_lab.execution.worker import CellJob
from cifar_lab.execution.worker_process import FOUND_FINISHED, NO_SPACE, TAKEN
from cifar_lab.out_of_space import is_out_of_space, where
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.mirror import refresh_runs
from cifar_lab.store.record_files import FailureFile


class CellEngine:
    """Engine that trains each cell in a process of its own, which exits with a code of `worker_process`.

    A subclass starts and watches the processes. A cell that runs out of GPU memory beside others is retried once with
    that GPU to itself: it waits in `_alone`.
    """

    def __init__(self, workers: int, *, patience: float | None, until: float, say: Callable[[str], None]) -> None:
        """Take the settings, as `engine.make_engine` has them."""
        self._workers, self._until, self._say = workers, until, say
        self._patience = stall_after() if patience is None else patience
        self._alone, self._tried_alone = list[CellJob](), set[str]()
        self._full, self._was_cut = "", False
        """One line about the full disk, after which no cell is begun; and whether the time limit stopped a cell."""
        self.trained = 0
        """Number of cells that ended here."""

    def _begin_run(self, source: JobSource, listener: Listener) -> None:
        self._queue, self._listener, self._full, self._was_cut = source, listener, "", False

    def _is_to_end(self, signals: int) -> bool:
        """Tell whether no more cells are begun, after this number of stop signals."""
        return bool(signals or self._full or time.monotonic() >= self._until)

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
