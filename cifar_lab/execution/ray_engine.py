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
from concurrent import futures
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

from cifar_lab.data import cache, download, published
from cifar_lab.errors import CellError, CifarLabError, Interrupted, UsageError
from cifar_lab.execution.cell_engine import LOOK_EVERY, CellEngine, RunningCell
from cifar_lab.execution.engine import STOPPED_AT_ONCE, JobSource, Listener
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.ray_cluster import NO_MODULE, cannot_import, cluster_nodes, last_line
from cifar_lab.execution.watchdog import ProgressWatch
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.execution.worker_process import FOUND_FINISHED, REPORT_EVERY, exit_code, last_words
from cifar_lab.store import lease
from cifar_lab.store.mirror import open_mirror
from cifar_lab.text import many

NEWS_WITHIN = 5.0
"""Seconds after which a request for news is answered without any."""
NODES_TO_LOSE = 3
"""Nodes that may die under one cell before it counts as failed: it may be the reason."""
LONG_WAIT = 30.0
"""Seconds after which the user is told that cells wait for free processors."""
PASSED_ON = (cache.VARIABLE, lease.VARIABLE, download.SLOWEST_VARIABLE, published.MIRRORS_VARIABLE)
"""Environment variables that a training reads, which nodes get from the runner where they have none."""
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
        # Ray itself is asked to wait for no answer, as it lends the processors of a task that waits to another one.
        self._reported, self._answers = 0.0, [switchboard.report.remote(task, None).future()]
        self._is_to_stop = False

    def progress(self, epoch: int, step: int, steps: int) -> None:
        if step != steps and time.monotonic() - self._reported < REPORT_EVERY:
            return
        self._reported = time.monotonic()
        self._answers.append(self._switchboard.report.remote(self._task, (epoch, step, steps)).future())

    def wants_to_stop(self, patience: float = 0.0) -> bool:
        """Tell whether an answer asked to stop, or the runner is gone; `patience`: seconds to wait for all answers."""
        done, waiting = futures.wait(self._answers, timeout=patience)
        self._answers = list(waiting)
        try:
            self._is_to_stop |= any(answer.result() for answer in done)
        except RayActorError:  # save and end, so that another runner can resume
            self._is_to_stop = True
        return self._is_to_stop


