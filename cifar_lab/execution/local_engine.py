"""The local engine: trains each cell in its own process, a fixed number at a time.

Processes are forked from a server that has loaded torch: they start at once, fail alone, and free their memory.
"""

from __future__ import annotations

import math
import multiprocessing.process
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from typing import Any

from cifar_lab.execution import fork_server, nvml
from cifar_lab.execution.cell_engine import LOOK_EVERY, CellEngine, RunningCell
from cifar_lab.execution.engine import STOPPED_AT_ONCE, JobSource, Listener
from cifar_lab.execution.watchdog import ProgressWatch
from cifar_lab.execution.worker import CellJob
from cifar_lab.execution.worker_process import NO_SPACE, work

FAULTS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals that end a process for a fault in native code, such as PyTorch's."""


@dataclass(eq=False, kw_only=True)
class _Worker(RunningCell):
    """Process of this machine that trains one cell."""

    process: ForkServerProcess
    channel: Connection
    stop: Event
    last_words: str = ""
    """One line about a full disk."""

    def _kill(self) -> None:
        self.process.kill()

    @property
    def what(self) -> str:
        return f"process {self.process.pid}"


class LocalEngine(CellEngine):
    """Train cells on this machine, `workers` at a time, each on the GPU of `places` with the fewest cells.

    A cell that runs out of GPU memory beside others is retried once with that GPU to itself.
    """

    TO_DIE = 5.0
    _running: list[_Worker]

    def __init__(
        self, workers: int, places: Sequence[str] = (), *, patience: float | None = None, until: float = math.inf,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Start the server that workers are forked from; the arguments are those of `engine.make_engine`."""
        super().__init__(workers, patience=patience, until=until, say=say)
        self._places, self._shared = tuple(places), set[str]()
        self._context = fork_server.start_fork_server()

    def run(self, source: JobSource, listener: Listener) -> None:
        """Train the cells of `source`, as `Engine.run` has it."""
        self._train(source, listener, self._stop_all, self._kill_all)

    def stop(self, fingerprint: str) -> None:
        """Ask a running cell to save and stop; it ends as if interrupted."""
        for worker in self._running:
            if worker.job.fingerprint == fingerprint:
                worker.stop.set()

    def _stop_all(self, *, at_once: bool = False) -> None:  # noqa: ARG002 (the signal itself ends them)
        for worker in self._running:
            worker.stop.set()

    def _kill_all(self) -> None:
        for worker in self._running:
            worker.kill(STOPPED_AT_ONCE)

    def _over(self, worker: _Worker) -> None:
        worker.channel.close()
        if worker.process.exitcode is None:  # it did not even die when it was killed
            children: Any = multiprocessing.process
            children._children.discard(worker.process)  # otherwise Python waits for it at exit
        self._running.remove(worker)
        self._looked = -LOOK_EVERY
        job, code = worker.job, worker.process.exitcode
        line = f"its process ended with code {code}"
        if code == NO_SPACE:
            line = worker.last_words or "no space left on device"
        elif code is not None and code < 0:
            why = "out of memory?" if -code == signal.SIGKILL else "a fault in native code?" if -code in FAULTS else ""
            line = f"its process was killed by {signal.Signals(-code).name}{f' ({why})' if why else ''}"
        self._conclude(job, code, line, verdict=worker.verdict, is_shared=job.fingerprint in self._shared)

    def _is_blocked(self) -> bool:
        if self._alone:  # until a GPU is idle
            return {worker.job.place for worker in self._running}.issuperset(self._places)
        return bool(self._places) and not self._shareable()

    def _shareable(self) -> list[str]:
        """Return the GPUs without a cell that needs the GPU to itself."""
        held = {worker.job.place for worker in self._running if worker.job.fingerprint in self._tried_alone}
        return [place for place in self._places if place not in held]

    def _hear(self) -> None:
        for worker in _ready(self._running):
            self._listen(worker)

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

    def _begin(self, job: CellJob) -> None:
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
        watch = ProgressWatch(self._patience)
        self._running.append(_Worker(job=job, watch=watch, process=process, channel=receive, stop=stop))


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


def _ready(running: list[_Worker]) -> list[_Worker]:
    channels = {worker.channel: worker for worker in running}
    return [channels[channel] for channel in wait(list(channels), timeout=0.2) if isinstance(channel, Connection)]
