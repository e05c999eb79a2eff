"""The smallest engine: it trains one cell after another in the process of its caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from filelock import Timeout

from cifar_lab.errors import CellError, Interrupted, TimeOver
from cifar_lab.execution.engine import STOPPED, JobSource, Listener, SettledCell
from cifar_lab.execution.stop_signals import stop_signals
from cifar_lab.execution.worker import CellJob, train_cell

TICK = 0.05
"""Seconds between two checks of cells that wait."""


class InProcessEngine:
    """Engine without processes, an example of what `cifar_lab.execution.engine.Engine` asks for."""

    def __init__(
        self, workers: int, places: Sequence[str], *, patience: float | None, until: float, say: Callable[[str], None]
    ) -> None:
        self.trained = 0
        self._until = until
        self._is_stopped = False

    def run(self, source: JobSource, listener: Listener) -> None:
        with stop_signals(self._stop_running, self._stop_running) as signalled:
            while len(source) and not signalled() and not self._is_over():
                taken = source.take(set())
                if taken is None:
                    listener.tick(len(source))
                    time.sleep(TICK)
                elif isinstance(taken, SettledCell):
                    listener.ended(taken.job, taken.error)
                else:
                    self._train(taken, source, listener)
        if signalled():
            raise Interrupted("stopped after saving")
        if self._is_over():
            raise TimeOver("stopped after saving")

    def stop(self, fingerprint: str) -> None:
        self._stop_running()

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until

    def _stop_running(self) -> None:
        self._is_stopped = True

    def _train(self, job: CellJob, source: JobSource, listener: Listener) -> None:
        self._is_stopped = False
        listener.started(job)

        def progress(epoch: int, step: int, steps: int) -> None:
            listener.progress(job, epoch, step, steps)
            listener.tick(len(source))

        try:
            self.trained += train_cell(job, progress, lambda: self._is_stopped or self._is_over())
        except Interrupted:
            listener.ended(job, STOPPED)
        except CellError as error:
            if isinstance(error.__context__, Timeout):
                listener.put_off(job)
                source.put_back(job)
            else:
                listener.ended(job, str(error))
        else:
            listener.ended(job, None)
