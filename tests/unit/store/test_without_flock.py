"""Runs folders on file systems without working locks: what is refused, and what goes on with lock files."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from cifar_lab.errors import TrackingError
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.runs_folder import require_writable

HOLD = """
import errno, fcntl, sys, time
from pathlib import Path

def flock(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

fcntl.flock = flock
from cifar_lab.store.cell_record import CellRecord

with CellRecord(Path(sys.argv[1])).owned(patience=0.0):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A kernel that answers ENOSYS to flock, as for Lustre without its option."""
    _answer(monkeypatch, errno.ENOSYS)
    return monkeypatch


def _answer(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_whose_locks_fail_is_refused_before_anything_begins(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer(monkeypatch, code)
    with pytest.raises(TrackingError, match="has no locks") as refused:
        require_writable(tmp_path / "runs")
    assert os.strerror(code) in str(refused.value)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_without_flock_a_lock_file_holds_the_cell(job: CellJob, without: pytest.MonkeyPatch) -> None:
    require_writable(job.runs)
    with job.record.owned(patience=0.0):
        assert job.record.state() == "running", "by its heartbeats"
        with pytest.raises(Timeout), CellRecord(job.record.folder).owned(patience=0.0):
            raise AssertionError("it is held")
    assert train_cell(job)
    assert job.record.state() == "finished"


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_without_flock_a_holder_that_was_killed_here_is_replaced(job: CellJob, without: pytest.MonkeyPatch) -> None:
    line = [sys.executable, "-W", "ignore", "-c", HOLD, str(job.record.folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Timeout), job.record.owned(patience=0.0):
            raise AssertionError("it is held")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with job.record.owned(patience=5.0):
        assert job.record.state() == "running"
