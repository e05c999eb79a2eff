"""Cleaning: files that may be deleted, files that must not be, and cells being trained, which are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made import records

from cifar_lab.errors import UsageError
from cifar_lab.inspect.cleanup import CleanupItem, find_items, free, parse_age
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal

DAY = 86400.0
HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print(flush=True)
    input()
"""


@contextmanager
def held(record: CellRecord) -> Iterator[None]:
    """Another process holds the cell's lock."""
    command = [sys.executable, "-c", HOLD, str(record.folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.kill()


@pytest.fixture
def stopped(tmp_path: Path) -> CellRecord:
    """A cell that was stopped ten days ago, after two epochs."""
    record = CellRecord(tmp_path / "runs" / ("a" * 64))
    record.folder.mkdir(parents=True)
    journal = Journal(record.folder)
    journal.write("start")
    for epoch in (1, 2):
        journal.points(epoch, {"val/acc": 0.5})
        journal.write("checkpoint", epoch=epoch, step=0)
    record.checkpoint.write_bytes(b"x" * 1000)
    record.weights.write_bytes(b"weights")
    before = time.time() - 10 * DAY
    os.utime(record.folder / "journal.jsonl", (before, before))
    return record


def found(record: CellRecord, days: float = 7) -> list[CleanupItem]:
    return find_items(record.folder.parent, days * DAY)


def finish(record: CellRecord) -> None:
    records.end(record, epoch=3)


def test_the_checkpoint_of_a_cell_that_nobody_went_on_with_is_freed_and_nothing_else(stopped: CellRecord) -> None:
    (item,) = found(stopped)
    assert (item.kind, item.path, item.size, item.epoch) == ("checkpoint", stopped.checkpoint, 1000, 2)
    assert free(item) is None
    left = {path.name for path in stopped.folder.iterdir()} - {"lock"}
    assert left == {"journal.jsonl", "weights.safetensors"}


def test_one_that_was_touched_since_stays(stopped: CellRecord) -> None:
    assert found(stopped, days=11) == []
    Journal(stopped.folder).write("failed", trace="")
    assert found(stopped) == []
    assert len(found(stopped, days=0)) == 1


def test_a_cell_that_is_trained_is_left_alone_whatever_its_age(stopped: CellRecord) -> None:
    (stopped.folder / ".checkpoint.pt.1.partial").write_bytes(b"half")
    (item, partial) = sorted(found(stopped), key=lambda item: item.kind)
    with held(stopped):
        assert found(stopped, days=0) == []
        assert free(item) == free(partial) == "its cell is trained now"
    assert stopped.checkpoint.exists()


def test_a_cell_that_was_taken_up_between_showing_and_deleting_stays(stopped: CellRecord) -> None:
    (item,) = found(stopped)
    Journal(stopped.folder).write("resume", epoch=2, step=0)
    assert "gone on" in str(free(item))
    assert stopped.checkpoint.exists()
    stopped.checkpoint.unlink()
    (stopped.folder / "journal.jsonl").unlink()
    assert "gone already" in str(free(item))


def test_half_written_files_go_at_any_age_and_of_finished_cells_too(stopped: CellRecord) -> None:
    finish(stopped)
    stopped.checkpoint.write_bytes(b"killed before it was deleted")
    (stopped.folder / ".weights.safetensors.1.partial").write_bytes(b"half")
    items = found(stopped)
    assert {(item.kind, item.path.name) for item in items} == {
        ("leftover", ".weights.safetensors.1.partial"),
        ("leftover", "checkpoint.pt"),
    }
    assert [free(item) for item in items] == [None, None]
    assert (stopped.state(), stopped.weights.exists()) == ("finished", True)


def test_a_note_that_may_just_be_written_stays(stopped: CellRecord) -> None:
    notes = stopped.folder.parent / "invocations"
    notes.mkdir()
    (notes / ".now.json.1.partial").touch()
    (notes / ".long_ago.json.1.partial").touch()
    os.utime(notes / ".long_ago.json.1.partial", (1, 1))
    assert [item.path.name for item in found(stopped, days=20)] == [".long_ago.json.1.partial"]


def test_what_a_redo_set_aside_stays_until_it_is_old_and_replaced(stopped: CellRecord) -> None:
    finish(stopped)
    place = stopped.set_aside()
    assert found(stopped, days=0) == [], "the cell is not finished again"
    stopped.folder.mkdir()
    finish(stopped)
    assert found(stopped, days=7) == [], "it was set aside a moment ago, old as its files may be"
    (item,) = found(stopped, days=0)
    assert item.touched == pytest.approx(time.time(), abs=60)
    stopped.set_aside()
    assert free(item) == "its cell is not finished"
    assert place.exists()


def test_what_a_redo_set_aside_goes_as_a_whole(stopped: CellRecord) -> None:
    finish(stopped)
    place = stopped.set_aside()
    place = place.rename(place.with_suffix(f".{1000 * int(time.time() - 8 * DAY)}"))
    stopped.folder.mkdir()
    finish(stopped)
    (item,) = find_items(place.parent.parent, 7 * DAY)
    assert (item.kind, item.path, item.cell) == ("superseded", place, None)
    assert item.size > len(b"weights")
    assert free(item) is None
    assert list(place.parent.iterdir()) == []


def test_a_link_is_removed_and_not_what_it_leads_to(stopped: CellRecord, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (stopped.folder.parent / "superseded").mkdir()
    (stopped.folder.parent / "superseded" / "link").symlink_to(precious)
    items = [item for item in found(stopped, days=0) if item.kind == "superseded"]
    assert [free(item) for item in items] == [None]
    assert (precious / "file").exists()


@pytest.mark.parametrize(("text", "seconds"), [("12h", 12 * 3600), ("7d", 7 * DAY), ("0d", 0)])
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["7", "d", "", "-1d", "1.5d", "7 d", "7w", "٧d", "99999999999d"])
def test_an_age_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="12h, 7d") as refusal:
        parse_age(text)
    assert repr(text)[1:-1] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_a_kill_left_of_mlflows_database_is_freed_once_it_is_old(
    stopped: CellRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = stopped.folder.parent
    (runs.parent / "elsewhere").mkdir()
    monkeypatch.chdir(runs.parent / "elsewhere")
    left = [runs.parent / "mlflow.db.123.partial", runs.parent / "mlflow.db.123.partial-journal",
            Path("mlflow.db.7.partial").resolve()]  # fmt: skip
    for path in left:
        path.write_bytes(b"half")
    (runs.parent / "mlflow.db").write_bytes(b"whole")
    assert [item for item in found(stopped, 100) if item.kind == "leftover"] == []
    for path in left:
        os.utime(path, (time.time() - 7200,) * 2)
    items = [item for item in found(stopped, 100) if item.kind == "leftover"]
    assert {item.path for item in items} == set(left)
    assert [free(item) for item in items] == [None] * 3
    assert (runs.parent / "mlflow.db").exists()


def test_a_damaged_file_that_was_kept_aside_is_freed_once_its_cell_is_finished_and_it_is_old(
    stopped: CellRecord,
) -> None:
    stopped.keep_aside(stopped.checkpoint)
    assert [item.kind for item in found(stopped, 0)] == []
    records.end(stopped, epoch=2)
    assert [item.kind for item in found(stopped, 7)] == []
    (item,) = found(stopped, 0)
    assert (item.kind, item.path.name) == ("damaged", "checkpoint.pt.damaged")
    assert free(item) is None


def test_nothing_is_taken_from_a_record_that_is_damaged(stopped: CellRecord) -> None:
    (stopped.folder / "cell.json").write_text("{")
    assert stopped.state() == "damaged"
    assert found(stopped, 0) == []


def test_what_a_repair_moved_is_freed_once_it_is_old(stopped: CellRecord) -> None:
    place = stopped.folder.parent / "damaged" / "20260101T000000"
    place.mkdir(parents=True)
    (place / "result.json").write_text("{")
    assert [item.kind for item in found(stopped, 100)] == []
    os.utime(place, (time.time() - 200 * DAY,) * 2)
    (item,) = (item for item in found(stopped, 100) if item.kind == "damaged")
    assert (item.path, free(item)) == (place, None)
