"""The Ray engine: trains each cell as a task of a Ray cluster, on a node that shares the runs folder.

A task reports to a switchboard, an actor beside the runner, at most twice a second and without waiting; the answer says
whether to stop. The runner has one request for news under way there. So neither side asks in vain.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cifar_lab.errors import CellError, Interrupted, UsageError
from cifar_lab.execution.cell_engine import CellEngine
from cifar_lab.execution.engine import STOPPED_AT_ONCE, JobSource, Listener, SettledCell
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.ray_cluster import cluster_nodes
from cifar_lab.execution.stop_signals import stop_signals
from cifar_lab.execution.watchdog import ProgressWatch, SuspendWatch
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.execution.worker_process import FOUND_FINISHED, REPORT_EVERY, exit_code, last_words
from cifar_lab.store.mirror import open_mirror
from cifar_lab.text import many, printable

LOOK_EVERY = 1.0
"""Seconds between two checks of cells that wait for others."""
NEWS_WITHIN = 5.0
"""Seconds after which a request for news is answered without any."""
TO_DIE = 15.0
"""Seconds after which a task that was ended is given up, for example one on a node that does not answer."""
NODES_TO_LOSE = 3
"""Nodes that may die under one cell before it counts as failed: it may be the reason."""
LONG_WAIT = 30.0
"""Seconds after which the user is told that cells wait for free processors."""
PASSED_ON = "CIFAR_LAB_"
"""Beginning of the environment variables that nodes get from the runner where they have none."""
Progress = tuple[int, int, int] | None
"""Epoch, step and steps; None as a task begins."""


class Switchboard:
    """Actor that passes progress from tasks to the runner, and requests to stop the other way."""

    def __init__(self) -> None:
        self._news: list[tuple[int, Progress]] = []
        self._to_stop: set[int] = set()
        self._is_there = asyncio.Event()

    async def report(self, task: int, progress: Progress) -> bool:
        """Take the progress of a task, and return whether it is to stop."""
        self._news.append((task, progress))
        self._is_there.set()
        return task in self._to_stop

    async def stop(self, tasks: Sequence[int]) -> None:
        """Have these tasks stop at their next report."""
        self._to_stop.update(tasks)

    async def news(self) -> list[tuple[int, Progress]]:
        """Return what was reported since the last call, as soon as there is something, or after `NEWS_WITHIN`."""
        try:
            await asyncio.wait_for(self._is_there.wait(), NEWS_WITHIN)
        except TimeoutError:
            return []
        self._is_there.clear()
        news, self._news = self._news, []
        return news

    async def wake(self) -> None:
        """Have the request for news that is under way answered now."""
        self._is_there.set()


class _Reporter:
    """Callbacks of a training in a task: report progress without waiting, and learn from the answers when to stop."""

    def __init__(self, switchboard: Any, task: int) -> None:
        self._switchboard, self._task = switchboard, task
        self._reported, self._answers = 0.0, list[Any]()
        self._is_to_stop = bool(ray.get(switchboard.report.remote(task, None)))

    def progress(self, epoch: int, step: int, steps: int) -> None:
        if step != steps and time.monotonic() - self._reported < REPORT_EVERY:
            return
        self._reported = time.monotonic()
        self._answers.append(self._switchboard.report.remote(self._task, (epoch, step, steps)))

    def wants_to_stop(self, patience: float = 0.0) -> bool:
        """Tell whether an answer asked to stop, or the runner is gone; `patience`: seconds to wait for all answers."""
        if self._answers:
            ready, self._answers = ray.wait(self._answers, num_returns=len(self._answers), timeout=patience)
            try:
                self._is_to_stop |= any(ray.get(ready))
            except RayActorError:  # save and end, so that another runner can resume
                self._is_to_stop = True
        return self._is_to_stop


@dataclass(frozen=True, kw_only=True)
class _Surroundings:
    """Properties of the runner's process that user code on a node may need."""

    folder: str = field(default_factory=lambda: str(Path.cwd()))
    paths: tuple[str, ...] = field(default_factory=lambda: tuple(str(Path(each).resolve()) for each in sys.path))
    environment: dict[str, str] = field(
        default_factory=lambda: {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    )

    def enter(self) -> None:
        """Give this process the runner's folder if it is there, and the modules that it cannot import yet."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path.extend(each for each in self.paths if each not in sys.path)
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)


def train_as_task(job: CellJob, number: int, switchboard: Any, surroundings: _Surroundings) -> tuple[int, str]:
    """Train `job` on a node, and return an exit code as `worker_process.work` has them, and one line on an error."""
    surroundings.enter()
    reporter = _Reporter(switchboard, number)
    try:
        if job.store:
            job = replace(job, runs=open_mirror(job.store, [job.fingerprint, *job.recipe.parents]))
        if not job.runs.is_dir():
            raise CellError(f"node {os.uname().nodename} has no {job.runs}: --runs is a folder that all nodes share")
        node = provenance()
        seen = job.provenance.model_copy(update={"versions": node.versions, "hardware": node.hardware})
        trained = train_cell(replace(job, provenance=seen), reporter.progress, reporter.wants_to_stop)
    except Exception as error:  # noqa: BLE001 (its trace is in the journal, and the runner reports it)
        return exit_code(error, job.record.folder), last_words(error, job.record.folder)
    finally:
        reporter.wants_to_stop(patience=NEWS_WITHIN)  # the runner hears of the last step before the end
    return 0 if trained else FOUND_FINISHED, ""


@dataclass(eq=False)
class _Task:
    """Task that trains one cell."""

    job: CellJob
    number: int
    result: Any
    watch: ProgressWatch
    is_alone: bool = False
    """True if it has a GPU to itself, after it ran out of memory beside others."""
    has_begun: bool = False
    submitted: float = field(default_factory=time.monotonic)
    is_stopping: bool = False
    verdict: str | None = None
    """Reason why this runner ended it; None if it did not."""
    killed: float | None = None

    def kill(self, verdict: str) -> None:
        """End its process; its checkpoint is kept."""
        if self.killed is None:
            self.verdict, self.killed = verdict, time.monotonic()
            ray.cancel(self.result, force=True)


class RayEngine(CellEngine):
    """Train cells as tasks of a Ray cluster, `workers` at a time, each with its threads and a share of a GPU.

    A cell whose node died is queued again, and goes on from its checkpoint. A cell that runs out of GPU memory beside
    others is retried once with a GPU to itself.
    """

    def __init__(
        self, workers: int, places: Sequence[str] = (), *, patience: float | None = None, until: float = math.inf,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Take the settings; this process is connected to the cluster (`ray_cluster.connected`) when `run` is called.

        Args:
            workers: maximum number of cells at the same time.
            places: not used, Ray chooses the GPU of a cell.
            patience: minimum seconds without progress before a task counts as stuck; None: `watchdog.stall_after`.
            until: time on the monotonic clock at which running cells save and stop.
            say: called with one line at a time to inform the user.
        """
        del places
        super().__init__(workers, patience=patience, until=until, say=say)
        self._tasks, self._deaths, self._count = list[_Task](), Counter[str](), 0

    def run(self, source: JobSource, listener: Listener) -> None:
        """Train the cells of `source` in its order; a failed cell does not stop the others.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP was received; every running cell was asked to save first.
            OutOfSpace: the disk is full; no cell was begun after the first that could not be saved.
            TimeOver: the time limit came first; running cells were asked to save.
            CellError: the connection to the cluster was lost; cells go on from their checkpoints.
            UsageError: this process is not connected to a cluster.
        """
        if not ray.is_initialized():
            raise UsageError("the Ray engine needs a connection: with cifar_lab.execution.ray_cluster.connected(…)")
        self._gpus = sum(node.gpus for node in cluster_nodes(ray))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._switchboard = ray.remote(num_cpus=0)(Switchboard).options(scheduling_strategy=here).remote()
        try:
            self._run(source, listener)
        except (RayActorError, LocalRayletDiedError) as error:
            raise CellError("the Ray cluster has ended; the same command goes on from the checkpoints") from error
        finally:
            for task in self._tasks:  # left by an exception
                ray.cancel(task.result, force=True)
            ray.kill(self._switchboard)

    def _run(self, source: JobSource, listener: Listener) -> None:
        self._begin_run(source, listener)
        self._tasks, self._news = [], self._switchboard.news.remote()
        self._surroundings = ray.put(_Surroundings())
        self._looked, self._is_told, looks, hinted = -LOOK_EVERY, False, SuspendWatch(), False
        # Ray is called from the loop alone, not from a signal handler, which may interrupt Ray.
        with stop_signals(lambda: None, lambda: None) as signalled:

            def stopped() -> bool:
                return self._is_to_end(signalled())

            while self._tasks or ((len(source) or self._alone) and not stopped()):
                while not stopped() and self._begin_one():
                    pass
                if stopped():
                    self._stop(self._tasks, at_once=signalled() > 1)
                if signalled() and self._tasks and not hinted:
                    hinted = True
                    self._say("stopping after saving; once more (Ctrl-C) stops at once")
                busy = len(self._tasks)
                self._listen()
                self._look_after(looks.missed())
                if len(self._tasks) == busy and (busy or not stopped()):
                    listener.tick(len(source))
        self._end_run(signalled())

    def stop(self, fingerprint: str) -> None:
        """Ask a running cell to save and stop; it ends as if interrupted."""
        self._stop([task for task in self._tasks if task.job.fingerprint == fingerprint])

    def _stop(self, tasks: Sequence[_Task], *, at_once: bool = False) -> None:
        asked = [task for task in tasks if not task.is_stopping]
        if asked:
            self._switchboard.stop.remote([task.number for task in asked])
        for task in asked:
            task.is_stopping = True
            if not task.has_begun:  # it may wait for free processors for long
                ray.cancel(task.result)
        for task in tasks if at_once else ():
            task.kill(STOPPED_AT_ONCE)

    def _begin_one(self) -> bool:
        """Start a cell, or report one that has already ended; False without room or a cell that can begin."""
        if len(self._tasks) >= self._workers or time.monotonic() - self._looked < LOOK_EVERY:
            return False
        if any(task.is_alone and not task.has_begun for task in self._tasks):
            return False  # others would take the GPU that it waits for
        if self._alone:
            self._submit(self._alone.pop(0), is_alone=True)
            return True
        taken = self._queue.take({task.job.fingerprint for task in self._tasks})
        if taken is None:
            self._looked = time.monotonic()
        elif isinstance(taken, SettledCell):
            self._listener.ended(taken.job, taken.error)
        else:
            self._submit(taken)
        return taken is not None

    def _submit(self, job: CellJob, *, is_alone: bool = False) -> None:
        on_gpu, sharing = job.execution.device == "cuda", self._workers
        if is_alone:
            self._tried_alone.add(job.fingerprint)
        if on_gpu:  # Ray shows a task its GPU as the only one
            sharing = 1 if is_alone else math.ceil(self._workers / max(1, self._gpus))
        job = replace(job, place="", sharing=sharing)
        job.runs.mkdir(parents=True, exist_ok=True)  # nodes look for it, and never make it
        # One process a cell, as the local engine has it: it fails alone, and its peak of memory is its own.
        train = ray.remote(max_calls=1)(train_as_task).options(
            num_cpus=job.execution.threads, num_gpus=1 / sharing if on_gpu else 0, max_retries=0,
            scheduling_strategy="SPREAD", name=f"cell-{job.fingerprint[:12]}",
        )  # fmt: skip
        self._count += 1
        result = train.remote(job, self._count, self._switchboard, self._surroundings)
        self._tasks.append(_Task(job, self._count, result, ProgressWatch(self._patience), is_alone))
        self._listener.started(job)

    def _listen(self) -> None:
        """Wait for news or the end of a task, a moment at most, and handle them."""
        ready, _ = ray.wait([self._news, *(task.result for task in self._tasks)], num_returns=1, timeout=0.2)
        ended = [task for task in self._tasks if task.result in ready]
        if ended:
            self._switchboard.wake.remote()
        if ready:  # a task has reported its last step before it ends
            news, self._news = ray.get(self._news), self._switchboard.news.remote()
            self._hear(news)
        for task in ended:
            self._over(task)

    def _hear(self, news: Sequence[tuple[int, Progress]]) -> None:
        tasks = {task.number: task for task in self._tasks}
        for number, progress in news:
            task = tasks.get(number)
            if task is None:
                continue
            if not task.has_begun:
                task.has_begun, task.watch.last = True, time.monotonic()
            if progress is not None:
                task.watch.progress(*progress)
                self._listener.progress(task.job, *progress)

    def _look_after(self, missed: float) -> None:
        """End stuck tasks, and give up those that do not even end; `missed`: seconds without a check."""
        now = time.monotonic()
        waiting = [task for task in self._tasks if not task.has_begun and now - task.submitted > LONG_WAIT]
        if waiting and not self._is_told:
            self._is_told = True
            self._say(f"{many(len(waiting), 'cell')} wait for free processors of the Ray cluster; see `ray status`")
        for task in list(self._tasks):
            task.watch.was_away(missed)
            if task.has_begun and task.killed is None and (line := task.watch.stalled()) is not None:
                task.kill(f"{line} (its task was ended)")
            if task.killed is not None and now - task.killed - missed > TO_DIE:
                self._over(task)

    def _over(self, task: _Task) -> None:
        self._tasks.remove(task)
        self._looked = -LOOK_EVERY
        try:
            code, line = ray.get(task.result, timeout=0 if task.killed is not None else None)
        except (NodeDiedError, LocalRayletDiedError):
            self._handle_dead_node(task)
        except (WorkerCrashedError, OutOfMemoryError) as error:
            why = "the node is out of memory" if isinstance(error, OutOfMemoryError) else "out of memory?"
            self._end(task, 1, f"its process was killed ({why})")
        except (TaskCancelledError, TimeoutError):
            self._end(task, Interrupted.exit_code, "")
        except RayError as error:
            cause = error.as_instanceof_cause() if hasattr(error, "as_instanceof_cause") else error
            lines = [line for line in str(cause).splitlines() if line.strip()]
            self._end(task, 1, printable(f"{type(error).__name__}: {(lines or [''])[-1].strip()}"))
        else:
            if code in {0, FOUND_FINISHED}:  # said only if there is no result
                line = f"its node wrote no result to {task.job.runs}: --runs is a folder that all nodes share"
            self._end(task, code, line or f"its task ended with code {code}")

    def _handle_dead_node(self, task: _Task) -> None:
        """Queue a cell again whose node died; its processes there may live on for a moment, and hold its lock."""
        job = task.job
        self._deaths[job.fingerprint] += 1
        if task.verdict is not None or self._deaths[job.fingerprint] > NODES_TO_LOSE:
            self._end(task, 1, f"its node died, {self._deaths[job.fingerprint]} times")
            return
        if job.record.result() is not None:
            self._end(task, 0, "")
            return
        self._say(f"{job.fingerprint[:12]}: its node died; it goes on from its last checkpoint on another")
        self._listener.put_off(job)
        self._queue.put_back(job)

    def _end(self, task: _Task, code: int, line: str) -> None:
        job = task.job
        is_shared = job.sharing > 1 and job.execution.device == "cuda"
        self._conclude(job, code, line, verdict=task.verdict, is_shared=is_shared)
