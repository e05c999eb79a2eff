"""Progress lines of a run without a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.cli import display
from cifar_lab.cli.display import Display
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.execution import cell_pace
from cifar_lab.execution.engine import STOPPED
from cifar_lab.execution.worker import CellJob
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal

A, B = "a" * 64, "b" * 64
NAMES = {A: "off/s0", B: "on/s0"}


def job(folder: Path, fingerprint: str = A) -> CellJob:
    CellRecord(folder / fingerprint).folder.mkdir(parents=True, exist_ok=True)
    return CellJob(
        fingerprint=fingerprint, recipe=Recipe(), seed=0, data="synthetic", data_hash="", runs=folder,
        execution=Execution(device="cpu", threads=1, precision="auto"), provenance=records.PROVENANCE,
    )  # fmt: skip


def finish(one: CellJob) -> None:
    metrics = {"test/acc": 0.5, "seconds": 1.0}
    records.end(one.record, metrics)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda: capsys.readouterr().err.splitlines()


def test_a_cell_is_announced_once_it_is_trained_here(tmp_path: Path, said: Any) -> None:
    display, one = Display(NAMES), job(tmp_path)
    display.started(one)
    assert said() == []
    display.progress(one, 1, 1, 100)
    display.progress(one, 1, 2, 100)
    assert said() == [f"off/s0: training, {Recipe().train.epochs} epochs"]


def test_a_cell_that_another_runner_got_first_is_not_announced(tmp_path: Path, said: Any) -> None:
    display, one = Display(NAMES), job(tmp_path)
    display.started(one)
    display.put_off(one)
    display.tick(1)
    finish(one)
    display.ended(one, None)
    assert said() == [
        "1 cell waits for another runner",
        "off/s0: test 50.00 % after 1 s of training (trained by another runner) [1 of 2]",
    ]


def test_a_cell_that_was_stopped_is_not_counted_as_done(tmp_path: Path, said: Any) -> None:
    display, one, other = Display(NAMES), job(tmp_path), job(tmp_path, B)
    display.started(one)
    display.ended(one, STOPPED)
    finish(other)
    display.ended(other, None)
    stopped, finished = said()
    assert stopped == f"off/s0: {STOPPED}"
    assert finished.endswith("[1 of 2]")


def test_a_search_counts_to_the_trials_that_are_wanted_though_it_names_them_one_by_one(
    tmp_path: Path, said: Any
) -> None:
    names: dict[str, str] = {}
    display, cells = Display(names, is_search=True, total=2), [job(tmp_path, word * 64) for word in "abc"]
    for number, one in enumerate(cells):
        names[one.fingerprint] = f"t{number:03}"
        display.started(one)
        display.ended(one, "RuntimeError: boom")
    assert [line.rpartition("[")[2] for line in said()] == ["1 of 2]", "2 of 2]", "3 of 3]"], "one was replaced"


def test_a_cell_that_begins_anew_says_which_file_was_damaged(tmp_path: Path) -> None:
    one = job(tmp_path)
    journal = Journal(one.record.folder)
    journal.write("damaged", file="checkpoint.pt", kept="checkpoint.pt.damaged", why="its checksum does not match")
    journal.write("start")
    journal.write("resume", epoch=0, step=0)
    assert cell_pace.begun_anew(one) == [
        "checkpoint.pt was damaged (its checksum does not match), kept as checkpoint.pt.damaged: the cell begins anew"
    ]
    journal.write("resume", epoch=2, step=0)
    assert cell_pace.begun_anew(one) == []


def test_a_cell_that_ends_says_how_long_the_others_take(
    tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    estimates = {A: 40.0, B: 40.0, "c" * 64: 40.0}
    shown = Display({**NAMES, "c" * 64: "off/s1"}, estimates=estimates, workers=2)
    one, other = job(tmp_path), job(tmp_path, B)
    assert shown._progress() == "0 of 3, about 60 s left", "by the estimates"
    shown.started(one)
    shown.progress(one, 1, 1, 1)
    now[0] = 120.0
    finish(one)
    shown.ended(one, None)
    assert said()[-1].endswith("[1 of 3, about 4 min left]"), "at the pace so far"
    shown.started(other)
    shown.progress(other, 1, 1, 100)
    now[0] = 130.0
    shown.progress(other, other.recipe.train.epochs, 50, 100)
    assert shown._work.seconds_left(shown._running) == pytest.approx(130 * 40 / 80, rel=0.02)


def test_without_estimates_no_time_is_left() -> None:
    shown = Display(NAMES, is_search=True)
    assert shown._progress() == "0 of 2"


def test_a_cell_that_goes_on_from_a_checkpoint_says_so_on_a_terminal_too(
    tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, epochs = job(tmp_path), Recipe().train.epochs
    for is_terminal in (True, False):
        monkeypatch.setattr(display, "is_terminal", lambda _, shown=is_terminal: shown)
        shown = Display(NAMES)
        shown.started(one)
        shown.progress(one, 3, 1, 100)
        assert said() == [f"off/s0: resumed at epoch 3 of {epochs}"]
