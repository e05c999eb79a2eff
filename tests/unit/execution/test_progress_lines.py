"""Lines about a training for callers without a display: a few, and none about what is quickly over."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from made import records
from made.tiny_cells import tiny_job

from cifar_lab.execution.engine import STOPPED
from cifar_lab.execution.progress_lines import EVERY, ProgressLines
from cifar_lab.execution.worker import CellJob
from cifar_lab.store.journal import Journal

EPOCHS = 10


@pytest.fixture
def cell(tmp_path: Path, few_images: Path) -> CellJob:
    """A cell of ten epochs, of which nothing is trained."""
    job = tiny_job(tmp_path / "runs", few_images)
    job.record.folder.mkdir(parents=True, exist_ok=True)
    return replace(job, recipe=job.recipe.override({"train.epochs": EPOCHS}))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def followed(cell: CellJob) -> tuple[ProgressLines, list[str]]:
    lines: list[str] = []
    listener = ProgressLines({cell.fingerprint: "off/s0"}, lines.append)
    listener.started(cell)
    return listener, lines


def test_a_cell_says_where_it_is_once_a_minute_with_its_accuracy_and_the_time_left(
    cell: CellJob, now: list[float]
) -> None:
    listener, lines = followed(cell)
    listener.progress(cell, 1, 1, 100)
    now[0] = EVERY - 1
    listener.progress(cell, 1, 50, 100)
    assert lines == [], "a short cell says nothing before it ends"
    now[0] = EVERY
    listener.progress(cell, 1, 51, 100)
    assert lines.pop() == "off/s0: epoch 1 of 10, about 19 min left"
    Journal(cell.record.folder).write("points", epoch=1, values={"val/acc": 0.713, "images_per_second": 100.0})
    now[0] = 2 * EVERY
    for step in range(1, 100):
        listener.progress(cell, 2, step, 100)
    assert lines == ["off/s0: epoch 2 of 10, val 71.30 %, about 18 min left"]


def test_a_cell_that_goes_on_from_a_checkpoint_says_so_once(cell: CellJob, now: list[float]) -> None:
    listener, lines = followed(cell)
    listener.progress(cell, 3, 1, 100)
    listener.progress(cell, 3, 2, 100)
    listener.ended(cell, STOPPED)
    assert lines == ["off/s0: resumed at epoch 3 of 10", f"off/s0: {STOPPED} [0 of 1]"]


def test_a_cell_that_another_runner_got_first_says_nothing_before_it_ends(cell: CellJob, now: list[float]) -> None:
    listener, lines = followed(cell)
    listener.put_off(cell)
    records.end(cell.record, {"test/acc": 0.5})
    listener.ended(cell, None)
    assert lines == ["off/s0: test 50.00 % [1 of 1]"]
