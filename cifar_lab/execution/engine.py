"""Interface between an engine, which trains cells somewhere, and the runner or search that supplies them.

A further engine implements `Engine`, best as a `cell_engine.CellEngine`, and gets an entry in `ENGINES`;
`tests/contracts/test_engines.py` states what it must do. It trains a cell wherever `CellJob.runs` is the same folder,
by `cifar_lab.execution.worker.train_cell`: the function takes the cell's lock, resumes from its checkpoint, and writes
its result or its failure, so that an engine only starts, stops and watches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cifar_lab.errors import UsageError, nearest

if TYPE_CHECKING:
    from cifar_lab.execution.worker import CellJob

LOCAL = "local"
"""Name of the engine that trains cells in processes of this machine."""
RAY = "ray"
"""Name of the engine that trains cells as tasks of a Ray cluster."""
STOPPED = "stopped, state saved"
"""Error of a cell that was asked to stop; it can be resumed."""
STOPPED_AT_ONCE = "stopped at once; it goes on from its last checkpoint"
NOT_SAVED = "no space left; it goes on from its last checkpoint"
UNFINISHED = frozenset({STOPPED, STOPPED_AT_ONCE, NOT_SAVED})
"""Errors of cells that neither failed nor finished."""


@dataclass(frozen=True)
class SettledCell:
    """Cell that ended outside this engine; `error` is one line if it has no result."""

    job: CellJob
    error: str | None


class JobSource(Protocol):
    """Source of an engine's cells; `scheduler.Scheduler` and a search's `TrialQueue` are two."""

    def __len__(self) -> int:
        """Return the number of cells that are not begun; 0 if no more will come."""

    def take(self, running: set[str]) -> CellJob | SettledCell | None:
        """Return the next cell to begin, or one that has already ended; None while all must wait, or without any.

        `running`: fingerprints of the cells that this engine trains now.
        """

    def put_back(self, job: CellJob) -> None:
        """Return `job` to the queue, because another runner took it first."""


class Listener(Protocol):
    """Observer of an engine's events, called in the thread of `Engine.run`."""

    def started(self, job: CellJob) -> None:
        """Handle the start of `job`, with the device that it was given."""

    def progress(self, job: CellJob, epoch: int, step: int, steps: int) -> None:
        """Handle the progress of a running `job`: `step` of `steps` in `epoch`, each from 1. Steps may be left out."""

    def ended(self, job: CellJob, error: str | None) -> None:
        """Handle the end of `job`, here or in another runner; `error` is one line if its cell is not finished."""

    def put_off(self, job: CellJob) -> None:
        """Handle a `job` that was started here but will be handled again, `ended` follows later.

        Another runner had it already or has finished it, or it is retried alone on a GPU.
        """

    def tick(self, waiting: int) -> None:
        """Handle a timer event, a few times a second; `waiting` cells are not begun."""


class Engine(Protocol):
    """Trainer of cells: takes jobs from a source, trains some at a time, and reports their events to a listener."""

    @property
    def trained(self) -> int:
        """Number of cells that this engine itself trained to their end since it was created."""

    def run(self, source: JobSource, listener: Listener) -> None:
        """Train the cells of `source` in its order, until it is empty and the last one has ended.

        - `source.take` is called whenever a cell more can be trained; after None it is asked again within seconds.
        - A `SettledCell` is reported as ended, and not trained.
        - A job is reported as started, then as progressing, then as ended, once: with None if its record has a result,
          else with one line, which is one of `UNFINISHED` if the cell was stopped and can be resumed. Any other line is
          a failure, and is in its record (`CellRecord.failure`). A failure does not stop the other cells.
        - A job whose record another runner holds is put off, and put back into the source.
        - `listener.tick` is called while cells are trained or awaited.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP was received; every running cell was asked to save first, and the
                rest were not begun. The signal handlers are restored.
            OutOfSpace: the disk is full; no cell was begun after the first that could not be saved.
            TimeOver: the time limit of `make_engine` came first; running cells were asked to save.
        """

    def stop(self, fingerprint: str) -> None:
        """Ask a running cell to save and stop, from a method of the listener; it ends with an error of `UNFINISHED`.

        A cell that is not running is ignored.
        """


def _make_local(
    workers: int, places: Sequence[str], *, patience: float | None, until: float, say: Callable[[str], None]
) -> Engine:
    from cifar_lab.execution.local_engine import LocalEngine

    return LocalEngine(workers, places, patience=patience, until=until, say=say)


def _make_ray(
    workers: int, places: Sequence[str], *, patience: float | None, until: float, say: Callable[[str], None]
) -> Engine:
    from cifar_lab.execution.ray_cluster import require_ray

    require_ray()
    from cifar_lab.execution.ray_engine import RayEngine

    return RayEngine(workers, places, patience=patience, until=until, say=say)


ENGINES: dict[str, Callable[..., Engine]] = {LOCAL: _make_local, RAY: _make_ray}
"""Functions that create an engine, by the name of it on a command line; their arguments are those of `make_engine`."""


def make_engine(
    name: str, workers: int, places: Sequence[str] = (), *, patience: float | None = None, until: float = math.inf,
    say: Callable[[str], None] = lambda _: None,
) -> Engine:  # fmt: skip
    """Create the engine of this name.

    Args:
        name: one of `ENGINES`.
        workers: maximum number of cells at the same time, from 1 up.
        places: names of GPUs that cells are trained on, `cuda:1`; none: torch's current device.
        patience: minimum seconds without progress before a cell counts as stuck; None: the engine's own.
        until: time on the monotonic clock at which running cells save and stop, and no more are begun.
        say: called with one line at a time to inform the user.

    Raises:
        UsageError: there is no engine of this name, or its library is not installed.
    """
    if name not in ENGINES:
        raise UsageError(f"no engine named '{name}'{nearest(name, ENGINES)}")
    return ENGINES[name](workers, places, patience=patience, until=until, say=say)


@contextmanager
def warm_up(*, trains: bool) -> Iterator[Callable[[bool], None]]:
    """Start loading torch for worker processes in parallel with this process, before it imports torch itself.

    The processes time steps, and with `trains` also train cells. Yields a function that waits for the loading, which
    would slow down timed steps, or with False ends it as unneeded. An exception ends it, too.
    """
    from cifar_lab.execution import fork_server

    modules = fork_server.PRELOADED if trains else fork_server.WITHOUT_COMPILER

    def settle(is_needed: bool) -> None:
        if is_needed:
            fork_server.wait(modules)
        else:
            fork_server.stop()

    fork_server.start_fork_server(modules)
    try:
        yield settle
    except BaseException:
        fork_server.stop()
        raise
