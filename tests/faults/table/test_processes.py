"""Processes that are killed at random moments: nothing is lost, and the numbers are those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults.table import cells, store, undisturbed, victims
from faults.table.lab import PATIENCE, Finished, Lab, Material, differences, kill_group, wait_until, workers
from faults.table.tally import Tally

EPOCHS = "train.epochs=40"
SPAN = 3.0
"""Seconds after the first sign of training within which a process is killed: a study takes about as long."""


def _journals(lab: Lab) -> int:
    """Return the bytes of all journals: they grow as soon as a cell begins or goes on."""
    return sum(path.stat().st_size for path in lab.runs.glob("*/journal.jsonl"))


def _all_finished(lab: Lab, number: int) -> bool:
    return sum(record.result() is not None for record in lab.records()) == number


def _settle(lab: Lab, tally: Tally, expected: dict[str, dict[str, Any]], finished: Finished) -> list[str]:
    """Let the study come to its end; return what is wrong with it then."""
    done = lab.run(*lab.line("--retry-failed", EPOCHS))
    problems = [*done.problems(0), *finished.look(lab.records()), *differences(lab.records(), expected)]
    sync = lab.run("sync", "--runs", str(lab.runs))
    lacking, held = store.lacks(store.sqlite_address(lab.folder / "mlflow.db"), lab.records())
    tally.notes["points in MLflow"] = str(int(tally.notes.get("points in MLflow", "0")) + held)
    return [*problems, *sync.problems(0), *lacking]


def _kill_again_and_again(tally: Tally, lab: Lab, material: Material, kill: str) -> None:
    """Kill and go on until as many tries are made as are asked for, study after study.

    A study in which something was lost counts as one try that is lost.
    """
    expected = undisturbed.study(material, EPOCHS)
    studies = 0
    while tally.tried < tally.tries:
        studies += 1
        each = Lab(folder=lab.folder / str(studies), material=material)
        undisturbed.copy_store(material, each.folder / "mlflow.db")
        finished, killed = Finished(), 0
        problems: list[str] = []
        while tally.tried + killed < tally.tries and not _all_finished(each, len(expected)):
            killed += _kills(tally, each, kill, tally.tries - tally.tried - killed)
            problems += finished.look(each.records())
        problems += _settle(each, tally, expected, finished)
        for _ in range(killed - 1):
            tally.add([])
        if killed:
            tally.add(problems, f"study {studies} with {killed} kills")
    tally.notes["studies"] = str(studies)
    tally.settle()


def _kills(tally: Tally, lab: Lab, kill: str, most: int) -> int:
    """Start the study and kill; return the number of processes killed, 0 where it was over before that.

    Of workers as many are killed as come, for the runner goes on without them.
    """
    seen, killed = _journals(lab), 0
    process = lab.start(lab.line("--retry-failed", EPOCHS))
    try:
        wait_until(lambda: _journals(lab) > seen or process.poll() is not None, "a cell to begin")
        while process.poll() is None and killed < (most if kill == "worker" else 1):
            if _waited(tally.chance.uniform(0, SPAN), process):
                killed += _kill(process.pid, kill, tally)
        if kill != "everything":  # after a worker the others go on; those of a killed runner save and leave
            process.wait(PATIENCE)
            wait_until(lambda: all(record.state() != "running" for record in lab.records()), "the workers to leave")
    finally:
        kill_group(process)
    return killed


def _waited(seconds: float, process: subprocess.Popen[str]) -> bool:
    """Wait; tell whether the process is still there then."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    return process.poll() is None


def _kill(runner: int, kill: str, tally: Tally) -> int:
    if kill == "worker":
        chosen = workers(runner)
        with suppress(ProcessLookupError):
            if chosen:
                os.kill(tally.chance.choice(chosen), signal.SIGKILL)
                return 1
        return 0
    (os.killpg if kill == "everything" else os.kill)(runner, signal.SIGKILL)
    return 1


@pytest.mark.slow
def test_kill_everything(tally: Tally, lab: Lab, material: Material) -> None:
    _kill_again_and_again(tally, lab, material, "everything")


@pytest.mark.slow
def test_kill_worker(tally: Tally, lab: Lab, material: Material) -> None:
    _kill_again_and_again(tally, lab, material, "worker")


@pytest.mark.slow
def test_kill_runner(tally: Tally, lab: Lab, material: Material) -> None:
    _kill_again_and_again(tally, lab, material, "runner")


def test_kill_writing(tally: Tally, material: Material, tmp_path: Path) -> None:
    """Kill a cell's process at each file that it opens, renames or removes, those of a resumed attempt included."""
    (job, *_) = cells.jobs(material, tmp_path / "runs")
    expected = cells.reference(job, tmp_path / "reference")
    moments = victims.moments(cells.moved(job, tmp_path / "counted"))
    chosen = (
        range(1, moments + 1) if tally.tries >= moments else tally.chance.sample(range(1, moments + 1), tally.tries)
    )
    unreached = 0
    for moment in chosen:
        own = cells.moved(job, tmp_path / f"at{moment}")
        if not victims.train_and_die(own, moment):  # checkpoints go by their price, so their number may differ
            unreached += 1
            continue
        tally.add(cells.trained_on(own, expected), f"file operation {moment} of {moments}")
    tally.notes["file operations of a cell"] = str(moments)
    tally.notes["operations that an attempt did not come to"] = str(unreached)
    assert unreached <= len(chosen) // 5
    tally.settle()
