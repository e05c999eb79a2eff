"""The local engine: each cell in a process of its own, so many at a time.

Processes come from a fork server that has torch loaded, so one starts at once, dies alone, and gives its memory back.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Protocol

from filelock import Timeout

from cifar_lab.errors import CifarLabError, Interrupted
from cifar_lab.run import fork_server, nvml
from cifar_lab.run.cell import Job, train_cell
from cifar_lab.run.queue import Settled

REPORT_EVERY = 0.5
"""Seconds between two messages of a worker about its progress."""
FOUND_FINISHED = 3
"""Exit code of a worker whose cell another runner had finished when it got the lock."""
TAKEN = 4
"""Exit code of a worker that another runner was quicker than."""
STOPPED = "stopped, state saved"
"""The `error` of a cell that was told to stop: it is not over."""
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


@dataclass(frozen=True)
class _Worker:
    job: Job
    process: ForkServerProcess
    channel: Connection
    slot: int
    stop: Event


class LocalEngine:
    """Runs cells on this machine, `workers` at a time; of the GPUs in `places` each goes to the one with the fewest.

    A cell that runs out of a GPU's memory beside others is tried once more with that GPU to itself.
    """

    def __init__(self, workers: int, places: Sequence[str] = ()) -> None:
        self._workers, self._places, self._running = workers, tuple(places), list[_Worker]()
        self._shared, self._alone, self._tried_alone = set[str](), list[Job](), set[str]()
        self.trained = 0
        """Cells that came to their end here."""
        self._context = fork_server.start()

    def run(self, source: Source, listener: Listener) -> None:
        """Train what `source` has, in its order; a cell that fails stops no other.

        Raises:
            Interrupted: SIGINT or SIGTERM came; every running cell was asked to save first.
        """
        self._queue, self._running, self._listener = source, list[_Worker](), listener
        self._looked = -LOOK_EVERY
        with _signals(self._stop_all) as signalled:
            while self._running or ((len(self._queue) or self._alone) and not signalled()):
                while not signalled() and self._begin_one():
                    pass
                if signalled():  # one may have been started while the signal came
                    self._stop_all()
                busy = len(self._running)
                for worker in _ready(self._running):
                    self._listen(worker)
                # Whether anybody is waited for shows once places that became free are taken; after a stop nobody is.
                if len(self._running) == busy and (busy or not signalled()):
                    listener.tick(len(self._queue))
        if signalled():
            while self._alone:
                listener.ended(self._alone.pop(), STOPPED)
            raise Interrupted(_stopped(len(self._queue)))

    def stop(self, fingerprint: str) -> None:
        """Have a cell that is being trained save and stop; it ends like one that was interrupted."""
        for worker in self._running:
            if worker.job.fingerprint == fingerprint:
                worker.stop.set()

    def _stop_all(self) -> None:
        for worker in self._running:
            worker.stop.set()

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
            self._listener.progress(worker.job, *worker.channel.recv())
        except EOFError:
            worker.process.join()
            worker.channel.close()
            self._running.remove(worker)
            self._looked = -LOOK_EVERY
            self._conclude(worker)

    def _conclude(self, worker: _Worker) -> None:
        job, code = worker.job, worker.process.exitcode
        if code == TAKEN or (code != Interrupted.exit_code and job.record.state() == "running"):
            self._listener.put_off(job)
            self._queue.put_back(job)
            return
        if code == FOUND_FINISHED:
            self._listener.put_off(job)
        error = _how_it_ended(worker)
        if self._is_to_be_tried_alone(job):
            job.record.forget_failure()
            self._alone.append(job)
            self._listener.put_off(job)
            return
        self.trained += error is None and code != FOUND_FINISHED
        self._listener.ended(job, error)

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
        process = self._context.Process(target=_work, args=(job, send, stop), daemon=True)
        process.start()
        send.close()
        self._listener.started(job)
        return _Worker(job, process, receive, slot, stop)


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


def _stopped(left: int) -> str:
    many = {0: "", 1: "; 1 cell was not begun"}
    return "stopped after saving" + many.get(left, f"; {left} cells were not begun")


def _free_slot(running: list[_Worker]) -> int:
    taken = {worker.slot for worker in running}
    return next(slot for slot in range(len(running) + 1) if slot not in taken)


def _ready(running: list[_Worker]) -> list[_Worker]:
    channels = {worker.channel: worker for worker in running}
    return [channels[channel] for channel in wait(list(channels), timeout=0.2) if isinstance(channel, Connection)]


def _how_it_ended(worker: _Worker) -> str | None:
    record, code = worker.job.record, worker.process.exitcode
    if record.result() is not None:
        return None
    if code == Interrupted.exit_code:
        return STOPPED
    if (failure := record.failure()) is not None:
        return str(failure["error"])
    said = f"its process ended with code {code}"
    if code is not None and code < 0:
        said = f"its process was killed by {signal.Signals(-code).name} (out of memory?)"
    record.write_failure({"error": said, "trace": said, "time": time.time_ns() // 1_000_000})
    return said


@contextmanager
def _signals(on_first: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM call `on_first` once; a second one ends the program as it would without us."""
    received = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = True
        on_first()
        for name, handler in before.items():
            signal.signal(name, handler)

    before = {name: signal.signal(name, handle) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _work(job: Job, channel: Connection, stop: Event) -> None:
    """The body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches everybody; the runner decides
    reported = 0.0
    orphaned = terminated = False

    def terminate(_number: int, _frame: FrameType | None) -> None:  # a scheduler's end of time reaches everybody, too
        nonlocal terminated
        terminated = True

    signal.signal(signal.SIGTERM, terminate)

    def progress(epoch: int, step: int, steps: int) -> None:
        nonlocal reported, orphaned
        if step != steps and time.monotonic() - reported < REPORT_EVERY:
            return
        reported = time.monotonic()
        try:
            channel.send((epoch, step, steps))
        except BrokenPipeError:  # the runner is gone: save and leave, another one will go on from there
            orphaned = True

    try:
        trained = train_cell(job, progress, lambda: orphaned or terminated or stop.is_set())
    except CifarLabError as error:
        raise SystemExit(TAKEN if isinstance(error.__context__, Timeout) else error.exit_code) from None
    except Exception:  # noqa: BLE001 (its trace is in the journal, and the runner reports it)
        raise SystemExit(1) from None
    if not trained:
        raise SystemExit(FOUND_FINISHED)
