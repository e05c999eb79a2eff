"""Detection of a cell's owner, whatever the clocks of two machines."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from cifar_lab.store import cell_owner, checksum
from cifar_lab.store.cell_owner import SILENCE
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.lease import LeaseLost

ELSEWHERE = {"host": "other", "machine": "another kernel", "pid": 7}


class Clocks:
    """The wall clock and the one that nobody sets, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = 1_790_000_000.0, 1000.0
        monkeypatch.setattr(cell_owner.time, "time", lambda: self.wall)
        monkeypatch.setattr(cell_owner.time, "monotonic", lambda: self.steady)
        monkeypatch.setattr(cell_owner.time, "sleep", self.pass_)

    def pass_(self, seconds: float) -> None:
        self.wall, self.steady = self.wall + seconds, self.steady + seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def record(tmp_path: Path) -> CellRecord:
    (tmp_path / "cell").mkdir()
    return CellRecord(tmp_path / "cell")


def sign(record: CellRecord, beat: int, clock: float, **changed: Any) -> None:
    """The owner's sign of life with this number, at this time of its own clock."""
    checksum.write_sealed(
        record.folder / "owner.json", {**ELSEWHERE, "beat": beat, "time": round(1000 * clock), **changed}
    )


@pytest.mark.parametrize("ahead", [-3600.0, -130.0, 0.0, 600.0, 365 * 86400.0])
def test_who_beats_lives_whatever_its_clock_says(record: CellRecord, clocks: Clocks, ahead: float) -> None:
    sign(record, 0, clocks.wall + ahead)
    record.state()
    for beat in range(1, 30):
        clocks.pass_(10)
        sign(record, beat, clocks.wall + ahead)
        assert record.state() == "running"


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 600.0, 365 * 86400.0])
def test_who_beats_no_more_is_dead_after_a_while_whatever_its_clock_says(
    record: CellRecord, clocks: Clocks, ahead: float
) -> None:
    sign(record, 0, clocks.wall + ahead)
    record.state()
    clocks.pass_(10)
    sign(record, 1, clocks.wall + ahead)
    assert record.state() == "running"
    clocks.pass_(SILENCE - 1)
    assert record.state() == "running"
    clocks.pass_(1)
    assert record.state() == "missing"


def test_an_owner_on_this_machine_is_told_by_its_lock_alone(record: CellRecord, clocks: Clocks) -> None:
    sign(record, 0, clocks.wall, machine=cell_owner.machine())
    (record.folder / "lock").touch()
    assert record.state() == "missing"


def test_another_machine_of_the_same_name_is_another_machine(record: CellRecord, clocks: Clocks) -> None:
    if not cell_owner.machine():
        pytest.skip("this kernel has no name of its own")
    sign(record, 0, clocks.wall, host=cell_owner.socket.gethostname())
    assert record.state() == "running"


def test_a_cell_is_not_taken_from_a_machine_whose_clock_is_behind(record: CellRecord, clocks: Clocks) -> None:
    sign(record, 0, clocks.wall - 600)
    beats = iter(range(1, 100))
    clocks_pass = clocks.pass_

    def pass_and_beat(seconds: float) -> None:
        clocks_pass(seconds)
        sign(record, next(beats), clocks.wall - 600)

    cell_owner.time.sleep = pass_and_beat  # undone with the other clocks
    with pytest.raises(Timeout), record.owned(patience=0):
        pass


@pytest.mark.parametrize("ahead", [-600.0, 365 * 86400.0])
def test_a_cell_is_taken_from_a_machine_that_is_dead(record: CellRecord, clocks: Clocks, ahead: float) -> None:
    sign(record, 0, clocks.wall + ahead)
    with record.owned(patience=0):
        holder = record.owner()
        assert holder is not None
        assert (holder.pid, holder.machine) == (os.getpid(), cell_owner.machine())


def test_a_lock_is_seen_without_a_right_to_write(record: CellRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def read_only(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *more, **named)

    with record.lock():
        monkeypatch.setattr(os, "open", read_only)
        assert record.state() == "running"
        monkeypatch.setattr(os, "open", real)
    monkeypatch.setattr(os, "open", read_only)
    assert record.state() == "missing"


def test_where_no_lock_can_be_read_the_signs_of_life_tell(record: CellRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_owner, "is_locked", lambda path: None)
    assert record.state() == "missing"
    sign(record, 0, time.time(), machine=cell_owner.machine())
    assert record.state() == "running"


def test_an_owner_that_was_replaced_is_told_and_leaves_the_file_to_the_other(record: CellRecord) -> None:
    with record.owned(patience=0) as hold:
        hold.require_held()
        sign(record, 0, time.time(), fence=1)
        with pytest.raises(LeaseLost, match="another process has taken the cell"):
            hold.require_held()
        sign(record, 1, time.time(), fence=0)
        assert hold.is_lost, "once lost, lost for good"
        sign(record, 2, time.time(), fence=1)
    left = record.owner()
    assert left is not None
    assert left.host == "other"


def test_a_late_write_of_the_owner_before_takes_no_cell_back(record: CellRecord, clocks: Clocks) -> None:
    sign(record, 0, clocks.wall - 600, fence=3)
    with record.owned(patience=0) as hold:
        owner = record.owner()
        assert owner is not None
        assert (owner.pid, owner.fence) == (os.getpid(), 4)
        sign(record, 1, clocks.wall, fence=3)
        hold.require_held()
    assert record.owner() is None


@pytest.mark.parametrize("is_finished", [False, True])
def test_without_the_file_only_a_result_tells_that_another_trained_it(record: CellRecord, is_finished: bool) -> None:
    with record.owned(patience=0) as hold:
        (record.folder / "owner.json").unlink()
        if is_finished:
            (record.folder / "result.json").write_text("of another")
            with pytest.raises(LeaseLost):
                hold.require_held()
        else:
            hold.require_held()


def test_an_owner_hears_of_its_loss_from_its_own_heartbeats(
    record: CellRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_owner, "BEAT", 0.01)
    with record.owned(patience=0) as hold:
        sign(record, 0, time.time(), fence=1)
        end = time.monotonic() + 10
        while not hold.is_lost and time.monotonic() < end:
            sign(record, 0, time.time(), fence=1)  # a beat may just have been under way
            time.sleep(0.01)
        assert hold.is_lost


def test_an_owner_file_that_cannot_be_read_decides_nothing(record: CellRecord) -> None:
    with record.owned(patience=0) as hold:
        (record.folder / "owner.json").write_text("{")
        hold.require_held()
