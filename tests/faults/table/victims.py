"""A cell's process that dies by SIGKILL at a chosen file operation."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from cifar_lab.execution import fork_server
from cifar_lab.execution.worker import CellJob, train_cell

WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
"""Audit events of Python that come just before a file operation."""


def moments(job: CellJob) -> int:
    """Train a cell in a process of its own; return the number of file operations in its folder."""
    counted = job.runs.with_suffix(".moments")
    counted.parent.mkdir(parents=True, exist_ok=True)
    assert _in_process(job, 0, counted) == 0
    return int(counted.read_text())


def train_and_die(job: CellJob, moment: int) -> bool:
    """Train a cell and kill its process just before its file operation number `moment`; whether that was reached."""
    return _in_process(job, moment, None) == -signal.SIGKILL


def _in_process(job: CellJob, moment: int, counted: Path | None) -> int | None:
    process = fork_server.start_fork_server().Process(target=_train, args=(job, moment, counted))
    process.start()
    process.join()
    return process.exitcode


def _train(job: CellJob, moment: int, counted: Path | None) -> None:
    folder, number = str(job.record.folder), 0

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal number
        if event in WATCHED and any(folder in os.fspath(a) for a in arguments if isinstance(a, str | os.PathLike)):
            number += 1
            if number == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    train_cell(job)
    if counted is not None:
        counted.write_text(str(number))
