"""Contract of engines (`cifar_lab.execution.engine.Engine`), for those of `ENGINES` and for the smallest possible.

The Ray engine runs on a cluster of this machine that the tests start: `slow`, and skipped where Ray is not installed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from made.in_process_engine import InProcessEngine
from made.tiny_cells import TINY, tiny_job

from cifar_lab.errors import Interrupted, TimeOver, UsageError
from cifar_lab.execution.engine import ENGINES, RAY, UNFINISHED, Engine, SettledCell, make_engine
from cifar_lab.execution.scheduler import Scheduler
from cifar_lab.execution.worker import CellJob, train_cell

NAMES = [pytest.param(name, marks=pytest.mark.slow) if name == RAY else name for name in (*ENGINES, "in process")]


class Jobs:
    """Source that hands out jobs in their order, whatever their records contain."""

    def __init__(self, *jobs: CellJob | SettledCell | None) -> None:
        self.waiting = list(jobs)
        self.put_back_ones: list[CellJob] = []

    def __len__(self) -> int:
        return len(self.waiting)

    def take(self, running: set[str]) -> CellJob | SettledCell | None:
        return self.waiting.pop(0) if self.waiting else None

    def put_back(self, job: CellJob) -> None:
        self.put_back_ones.append(job)
        self.waiting.append(job)


class Events:
    """Listener that notes the events of each cell, and calls a function at each progress."""

    def __init__(self, at_progress: Callable[[CellJob], None] = lambda _: None) -> None:
        self.of: dict[str, list[str]] = {}
        self.errors: dict[str, str | None] = {}
        self.order: list[str] = []
        self.ticks = 0
        self.at_put_off: Callable[[], None] = lambda: None
        self._at_progress = at_progress

    def _note(self, job: CellJob, event: str) -> None:
        events = self.of.setdefault(job.fingerprint, [])
        if events[-1:] != [event]:
            events.append(event)

    def started(self, job: CellJob) -> None:
        self.order.append(job.fingerprint)
        self._note(job, "started")

    def progress(self, job: CellJob, epoch: int, step: int, steps: int) -> None:
        assert 1 <= epoch <= job.recipe.train.epochs
        assert 1 <= step <= steps
        self._note(job, "progress")
        self._at_progress(job)

    def ended(self, job: CellJob, error: str | None) -> None:
        assert job.fingerprint not in self.errors, "ended twice"
        self.errors[job.fingerprint] = error
        self._note(job, "ended")

    def put_off(self, job: CellJob) -> None:
        self._note(job, "put off")
        self.at_put_off()

    def tick(self, waiting: int) -> None:
        assert waiting >= 0
        self.ticks += 1


@pytest.fixture(scope="session")
def _ray_cluster() -> Iterator[None]:
    """A small Ray cluster of this machine that this process is connected to."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'cifar-lab[ray]')")
    import ray

    from cifar_lab.execution.ray_cluster import OBJECT_STORE

    ray.init("local", num_cpus=1, object_store_memory=OBJECT_STORE, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an engine that can be made here."""
    monkeypatch.setitem(ENGINES, "in process", InProcessEngine)
    if request.param == RAY:
        request.getfixturevalue("_ray_cluster")
    return str(request.param)


@pytest.fixture
def engine(name: str) -> Engine:
    return make_engine(name, workers=1)


@pytest.fixture
def jobs(tmp_path: Path, few_images: Path) -> list[CellJob]:
    return [tiny_job(tmp_path / "runs", few_images, seed) for seed in range(2)]


def longer(job: CellJob, epochs: int = 500) -> CellJob:
    """Return a cell that takes long enough to be stopped."""
    recipe = TINY.override({"train.epochs": epochs})
    return replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=job.seed, data_hash=job.data_hash))


def test_cells_are_trained_in_order_and_each_is_reported_from_its_start_to_its_end(
    engine: Engine, jobs: list[CellJob]
) -> None:
    events = Events()
    engine.run(Jobs(*jobs), events)
    assert events.order == [job.fingerprint for job in jobs]
    assert events.errors == {job.fingerprint: None for job in jobs}
    assert list(events.of.values()) == [["started", "progress", "ended"]] * 2
    assert [job.record.state() for job in jobs] == ["finished", "finished"]
    assert engine.trained == 2
    assert events.ticks


def test_a_settled_cell_is_reported_and_not_trained(engine: Engine, jobs: list[CellJob]) -> None:
    events = Events()
    engine.run(Jobs(SettledCell(jobs[0], "not begun: a reason"), SettledCell(jobs[1], None)), events)
    assert events.errors == {jobs[0].fingerprint: "not begun: a reason", jobs[1].fingerprint: None}
    assert events.order == []
    assert [job.record.state() for job in jobs] == ["missing", "missing"]
    assert engine.trained == 0


def test_a_source_that_has_nothing_yet_is_asked_again(engine: Engine, jobs: list[CellJob]) -> None:
    events = Events()
    engine.run(Jobs(None, None, jobs[0]), events)
    assert events.errors == {jobs[0].fingerprint: None}
    assert events.ticks


def test_a_failure_is_recorded_and_stops_no_other_cell(engine: Engine, jobs: list[CellJob]) -> None:
    bad = replace(jobs[0], data_hash="0" * 64)
    events = Events()
    engine.run(Jobs(bad, jobs[1]), events)
    error, failure = events.errors[bad.fingerprint], bad.record.failure()
    assert failure is not None
    assert error is not None
    assert error not in UNFINISHED
    assert len(error.splitlines()) == 1
    assert error.removeprefix("CellError: ") in failure.error
    assert events.errors[jobs[1].fingerprint] is None
    assert engine.trained == 1


def test_a_finished_cell_is_reported_as_ended_and_not_counted(engine: Engine, jobs: list[CellJob]) -> None:
    train_cell(jobs[0])
    result = jobs[0].record.result()
    events = Events()
    engine.run(Jobs(jobs[0]), events)
    assert events.errors == {jobs[0].fingerprint: None}
    assert engine.trained == 0
    assert jobs[0].record.result() == result


def test_a_stopped_cell_has_saved_and_goes_on_from_there(engine: Engine, jobs: list[CellJob]) -> None:
    job = longer(jobs[0])
    events = Events(at_progress=lambda running: engine.stop(running.fingerprint))
    engine.run(Jobs(job, jobs[1]), events)
    assert events.errors[job.fingerprint] in UNFINISHED
    assert job.record.checkpoint.exists()
    assert job.record.failure() is None
    assert jobs[1].fingerprint in events.errors


def test_a_cell_of_another_runner_is_put_back_and_trained_once_it_is_free(engine: Engine, jobs: list[CellJob]) -> None:
    events, source = Events(), Jobs(jobs[0])
    with ExitStack() as held:
        held.enter_context(jobs[0].record.owned(patience=0))
        events.at_put_off = held.close
        engine.run(source, events)
    assert source.put_back_ones == [jobs[0]]
    assert events.of[jobs[0].fingerprint] == ["started", "put off", "started", "progress", "ended"]
    assert events.errors == {jobs[0].fingerprint: None}


def test_an_interrupted_engine_saves_what_it_trains_and_begins_no_more(engine: Engine, jobs: list[CellJob]) -> None:
    job, before = longer(jobs[0]), signal.getsignal(signal.SIGINT)
    events = Events(at_progress=lambda _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        engine.run(Jobs(job, jobs[1]), events)
    assert events.errors[job.fingerprint] in UNFINISHED
    assert job.record.failure() is None
    assert events.order == [job.fingerprint]
    assert jobs[1].record.state() == "missing"
    assert signal.getsignal(signal.SIGINT) == before


def test_when_its_time_is_over_an_engine_saves_what_it_trains_and_begins_no_more(
    name: str, jobs: list[CellJob]
) -> None:
    job, events = longer(jobs[0], epochs=5000), Events()
    seconds = 20 if name == RAY else 3  # Ray starts processes that load torch
    engine = make_engine(name, workers=1, until=time.monotonic() + seconds)
    with pytest.raises(TimeOver) as over:
        engine.run(Jobs(job, jobs[1]), events)
    assert over.value.exit_code == 0
    assert events.errors[job.fingerprint] in UNFINISHED
    assert job.record.checkpoint.exists()
    assert job.record.failure() is None
    assert events.order == [job.fingerprint]


def test_time_that_is_not_over_stops_nothing(jobs: list[CellJob]) -> None:
    events = Events()
    make_engine("local", workers=1, until=time.monotonic() + 3600).run(Jobs(jobs[0]), events)
    assert events.errors == {jobs[0].fingerprint: None}


def test_the_runners_scheduler_is_a_source_that_holds_back_what_continues_another_cell(
    engine: Engine, jobs: list[CellJob]
) -> None:
    parent = jobs[0]
    recipe = TINY.override({"init_from": parent.fingerprint})
    child = replace(parent, recipe=recipe, fingerprint=recipe.fingerprint(seed=parent.seed, data_hash=parent.data_hash))
    events = Events()
    engine.run(Scheduler([child, parent]), events)
    assert events.order == [parent.fingerprint, child.fingerprint]
    assert events.errors == {parent.fingerprint: None, child.fingerprint: None}


def test_an_unknown_engine_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no engine named 'locl'; did you mean 'local'"):
        make_engine("locl", workers=1)
