"""The local engine: trains each cell in its own process, a fixed number at a time.

Processes are forked from a server that has loaded torch: they start at once, fail alone, and free their memory.
"""

from __future__ import annotations

import math
import multiprocessing.process
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from typing import Any

from cifar_lab.execution import fork_server, nvml
from cifar_lab.execution.cell_engine import CellEngine
from cifar_lab.execution.engine import STOPPED_AT_ONCE, JobSource, Listener, SettledCell
from cifar_lab.execution.stop_signals import stop_signals
from cifar_lab.execution.watchdog import ProgressWatch, SuspendWatch, stall_after
from cifar_lab.execution.worker import CellJob
from cifar_lab.execution.worker_process import NO_SPACE, work

TO_DIE = 5.0
"""Seconds after which a killed worker is given up, for example one blocked on a dead disk."""
LOOK_EVERY = 1.0
"""Seconds between two checks of cells that wait for others."""


@dataclass(eq=False)
class _Worker:
    """Process that trains one cell."""

    job: CellJob
    process: ForkServerProcess
    channel: Connection
    slot: int
    stop: Event
    watch: ProgressWatch = field(default_factory=lambda: ProgressWatch(stall_after()))
    verdict: str | None = None
    """Reason why this runner killed it; None if it did not."""
    killed: float | None = None
    """Time at which it was killed, on the monotonic clock."""
    last_words: str = ""
    """One line about a full disk."""

    def kill(self, verdict: str) -> None:
        """Kill the process; its checkpoint is kept."""
        if self.killed is None:
            self.verdict, self.killed = verdict, time.monotonic()
        self.process.kill()


