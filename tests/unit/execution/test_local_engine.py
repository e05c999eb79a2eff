"""Handling of a worker's end: trained here, taken by another runner, stopped."""

from __future__ import annotations

import math
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from made import records

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import Interrupted, OutOfSpace, TimeOver
from cifar_lab.execution import local_engine
from cifar_lab.execution.cell_engine import CellEngine
from cifar_lab.execution.engine import STOPPED
from cifar_lab.execution.local_engine import LocalEngine
from cifar_lab.execution.out_of_memory import advice
from cifar_lab.execution.watchdog import ProgressWatch
from cifar_lab.execution.worker import CellJob
from cifar_lab.execution.worker_process import FOUND_FINISHED, TAKEN


class _Heard:
    """A listener and a source that note what they are told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def put_off(self, _job: CellJob) -> None:
        self.events.append(("put off",))

    def put_back(self, _job: CellJob) -> None:
        self.events.append(("put back",))

    def ended(self, _job: CellJob, error: str | None) -> None:
        self.events.append(("ended", str(error)))


class _Process:
    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def join(self) -> None:
        """Return at once, as the process has ended."""


class _Line:
    """A source of jobs and a listener; notes how many are waiting whenever nothing is being trained."""

    def __init__(self, jobs: list[CellJob]) -> None:
        self.jobs, self.running, self.waiting, self.ended_ones = jobs, 0, list[int](), 0

    def __len__(self) -> int:
        return len(self.jobs)

    def take(self, _running: set[str]) -> CellJob | None:
        return self.jobs.pop(0) if self.jobs else None

    def progress(self, _job: CellJob, _epoch: int, _step: int, _steps: int) -> None:
        raise AssertionError("workers that end at once say nothing")

    def ended(self, _job: CellJob, _error: str | None) -> None:
        self.running, self.ended_ones = self.running - 1, self.ended_ones + 1

    def tick(self, waiting: int) -> None:
        if not self.running:
            self.waiting.append(waiting)


def _job(folder: Path, letter: str = "a", *, finished: bool) -> CellJob:
    job = CellJob(
        fingerprint=letter * 64, recipe=Recipe(), seed=0, data="synthetic", data_hash="", runs=folder,
        execution=Execution(device="cpu", threads=1, precision="auto"), provenance=records.PROVENANCE,
    )  # fmt: skip
    records.begin(job.record)
    if finished:
        records.end(job.record)
    return job


def conclude(folder: Path, code: int, *, finished: bool) -> tuple[list[tuple[str, ...]], int]:
    """Return the events reported when a worker ends with `code`, and the number of cells trained here."""
    heard: Any = _Heard()
    engine = CellEngine(1, patience=None, until=math.inf, say=print)
    engine._begin_run(heard, heard)
    engine._conclude(_job(folder, finished=finished), code, "it broke", verdict=None, is_shared=False)
    return heard.events, engine.trained


def test_a_worker_that_ends_well_has_trained_its_cell(tmp_path: Path) -> None:
    assert conclude(tmp_path, 0, finished=True) == ([("ended", "None")], 1)


@pytest.mark.parametrize("finished", [True, False])
def test_a_cell_that_another_runner_holds_is_put_back_whatever_became_of_it_meanwhile(
    finished: bool, tmp_path: Path
) -> None:
    assert conclude(tmp_path, TAKEN, finished=finished) == ([("put off",), ("put back",)], 0)
    assert not (tmp_path / ("a" * 64) / "failure.json").exists()


def test_a_cell_that_another_runner_had_finished_is_not_counted_as_trained(tmp_path: Path) -> None:
    assert conclude(tmp_path, FOUND_FINISHED, finished=True) == ([("put off",), ("ended", "None")], 0)


def test_a_cell_that_was_stopped_says_so(tmp_path: Path) -> None:
    assert conclude(tmp_path, Interrupted.exit_code, finished=False) == ([("ended", STOPPED)], 0)


def test_between_two_cells_nobody_is_said_to_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line: Any = _Line([_job(tmp_path, letter, finished=True) for letter in "abc"])
    monkeypatch.setattr(local_engine.fork_server, "start_fork_server", lambda: None)
    local = LocalEngine(workers=1)

    def begin(job: CellJob) -> None:
        line.running += 1
        receive, send = Pipe(duplex=False)
        send.close()  # so the worker is at its end as soon as it is listened to
        process: Any = _Process(0)
        unused: Any = None
        watch = ProgressWatch(60.0)
        worker = local_engine._Worker(job=job, watch=watch, process=process, channel=receive, stop=unused)
        local._running.append(worker)

    monkeypatch.setattr(local, "_begin", begin)
    local.run(line, line)
    assert line.ended_ones == local.trained == 3
    assert not any(line.waiting)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (0, "stopped after saving"),
        (1, "stopped after saving; 1 cell was not begun"),
        (3, "stopped after saving; 3 cells were not begun"),
    ],
)
def test_only_cells_that_were_not_begun_are_said_to_be(left: int, said: str) -> None:
    with pytest.raises(Interrupted, match=f"^{said}$"):
        _ending_engine(left)._end_run(signals=1)


def test_a_run_ends_early_by_a_full_disk_or_the_time_only_if_something_is_left() -> None:
    _ending_engine(0, until=0.0)._end_run(signals=0)
    with pytest.raises(TimeOver, match="the time is over: stopped after saving; 1 cell was not begun"):
        _ending_engine(1, until=0.0)._end_run(signals=0)
    full = _ending_engine(0)
    full._full = "no room for x"
    with pytest.raises(OutOfSpace, match=r"^no room for x$"):
        full._end_run(signals=0)


def _ending_engine(left: int, until: float = math.inf) -> CellEngine:
    """Return an engine whose queue holds `left` cells."""
    anything: Any = [None] * left
    engine = CellEngine(1, patience=None, until=until, say=print)
    engine._begin_run(anything, anything)
    return engine


class _Unstarted:
    """A multiprocessing context whose processes note what they would do and begin nothing."""

    Event = staticmethod(lambda: None)

    def __init__(self) -> None:
        self.jobs: list[CellJob] = []

    def Pipe(self, duplex: bool) -> tuple[Any, Any]:  # noqa: N802
        return Pipe(duplex)

    def Process(self, target: Any, args: tuple[Any, ...], daemon: bool) -> Any:  # noqa: N802
        self.jobs.append(args[0])
        return self

    def start(self) -> None:
        """Begin nothing."""


@pytest.mark.parametrize(
    ("workers", "places", "expected"),
    [
        (2, (), [("", 2), ("", 2)]),
        (1, ("cuda:1",), [("cuda:1", 1)]),
        (2, ("cuda:1",), [("cuda:1", 2), ("cuda:1", 2)]),
        (3, ("cuda:0", "cuda:2"), [("cuda:0", 2), ("cuda:2", 2), ("cuda:0", 2)]),
    ],
)
def test_a_job_is_told_its_gpu_and_how_many_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, places: tuple[str, ...], expected: list[Any]
) -> None:
    context: Any = _Unstarted()
    monkeypatch.setattr(local_engine.fork_server, "start_fork_server", lambda: context)
    local = LocalEngine(workers, places)
    listener: Any = _Line([])
    listener.started = lambda _job: None
    local._listener = listener
    job = _job(tmp_path, finished=False)
    monkeypatch.setattr(local_engine.nvml, "cards", lambda: None)
    for _ in range(workers):
        local._begin(job)
    assert [(each.place, each.sharing) for each in context.jobs] == expected


PLACES = ["cuda:0", "cuda:1"]
FULL = f"CellError: {advice(RuntimeError(), EFFICIENT_RESNET, torch.device('cuda', 0), sharing=3)}"
"""The line that a cell without memory writes."""


@pytest.mark.parametrize(
    ("taken", "load", "expected"),
    [
        ([], {}, "cuda:0"),
        ([], {"cuda:0": 9e9, "cuda:1": 1e6}, "cuda:1"),  # another runner's cell is on the first
        (["cuda:1"], {"cuda:0": 9e9, "cuda:1": 1e9}, "cuda:0"),  # of our own cells each GPU gets as many
        (["cuda:0"], {}, "cuda:1"),
        (["cuda:0", "cuda:1"], {}, "cuda:0"),
        (["cuda:0", "cuda:1", "cuda:0"], {}, "cuda:1"),
    ],
)
def test_a_cell_begins_on_the_gpu_with_the_fewest_cells_and_the_least_load(
    taken: list[str], load: dict[str, float], expected: str
) -> None:
    assert local_engine.next_place(PLACES, taken, load) == expected


class _Gpus:
    """A source and a listener, and workers that end as they are told: `full` cells have no room beside others."""

    def __init__(self, jobs: list[CellJob], full: set[str], *, even_alone: bool = False) -> None:
        self.jobs, self.full, self.even_alone = jobs, full, even_alone
        self.begun: list[tuple[str, str, int]] = []
        self.ends: dict[str, str | None] = {}
        self.put_off_ones: list[str] = []

    def __len__(self) -> int:
        return len(self.jobs)

    def take(self, _running: set[str]) -> CellJob | None:
        return self.jobs.pop(0) if self.jobs else None

    def started(self, _job: CellJob) -> None:
        """Nothing to note: `begun` has it."""

    def put_off(self, job: CellJob) -> None:
        self.put_off_ones.append(job.fingerprint[0])

    def ended(self, job: CellJob, error: str | None) -> None:
        self.ends[job.fingerprint[0]] = error

    def tick(self, _waiting: int) -> None:
        """Nothing waits."""


def _run_on_gpus(gpus: _Gpus, monkeypatch: pytest.MonkeyPatch, *, workers: int, count: int) -> LocalEngine:
    monkeypatch.setattr(local_engine.fork_server, "start_fork_server", lambda: _Context(gpus))
    monkeypatch.setattr(local_engine.nvml, "cards", lambda: None)
    local = LocalEngine(workers, PLACES[:count])
    monkeypatch.setattr(local_engine, "_ready", lambda running: running[:1])
    monkeypatch.setattr(LocalEngine, "_listen", _end_the_first)
    anything: Any = gpus
    anything.engine = local
    local.run(anything, anything)
    return local


def _end_the_first(self: LocalEngine, worker: local_engine._Worker) -> None:
    worker.process.join()
    self._over(worker)


class _Context:
    """Makes workers that write a result, or a failure where their GPU has no room."""

    def __init__(self, gpus: _Gpus) -> None:
        self.gpus = gpus

    def Pipe(self, duplex: bool) -> Any:  # noqa: N802
        return Pipe(duplex=duplex)

    def Event(self) -> None:  # noqa: N802
        """Nobody is stopped."""

    def Process(self, target: Any, args: Any, daemon: bool) -> Any:  # noqa: N802
        return _Trains(args[0], self.gpus)


class _Trains:
    def __init__(self, job: CellJob, gpus: _Gpus) -> None:
        self.job, self.gpus, self.exitcode = job, gpus, 0

    def start(self) -> None:
        local: LocalEngine = self.gpus.engine  # type: ignore[attr-defined]
        beside = [worker for worker in local._running if worker.job.place == self.job.place]
        self.gpus.begun.append((self.job.fingerprint[0], self.job.place, len(beside)))

    def join(self) -> None:
        letter, record = self.job.fingerprint[0], self.job.record
        tries = sum(name == letter for name, _, _ in self.gpus.begun)
        if letter in self.gpus.full and (self.gpus.even_alone or tries == 1):
            records.fail(record, FULL, out_of_memory=True)
            self.exitcode = 1
        else:
            records.end(record)


@pytest.mark.parametrize("even_alone", [False, True])
def test_a_cell_without_room_beside_others_is_tried_once_more_alone(
    even_alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = _Gpus([_job(tmp_path, letter, finished=False) for letter in "abcd"], {"a"}, even_alone=even_alone)
    local = _run_on_gpus(gpus, monkeypatch, workers=3, count=1)
    assert gpus.begun == [("a", "cuda:0", 0), ("b", "cuda:0", 1), ("c", "cuda:0", 2), ("a", "cuda:0", 0),
                          ("d", "cuda:0", 0)]  # fmt: skip
    assert gpus.put_off_ones == ["a"]
    assert gpus.ends == dict.fromkeys("bcd") | {"a": FULL if even_alone else None}
    assert local.trained == (3 if even_alone else 4)


def test_a_cell_that_had_its_gpu_to_itself_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = _Gpus([_job(tmp_path, letter, finished=False) for letter in "ab"], {"a"})
    _run_on_gpus(gpus, monkeypatch, workers=2, count=2)
    assert gpus.begun == [("a", "cuda:0", 0), ("b", "cuda:1", 0)]
    assert gpus.ends == {"a": FULL, "b": None}
