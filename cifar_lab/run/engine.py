"""The local engine: each cell in a process of its own, so many at a time.

Processes come from a fork server that has torch loaded, so one starts at once, dies alone, and gives its memory back.
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
from typing import Any, Protocol

from cifar_lab.errors import Interrupted, OutOfSpace
from cifar_lab.out_of_space import is_out_of_space, where
from cifar_lab.run import fork_server, nvml
from cifar_lab.run.cell import Job
from cifar_lab.run.queue import Settled
from cifar_lab.run.signals import stop_signals
from cifar_lab.run.watchdog import Looks, Watch, stall_after
from cifar_lab.run.worker import FOUND_FINISHED, NO_SPACE, TAKEN, work

STOPPED = "stopped, state saved"
"""The `error` of a cell that was told to stop: it is not over."""
STOPPED_AT_ONCE = "stopped at once; it goes on from its last checkpoint"
NOT_SAVED = "no space left; it goes on from its last checkpoint"
UNFINISHED = frozenset({STOPPED, STOPPED_AT_ONCE, NOT_SAVED})
"""Each `error` of a cell that is not over: it neither failed nor finished."""
TO_DIE = 5.0
"""Seconds that a killed worker has to die; one that waits for a dead disk does not, and is given up."""
LOOK_EVERY = 1.0
"""Seconds between two looks at cells that wait for others."""


class Source(Protocol):
    """Where the engine gets its cells from; a `queue.Queue` is one."""

    def __len__(self) -> int:
        """How many are not begun; 0 once there will be no more."""

    def take(self, running: set[str]) -> Job | Settled | None:
        """The next one to begin, or one that is over already; None while all must wait.

        `running`: fingerprints of the cells that this engine trains now.
        """

    def put_back(self, job: Job) -> None:
        """Another runner was quicker to take `job`."""


class Listener(Protocol):
    """Who is told what the engine does."""

    def started(self, job: Job) -> None: ...
    def progress(self, job: Job, epoch: int, step: int, steps: int) -> None: ...
    def ended(self, job: Job, error: str | None) -> None:
        """`job` is over, here or in another runner; `error` is one line when its cell is not finished."""

    def put_off(self, job: Job) -> None:
        """`job` was started here, and `ended` follows later.

        Another runner had it already or has finished it, or it is to be tried once more alone on a GPU.
        """

    def tick(self, waiting: int) -> None:
        """Called a few times a second; `waiting` cells are not begun."""


@dataclass(eq=False)
class _Worker:
    """A process that trains one cell."""

    job: Job
    process: ForkServerProcess
    channel: Connection
    slot: int
    stop: Event
    watch: Watch = field(default_factory=lambda: Watch(stall_after()))
    verdict: str | None = None
    """Why it was killed by this runner; none: it was not."""
    killed: float | None = None
    """Time at which it was killed, on the monotonic clock."""
    last_words: str = ""
    """One line about a disk that is full."""

    def kill(self, verdict: str) -> None:
        """End the process at once; its checkpoint stays."""
        if self.killed is None:
            self.verdict, self.killed = verdict, time.monotonic()
        self.process.kill()


class LocalEngine:
    """Runs cells on this machine, `workers` at a time; of the GPUs in `places` each goes to the one with the fewest.

    A cell that runs out of a GPU's memory beside others is tried once more with that GPU to itself.
    """

    _full = ""
    """One line about the disk that is full; nothing more is begun."""

    def __init__(
        self,
        workers: int,
        places: Sequence[str] = (),
        *,
        patience: float | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start the server that workers are forked from.

        Args:
            workers: most processes at the same time.
            places: names of GPUs, `cuda:1`.
            patience: seconds without progress that a worker is allowed at least; none: `watchdog.stall_after`.
            say: told, one line at a time, of what a user should know.
        """
        self._patience, self._say = stall_after() if patience is None else patience, say
        self._workers, self._places, self._running = workers, tuple(places), list[_Worker]()
        self._shared, self._alone, self._tried_alone = set[str](), list[Job](), set[str]()
        self.trained = 0
        """Cells that came to their end here."""
        self._context = fork_server.start()

    def run(self, source: Source, listener: Listener) -> None:
        """Train what `source` has, in its order; a cell that fails stops no other.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP came; every running cell was asked to save first.
            OutOfSpace: the disk is full; no cell was begun after the first that could not be saved.
        """
        self._queue, self._running, self._listener, self._full = source, list[_Worker](), listener, ""
        self._looked, looks, hinted = -LOOK_EVERY, Looks(), False
        with stop_signals(self._stop_all, self._kill_all) as signalled:
            while self._running or ((len(self._queue) or self._alone) and not (signalled() or self._full)):
                while not (signalled() or self._full) and self._begin_one():
                    pass
                if signalled() or self._full:  # one may have been started while the signal came
                    self._stop_all()
                if signalled() and self._running and not hinted:
                    hinted = True
                    self._say("stopping after saving; once more (Ctrl-C) stops at once")
                busy = len(self._running)
                for worker in _ready(self._running):
                    self._listen(worker)
                self._look_after(looks.missed())
                # Whether anybody is waited for shows once places that became free are taken; after a stop nobody is.
                if len(self._running) == busy and (busy or not (signalled() or self._full)):
                    listener.tick(len(self._queue))
        if signalled() or self._full:
            while self._alone:
                listener.ended(self._alone.pop(), STOPPED)
        if self._full:
            raise OutOfSpace(f"{self._full}{_not_begun(len(self._queue))}")
        if signalled():
            raise Interrupted(_stopped(len(self._queue), at_once=signalled() > 1))

    def stop(self, fingerprint: str) -> None:
        """Have a cell that is being trained save and stop; it ends like one that was interrupted."""
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
        """Kill workers that are stuck, and give up those that do not even die; `missed`: seconds without a look."""
        for worker in list(self._running):
            worker.watch.was_away(missed)
            if worker.killed is None and (line := worker.watch.stalled()) is not None:
                worker.kill(f"{line} (process {worker.process.pid} was ended)")
            if worker.killed is not None and time.monotonic() - worker.killed - missed > TO_DIE:
                children: Any = multiprocessing.process
                children._children.discard(worker.process)  # else Python's own end would wait for it
                self._over(worker)

    def _over(self, worker: _Worker) -> None:
        worker.channel.close()
        self._running.remove(worker)
        self._looked = -LOOK_EVERY
        self._conclude(worker)

    def _begin_one(self) -> bool:
        """Start a cell, or note that one is over already; False when there is no free worker or nothing to do now."""
        if len(self._running) >= self._workers or time.monotonic() - self._looked < LOOK_EVERY:
            return False
        if self._alone:  # none is begun beside those that wait for a GPU of their own, or they would wait for ever
            return self._begin_alone()
        if self._places and not self._shareable():
            return False
        found = self._queue.take({worker.job.fingerprint for worker in self._running})
        if found is None:
            self._looked = time.monotonic()
        elif isinstance(found, Settled):
            self._listener.ended(found.job, found.error)
        else:
            self._running.append(self._start(found, _free_slot(self._running)))
        return found is not None

    def _begin_alone(self) -> bool:
        """Start a cell that ran out of memory beside others, once a GPU is free of cells; False while none is."""
        taken = {worker.job.place for worker in self._running}
        if all(place in taken for place in self._places):
            return False
        job = self._alone.pop(0)
        self._tried_alone.add(job.fingerprint)
        self._running.append(self._start(job, _free_slot(self._running)))
        return True

    def _shareable(self) -> list[str]:
        """Return the GPUs on which no cell runs that is to be alone there."""
        held = {worker.job.place for worker in self._running if worker.job.fingerprint in self._tried_alone}
        return [place for place in self._places if place not in held]

    def _listen(self, worker: _Worker) -> None:
        """Pass on one message, or what the end of the worker means."""
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

    def _conclude(self, worker: _Worker) -> None:
        job, code = worker.job, worker.process.exitcode
        if worker.verdict is not None and job.record.result() is None:
            self._listener.ended(job, self._judged(worker, worker.verdict))
            return
        if code == NO_SPACE:
            self._full = self._full or worker.last_words or "no space left on device"
            self._listener.ended(job, NOT_SAVED)
            return
        if code == TAKEN or (code != Interrupted.exit_code and job.record.state() == "running"):
            self._listener.put_off(job)
            self._queue.put_back(job)
            return
        if code == FOUND_FINISHED:
            self._listener.put_off(job)
        error = self._how_it_ended(worker)
        if self._is_to_be_tried_alone(job):
            job.record.forget_failure()
            self._alone.append(job)
            self._listener.put_off(job)
            return
        self.trained += error is None and code != FOUND_FINISHED
        self._listener.ended(job, error)

    def _how_it_ended(self, worker: _Worker) -> str | None:
        """Return one line about a cell without a result, which is written down unless the worker did so; else None."""
        record, code = worker.job.record, worker.process.exitcode
        if record.result() is not None:
            return None
        if code == Interrupted.exit_code:
            return STOPPED
        if (failure := record.failure()) is not None:
            return str(failure["error"])
        line = f"its process ended with code {code}"
        if code is not None and code < 0:
            line = f"its process was killed by {signal.Signals(-code).name} (out of memory?)"
        return self._failed(worker, line)

    def _judged(self, worker: _Worker, verdict: str) -> str:
        """Return one line about a worker that this runner killed: the cell failed, unless all were to stop."""
        return verdict if verdict == STOPPED_AT_ONCE else self._failed(worker, verdict)

    def _failed(self, worker: _Worker, line: str) -> str:
        """Write down that a cell failed; on a full disk it did not, and nothing more is begun."""
        try:
            worker.job.record.write_failure({"error": line, "trace": line, "time": time.time_ns() // 1_000_000})
        except OSError as error:
            if not is_out_of_space(error):
                raise
            self._full = self._full or where(error, worker.job.record.folder)
            return NOT_SAVED
        return line

    def _is_to_be_tried_alone(self, job: Job) -> bool:
        """Tell whether a cell found no memory beside others, and has not been tried alone yet."""
        if job.fingerprint not in self._shared or job.fingerprint in self._tried_alone:
            return False
        return (job.record.failure() or {}).get("out_of_memory", False) is True

    def _start(self, job: Job, slot: int) -> _Worker:
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
        return _Worker(job, process, receive, slot, stop, Watch(self._patience))


def next_place(places: Sequence[str], taken: Sequence[str], load: Mapping[str, float]) -> str:
    """Return the one of `places` at which the next cell begins.

    It is the one with the fewest cells of this engine, of several the one with the least load, and then the first: two
    runners on one machine do not both begin at the first GPU while another idles.

    Args:
        places: names of GPUs, `cuda:1`; at least one.
        taken: the place of each cell that runs.
        load: bytes of memory in use, by place; 0 where it is not known.
    """
    return min(places, key=lambda place: (list(taken).count(place), load.get(place, 0)))


def _memory_used(places: Sequence[str]) -> dict[str, float]:
    known = nvml.cards() or []
    return {f"cuda:{number}": card.used for number, card in enumerate(known) if f"cuda:{number}" in places}


def _stopped(left: int, *, at_once: bool = False) -> str:
    return ("stopped at once" if at_once else "stopped after saving") + _not_begun(left)


def _not_begun(left: int) -> str:
    many = {0: "", 1: "; 1 cell was not begun"}
    return many.get(left, f"; {left} cells were not begun")


def _free_slot(running: list[_Worker]) -> int:
    taken = {worker.slot for worker in running}
    return next(slot for slot in range(len(running) + 1) if slot not in taken)


def _ready(running: list[_Worker]) -> list[_Worker]:
    channels = {worker.channel: worker for worker in running}
    return [channels[channel] for channel in wait(list(channels), timeout=0.2) if isinstance(channel, Connection)]