class LocalEngine(CellEngine):
    """Train cells on this machine, `workers` at a time, each on the GPU of `places` with the fewest cells.

    A cell that runs out of GPU memory beside others is retried once with that GPU to itself.
    """

    def __init__(
        self,
        workers: int,
        places: Sequence[str] = (),
        *,
        patience: float | None = None,
        until: float = math.inf,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start the server that workers are forked from.

        Args:
            workers: maximum number of processes at the same time.
            places: names of GPUs, `cuda:1`.
            patience: minimum seconds without progress before a worker counts as stuck; None: `watchdog.stall_after`.
            until: time on the monotonic clock at which running cells save and stop.
            say: called with one line at a time to inform the user.
        """
        super().__init__(workers, patience=patience, until=until, say=say)
        self._places, self._running, self._shared = tuple(places), list[_Worker](), set[str]()
        self._context = fork_server.start_fork_server()

    def run(self, source: JobSource, listener: Listener) -> None:
        """Train the cells of `source` in its order; a failed cell does not stop the others.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP was received; every running cell was asked to save first.
            OutOfSpace: the disk is full; no cell was begun after the first that could not be saved.
            TimeOver: the time limit came first; running cells were asked to save.
        """
        self._begin_run(source, listener)
        self._running = []
        self._looked, looks, hinted = -LOOK_EVERY, SuspendWatch(), False
        with stop_signals(self._stop_all, self._kill_all) as signalled:

            def stopped() -> bool:
                return self._is_to_end(signalled())

            while self._running or ((len(self._queue) or self._alone) and not stopped()):
                while not stopped() and self._begin_one():
                    pass
                if stopped():  # a cell may have been started while the signal arrived
                    self._stop_all()
                if signalled() and self._running and not hinted:
                    hinted = True
                    self._say("stopping after saving; once more (Ctrl-C) stops at once")
                busy = len(self._running)
                for worker in _ready(self._running):
                    self._listen(worker)
                self._look_after(looks.missed())
                # Report waiting cells only after refilling free worker slots; after a stop, none are waiting.
                if len(self._running) == busy and (busy or not stopped()):
                    listener.tick(len(self._queue))
        self._end_run(signalled())

    def stop(self, fingerprint: str) -> None:
        """Ask a running cell to save and stop; it ends as if interrupted."""
        for worker in self._running:
            if worker.job.fingerprint == fingerprint:
                worker.stop.set()

    def _stop_all(self) -> None:
        for worker in self._running:
            worker.stop.set()

    def _kill_all(self) -> None:
        for worker in self._running:
            worker.kill(STOPPED_AT_ONCE)

    def _look_after(self, missed: float) -> None:
        """Kill stuck workers, and give up those that do not even die; `missed`: seconds without a check."""
        for worker in list(self._running):
            worker.watch.was_away(missed)
            if worker.killed is None and (line := worker.watch.stalled()) is not None:
                worker.kill(f"{line} (process {worker.process.pid} was ended)")
            if worker.killed is not None and time.monotonic() - worker.killed - missed > TO_DIE:
                children: Any = multiprocessing.process
                children._children.discard(worker.process)  # otherwise Python waits for it at exit
                self._over(worker)

    def _over(self, worker: _Worker) -> None:
        worker.channel.close()
        self._running.remove(worker)
        self._looked = -LOOK_EVERY
        job, code = worker.job, worker.process.exitcode
        line = f"its process ended with code {code}"
        if code == NO_SPACE:
            line = worker.last_words or "no space left on device"
        elif code is not None and code < 0:
            line = f"its process was killed by {signal.Signals(-code).name} (out of memory?)"
        self._conclude(job, code, line, verdict=worker.verdict, is_shared=job.fingerprint in self._shared)

    def _begin_one(self) -> bool:
        """Start a cell, or report one that has already ended; False without a free worker or a cell that can begin."""
        if len(self._running) >= self._workers or time.monotonic() - self._looked < LOOK_EVERY:
            return False
        if self._alone:  # starting others would make those that need a GPU of their own wait forever
            return self._begin_alone()
        if self._places and not self._shareable():
            return False
        taken = self._queue.take({worker.job.fingerprint for worker in self._running})
        if taken is None:
            self._looked = time.monotonic()
        elif isinstance(taken, SettledCell):
            self._listener.ended(taken.job, taken.error)
        else:
            self._running.append(self._start(taken, _free_slot(self._running)))
        return taken is not None

    def _begin_alone(self) -> bool:
        """Start a cell that ran out of memory beside others, once a GPU is idle; False while none is."""
        taken = {worker.job.place for worker in self._running}
        if all(place in taken for place in self._places):
            return False
        job = self._alone.pop(0)
        self._tried_alone.add(job.fingerprint)
        self._running.append(self._start(job, _free_slot(self._running)))
        return True

    def _shareable(self) -> list[str]:
        """Return the GPUs without a cell that needs the GPU to itself."""
        held = {worker.job.place for worker in self._running if worker.job.fingerprint in self._tried_alone}
        return [place for place in self._places if place not in held]

    def _listen(self, worker: _Worker) -> None:
        """Handle one message, or the end of the worker."""
        try:
            message = worker.channel.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._over(worker)
            return
        if isinstance(message, str):
            worker.last_words = message
            return
        worker.watch.progress(*message)
        self._listener.progress(worker.job, *message)

    def _start(self, job: CellJob, slot: int) -> _Worker:
        if self._places:
            self._shared.discard(job.fingerprint)
            running = {worker.job.fingerprint: worker.job.place for worker in self._running}
            place = next_place(self._shareable(), list(running.values()), _memory_used(self._places))
            beside = [fingerprint for fingerprint, other in running.items() if other == place]
            self._shared.update([job.fingerprint, *beside] if beside else [])
            alone = job.fingerprint in self._tried_alone
            sharing = 1 if alone else math.ceil(self._workers / len(self._places))
            job = replace(job, place=place, sharing=sharing)
        else:
            job = replace(job, sharing=self._workers)
        receive, send = self._context.Pipe(duplex=False)
        stop = self._context.Event()
        process = self._context.Process(target=work, args=(job, send, stop), daemon=True)
        process.start()
        send.close()
        self._listener.started(job)
        return _Worker(job, process, receive, slot, stop, ProgressWatch(self._patience))


def next_place(places: Sequence[str], taken: Sequence[str], load: Mapping[str, float]) -> str:
    """Choose the one of `places` on which the next cell begins.

    The place with the fewest cells of this engine is chosen; among several, the one with the least memory in use, then
    the first. So two runners on one machine do not both begin on the first GPU while another idles.

    Args:
        places: names of GPUs, `cuda:1`; at least one.
        taken: the place of each running cell.
        load: bytes of memory in use, by place; 0 if unknown.
    """
    return min(places, key=lambda place: (list(taken).count(place), load.get(place, 0)))


def _memory_used(places: Sequence[str]) -> dict[str, float]:
    known = nvml.cards() or []
    return {f"cuda:{number}": card.used for number, card in enumerate(known) if f"cuda:{number}" in places}


def _free_slot(running: list[_Worker]) -> int:
    taken = {worker.slot for worker in running}
    return next(slot for slot in range(len(running) + 1) if slot not in taken)


def _ready(running: list[_Worker]) -> list[_Worker]:
    channels = {worker.channel: worker for worker in running}
    return [channels[channel] for channel in wait(list(channels), timeout=0.2) if isinstance(channel, Connection)]
