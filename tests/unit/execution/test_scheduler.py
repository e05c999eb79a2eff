"""Queue of cells that can begin, must wait, or will never begin; from records alone, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made import records

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.execution.engine import SettledCell
from cifar_lab.execution.scheduler import Scheduler, TaskShare
from cifar_lab.execution.worker import CellJob
from cifar_lab.store.cell_record import CellRecord


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path


def job(runs: Path, letter: str, after: str | None = None) -> CellJob:
    recipe = Recipe().override({"init_from": after * 64 if after else None})
    execution = Execution(device="cpu", threads=1, precision="fp32")
    return CellJob(
        fingerprint=letter * 64, recipe=recipe, seed=0, data="synthetic", data_hash="", runs=runs,
        execution=execution, provenance=records.PROVENANCE,
    )  # fmt: skip


def begun(job: CellJob) -> CellRecord:
    return records.begin(job.record)


def test_jobs_come_in_their_order(runs: Path) -> None:
    a, b = job(runs, "a"), job(runs, "b")
    queue = Scheduler([a, b])
    assert [queue.take(set()), queue.take(set()), queue.take(set())] == [a, b, None]
    assert not queue


def test_what_another_runner_trains_is_waited_for_and_others_come_first(runs: Path) -> None:
    a, b = job(runs, "a"), job(runs, "b")
    queue = Scheduler([a, b])
    with begun(a).lock():
        assert queue.take(set()) == b
        assert queue.take({b.fingerprint}) is None
    assert queue.take(set()) == a, "its runner died: it is taken over"


def test_what_another_runner_finished_is_settled(runs: Path) -> None:
    a = job(runs, "a")
    queue = Scheduler([a])
    records.end(begun(a))
    assert queue.take(set()) == SettledCell(a, None)


def test_a_failure_elsewhere_is_settled_and_one_from_before_is_tried_again(runs: Path) -> None:
    a, b = job(runs, "a"), job(runs, "b")
    records.fail(begun(a), "old")
    queue = Scheduler([a, b])
    records.fail(begun(b), "out of memory", time=2)
    assert queue.take(set()) == a
    assert queue.take(set()) == SettledCell(b, "failed in another runner: out of memory")


def test_a_stage_waits_for_the_one_that_it_continues(runs: Path) -> None:
    a, b, c = job(runs, "a"), job(runs, "b", after="a"), job(runs, "c")
    queue = Scheduler([a, b, c])
    assert queue.take(set()) == a
    assert queue.take({a.fingerprint}) == c, "what must wait lets others pass"
    assert queue.take({a.fingerprint}) is None
    records.end(begun(a))
    assert queue.take(set()) == b


@pytest.mark.parametrize(
    ("state", "words"), [("missing", "is not trained"), ("failed", "failed"), ("diverged", "diverged")]
)
def test_a_stage_whose_parent_will_not_come_is_not_begun_and_says_why(runs: Path, state: str, words: str) -> None:
    parent, b = job(runs, "a"), job(runs, "b", after="a")
    if state == "failed":
        records.fail(begun(parent))
    elif state == "diverged":
        records.end(begun(parent), status="diverged")
    assert Scheduler([b]).take(set()) == SettledCell(b, f"not begun: cell aaaaaaaaaaaa, which it continues, {words}")


def test_a_stage_waits_for_a_parent_that_another_runner_trains(runs: Path) -> None:
    parent, b = job(runs, "a"), job(runs, "b", after="a")
    queue = Scheduler([b])
    with begun(parent).lock():
        assert queue.take(set()) is None
    assert isinstance(queue.take(set()), SettledCell)


def test_a_failure_passes_down_the_chain(runs: Path) -> None:
    a, b, c = job(runs, "a"), job(runs, "b", after="a"), job(runs, "c", after="b")
    queue = Scheduler([a, b, c])
    assert queue.take(set()) == a
    records.fail(begun(a))
    assert [found.job for _ in range(2) if isinstance(found := queue.take(set()), SettledCell)] == [b, c]
    assert not queue


def test_a_record_that_is_damaged_meanwhile_is_not_trained_and_is_named(runs: Path) -> None:
    a, b = job(runs, "a"), job(runs, "b", after="a")
    queue = Scheduler([a, b])
    (begun(a).folder / "result.json").write_text("")
    settled = queue.take(set())
    assert isinstance(settled, SettledCell)
    assert settled.error is not None
    assert settled.error.startswith(f"not begun: {a.record.folder / 'result.json'}: damaged: empty; ")
    assert queue.take(set()) == SettledCell(b, "not begun: cell aaaaaaaaaaaa, which it continues, is damaged")


def test_a_task_begins_its_number_of_jobs_and_never_waits(runs: Path) -> None:
    a, b, c = (job(runs, letter) for letter in "abc")
    share = TaskShare([a, b, c], limit=2)
    assert [share.take(set()), share.take({a.fingerprint})] == [a, b]
    assert share.take({a.fingerprint, b.fingerprint}) is None
    assert len(share) == 1, "not over while its own cells run"
    assert share.take(set()) is None
    assert len(share) == 0


def test_what_continues_a_job_is_taken_beyond_the_number_once_it_can_begin(runs: Path) -> None:
    a, b, child = job(runs, "a"), job(runs, "b"), job(runs, "c", after="a")
    share = TaskShare([a, b, child], limit=1)
    assert share.take(set()) == a
    records.end(begun(a))
    assert share.take(set()) == child
    assert share.take(set()) is None
    assert len(share) == 0


def test_a_job_that_another_task_took_first_does_not_count(runs: Path) -> None:
    a, b = job(runs, "a"), job(runs, "b")
    share = TaskShare([a, b], limit=1)
    assert share.take(set()) == a
    share.put_back(a)
    with begun(a).lock():
        assert share.take(set()) == b


def test_jobs_that_other_tasks_train_are_left_to_them(runs: Path) -> None:
    a = job(runs, "a")
    share = TaskShare([a], limit=1)
    with begun(a).lock():
        assert share.take(set()) is None
    assert len(share) == 0


def student(runs: Path, letter: str, *teachers: str) -> CellJob:
    diff = {"train.distill.teacher": [each * 64 for each in teachers], "train.distill.weight": 0.5}
    return replace(job(runs, letter), recipe=Recipe().override(diff))


def test_a_student_waits_for_all_of_its_teachers(runs: Path) -> None:
    a, b, c = job(runs, "a"), job(runs, "b"), student(runs, "c", "a", "b")
    queue = Scheduler([c, a, b])
    assert [queue.take(set()), queue.take({a.fingerprint})] == [a, b]
    records.end(begun(a))
    assert queue.take({b.fingerprint}) is None
    records.end(begun(b))
    assert queue.take(set()) == c


def test_a_student_whose_teacher_will_not_come_is_not_begun_although_another_may(runs: Path) -> None:
    a, c = job(runs, "a"), student(runs, "c", "a", "b")
    queue = Scheduler([a, c])
    assert queue.take(set()) == a
    said = "not begun: cell bbbbbbbbbbbb, which it learns from, is not trained"
    assert queue.take({a.fingerprint}) == SettledCell(c, said)


def test_the_task_that_finishes_the_last_teacher_trains_the_student_beyond_its_number(runs: Path) -> None:
    a, b, c = job(runs, "a"), job(runs, "b"), student(runs, "c", "a", "b")
    one, other = TaskShare([a, b, c], limit=1), TaskShare([a, b, c], limit=1)
    assert one.take(set()) == a
    with begun(a).lock():
        assert other.take(set()) == b
    with begun(b).lock():
        records.end(a.record)
        assert one.take(set()) is None, "the first task ends, as the other trains the second teacher"
        assert not one
    records.end(b.record)
    assert [other.take(set()), other.take(set())] == [SettledCell(a, None), c]


def test_a_job_that_is_put_back_is_waited_for_again(runs: Path) -> None:
    a, b = job(runs, "a"), job(runs, "b", after="a")
    queue = Scheduler([a, b])
    assert queue.take(set()) == a
    queue.put_back(a)
    with begun(a).lock():
        assert queue.take(set()) is None, "its parent is trained elsewhere, and may come back here"
    assert queue.take(set()) == a
    assert queue.take({a.fingerprint}) is None
    settled = queue.take(set())
    assert isinstance(settled, SettledCell)
    assert "is not trained" in str(settled.error)