@dataclass(frozen=True, kw_only=True)
class _Surroundings:
    """Properties of the runner's process that user code on a node may need."""

    folder: str = field(default_factory=lambda: str(Path.cwd()))
    paths: tuple[str, ...] = field(default_factory=lambda: tuple(str(Path(each).resolve()) for each in sys.path))
    environment: dict[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    )

    def enter(self) -> None:
        """Give this process the runner's folder if it is there, and the modules that it cannot import yet."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path.extend(each for each in self.paths if each not in sys.path)
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)


def end_of_switchboard(error: RayError) -> CifarLabError:
    """Return the error for a run whose switchboard is gone: its class could not be imported, or it was killed."""
    text, here = str(error), ray.util.get_node_ip_address
    if NO_MODULE in text:
        return UsageError(cannot_import([here()], text))
    if isinstance(error, RayActorError) and "worker process has died" in text:
        what = f"the process on {here()} that passes progress was killed (out of memory?)"
    else:
        what = "the Ray cluster has ended"
    return CellError(f"{what}; the same command goes on from the checkpoints")


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


@dataclass(eq=False, kw_only=True)
class _Task(RunningCell):
    """Task that trains one cell."""

    number: int
    result: Any
    has_begun: bool = False
    submitted: float = field(default_factory=time.monotonic)
    is_stopping: bool = False
    what = "its task"

    def _kill(self) -> None:
        ray.cancel(self.result, force=True)


class RayEngine(CellEngine):
    """Train cells as tasks of a Ray cluster, `workers` at a time, each with its threads and a share of a GPU.

    A cell whose node died is queued again, and goes on from its checkpoint. A cell that runs out of GPU memory beside
    others is retried once with a GPU to itself.
    """

    TO_DIE = 15.0
    _running: list[_Task]

    def __init__(
        self, workers: int, places: Sequence[str] = (), *, patience: float | None = None, until: float = math.inf,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Take the settings; this process is connected to the cluster (`ray_cluster.connected`) when `run` is called.

        The arguments are those of `engine.make_engine`, but Ray chooses the GPU of a cell: `places` are not used.
        """
        del places
        super().__init__(workers, patience=patience, until=until, say=say)
        self._deaths, self._count = Counter[str](), 0

    def run(self, source: JobSource, listener: Listener) -> None:
        """Train the cells of `source`, as `Engine.run` has it.

        Raises:
            CellError: the connection to the cluster was lost; cells go on from their checkpoints.
            UsageError: this process is not connected to a cluster, or a node of it cannot import cifar_lab.
        """
        if not ray.is_initialized():
            raise UsageError("the Ray engine needs a connection: with cifar_lab.execution.ray_cluster.connected(…)")
        self._gpus = sum(node.gpus for node in cluster_nodes(ray))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._switchboard = ray.remote(num_cpus=0)(Switchboard).options(scheduling_strategy=here).remote()
        try:
            self._news, self._surroundings = self._switchboard.news.remote(), ray.put(_Surroundings())
            self._is_told = False
            # Ray is called from the loop alone, not from a signal handler, which may interrupt Ray.
            self._train(source, listener, lambda: None, lambda: None)
        except (RayActorError, LocalRayletDiedError) as error:
            raise end_of_switchboard(error) from error
        finally:
            for task in self._running:  # left by an exception
                ray.cancel(task.result, force=True)
            ray.kill(self._switchboard)

    def stop(self, fingerprint: str) -> None:
        """Ask a running cell to save and stop; it ends as if interrupted."""
        self._stop([task for task in self._running if task.job.fingerprint == fingerprint])

    def _stop_all(self, *, at_once: bool = False) -> None:
        self._stop(self._running, at_once=at_once)

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

    def _is_blocked(self) -> bool:
        """Tell whether a cell waits for a GPU to itself, which others would take."""
        return any(task.job.fingerprint in self._tried_alone and not task.has_begun for task in self._running)

    def _begin(self, job: CellJob) -> None:
        on_gpu, sharing = job.execution.device == "cuda", self._workers
        if on_gpu:  # Ray shows a task its GPU as the only one
            is_alone = job.fingerprint in self._tried_alone
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
        watch = ProgressWatch(self._patience)
        self._running.append(_Task(job=job, watch=watch, number=self._count, result=result))
        self._listener.started(job)

    def _hear(self) -> None:
        ready, _ = ray.wait([self._news, *(task.result for task in self._running)], num_returns=1, timeout=0.2)
        ended = [task for task in self._running if task.result in ready]
        if ended:
            self._switchboard.wake.remote()
        if ready:  # a task has reported its last step before it ends
            news, self._news = ray.get(self._news), self._switchboard.news.remote()
            self._take_in(news)
        for task in ended:
            self._over(task)
        self._say_waiting()

    def _take_in(self, news: Sequence[tuple[int, Progress]]) -> None:
        tasks = {task.number: task for task in self._running}
        for number, progress in news:
            task = tasks.get(number)
            if task is None:
                continue
            if not task.has_begun:
                task.has_begun, task.watch.last = True, time.monotonic()
            if progress is not None:
                task.watch.progress(*progress)
                self._listener.progress(task.job, *progress)

    def _say_waiting(self) -> None:
        """Tell the user once that cells have waited for long."""
        now = time.monotonic()
        waiting = [task for task in self._running if not task.has_begun and now - task.submitted > LONG_WAIT]
        if waiting and not self._is_told:
            self._is_told = True
            have = "has" if len(waiting) == 1 else "have"
            self._say(
                f"{many(len(waiting), 'cell')} {have} not begun after {LONG_WAIT:.0f} s: processors of the Ray cluster "
                "are taken (see `ray status`), or its nodes still load torch"
            )

    def _over(self, task: _Task) -> None:
        self._running.remove(task)
        self._looked = -LOOK_EVERY
        try:
            code, line = ray.get(task.result, timeout=0 if task.killed is not None else None)
        except (NodeDiedError, LocalRayletDiedError):
            self._handle_dead_node(task)
        except (WorkerCrashedError, OutOfMemoryError) as error:
            why = "the node is out of memory" if isinstance(error, OutOfMemoryError) else "out of memory?"
            self._end(task, 1, f"its process was killed ({why})")
        except (TaskCancelledError, TimeoutError):
            if task.has_begun or task.verdict not in {None, STOPPED_AT_ONCE}:
                self._end(task, Interrupted.exit_code, "")
            else:  # withdrawn
                self._listener.put_off(task.job)
                self._queue.put_back(task.job)
        except RayError as error:
            cause = error.as_instanceof_cause() if hasattr(error, "as_instanceof_cause") else error
            if not task.has_begun and NO_MODULE in str(cause):
                self._end(task, 1, cannot_import([getattr(error, "ip", "?")], str(cause)))
            else:
                self._end(task, 1, f"{type(error).__name__}: {last_line(str(cause))}")
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
        self._say(f"{job.fingerprint[:12]}: its node died; it goes on from its last checkpoint once a node is free")
        self._listener.put_off(job)
        self._queue.put_back(job)

    def _end(self, task: _Task, code: int, line: str) -> None:
        job = task.job
        is_shared = job.sharing > 1 and job.execution.device == "cuda"
        self._conclude(job, code, line, verdict=task.verdict, is_shared=is_shared)
