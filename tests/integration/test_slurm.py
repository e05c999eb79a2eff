"""A study on a real Slurm cluster: one task cancelled, one queued again in the middle, the same numbers as local cells.

Needs Slurm's commands and a cluster that answers; without them the tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made.real_images import ON_BOTH


def _answers() -> bool:
    if shutil.which("sinfo") is None:
        return False
    nodes = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, check=False)
    return nodes.returncode == 0 and any(state in nodes.stdout for state in ("idle", "mix", "alloc"))


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _answers(), reason="no Slurm cluster answers here (Debian: slurm-wlm)"),
]
STUDY = ("optimizers_cosine", "--scale", "smoke", "model.width=4", "model.blocks=[1,1]")
LONG = (*STUDY, "train.epochs=60", "--variants", "sgd_nesterov,adam", "--seeds", "0")
SHORT = (*STUDY, "--variants", "sgd_nesterov,adam", "--seeds", "0-1")
ONE_THREAD = ("--workers", str(os.cpu_count() or 1), "--offline", "-y")
"""Options of a local run whose cells have one thread, as a task with one processor has."""
PATIENCE = 400.0
"""Seconds: Slurm begins a task that was queued again after two minutes."""


def lab(folder: Path, *words: str) -> str:
    """Run a command in `folder`, and return its standard output."""
    done = subprocess.run([sys.executable, "-m", "cifar_lab", *words], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "COLUMNS": "200"}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(folder: Path, *words: str) -> dict[str, Any]:
    return dict(
        json.loads(lab(folder, "run-ablation", *words, "--engine", "slurm", "--time", "10", "--workers", "1", "--json"))
    )


def status(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads(lab(folder, "status", "optimizers_cosine", "--json"))["cells"])


def tree(folder: Path) -> dict[str, Any]:
    return dict(json.loads(lab(folder, "compare", "optimizers_cosine", "--json")))


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(1)


def has_ended(job: str) -> bool:
    queue = subprocess.run(["squeue", "--noheader", f"--jobs={job}"], capture_output=True, text=True, check=False)
    return not queue.stdout.strip()


def values(folder: Path) -> dict[str, Any]:
    return {row["variant"]: row["values"] for row in tree(folder)["rows"]}


def test_a_submitted_study_has_the_numbers_of_a_local_one_and_its_report(tmp_path: Path) -> None:
    here, there = tmp_path / "local", tmp_path / "slurm"
    here.mkdir(), there.mkdir()
    done = submit(there, *SHORT, "--max-parallel", "2")
    assert len(done["cells"]) == done["tasks"] == 4
    lab(here, "run-ablation", *SHORT, *ONE_THREAD)
    folder = Path(done["folder"])
    until(lambda: has_ended(done["following_job"]), "the job that follows ends")
    assert values(there) == values(here)
    assert (folder / "report.html").read_text().lower().startswith("<!doctype html>")
    assert "sgd_nesterov" in (folder / "summary.log").read_text()
    assert submit(there, *SHORT)["job"] is None, "nothing is left to submit"


@ON_BOTH
def test_a_task_queued_again_and_one_cancelled_lose_no_epoch(data: tuple[str, ...], tmp_path: Path) -> None:
    here, there, study = tmp_path / "local", tmp_path / "slurm", (*LONG, *data)
    here.mkdir(), there.mkdir()
    first = submit(there, *study)
    assert submit(there, *study)["job"] is None, "its cells are in the queue"
    until(lambda: all(cell["epoch"] >= 2 for cell in status(there)), "both cells train")
    tasks = {cell["queue"]: cell["fingerprint"] for cell in status(there)}
    again, cancelled = f"{first['job']}_0", f"{first['job']}_1"
    assert set(tasks) == {again, cancelled}
    assert "2 with Slurm" in " ".join(lab(there, "status").split())
    subprocess.run(["scancel", "--signal=USR1", "--batch", again], check=True)  # as before its time limit
    subprocess.run(["scancel", cancelled], check=True)
    until(lambda: all(cell["state"] == "missing" for cell in status(there)), "both stop")
    stopped = {cell["fingerprint"]: cell["epoch"] for cell in status(there)}
    assert min(stopped.values()) >= 2, "their last epochs are kept"
    lab(here, "run-ablation", *study, *ONE_THREAD)
    until(lambda: has_ended(first["following_job"]), "the task that was queued again, and the job after it, end")
    states = {cell["fingerprint"]: cell["state"] for cell in status(there)}
    assert states[tasks[again]] == "finished"
    assert states[tasks[cancelled]] == "missing", "what was cancelled is left alone"
    second = submit(there, *study)
    assert second["cells"] == [tasks[cancelled]]
    until(lambda: has_ended(second["following_job"]), "the second submission ends")
    assert values(there) == values(here)
    assert {row["verdict"] for row in tree(there)["rows"]} == {row["verdict"] for row in tree(here)["rows"]}


def test_stages_follow_their_parents_in_one_task(tmp_path: Path) -> None:
    done = submit(tmp_path, "writeup_ladder", "--scale", "smoke/2", "model.width=4", "--variants", "s5,s6,s7",
                  "--seeds", "0-1")  # fmt: skip
    assert done["tasks"] == 2
    until(lambda: has_ended(done["following_job"]), "the job that follows ends")
    rows = json.loads(lab(tmp_path, "compare", "writeup_ladder", "--json"))["rows"]
    assert {row["variant"]: row["n"] for row in rows} == {"s5": 2, "s6": 2, "s7": 2}
