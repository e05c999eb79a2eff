"""A record's state follows from its files and its lock; files are whole or not there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from filelock import Timeout
from made import records

from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.store import atomic_file, cell_owner
from cifar_lab.store.cell_owner import SILENCE
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.runs_folder import find_record, require_writable

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print(flush=True)
    input()
"""


@contextmanager
def _locked_elsewhere(record: CellRecord) -> Iterator[None]:
    record.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(record.folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.kill()


def test_states(tmp_path: Path) -> None:
    record = CellRecord(tmp_path / "cell")
    assert (record.state(), record.cell(), record.result(), record.failure()) == ("missing", None, None, None)
    record.folder.mkdir()
    records.fail(record)
    assert record.state() == "failed"
    records.end(record, status="diverged")
    assert (record.state(), record.failure()) == ("diverged", None)
    records.end(record)
    assert record.state() == "finished"


def test_it_runs_while_another_process_holds_its_lock_and_no_longer(tmp_path: Path) -> None:
    record = CellRecord(tmp_path / "cell")
    with _locked_elsewhere(record):
        assert record.state() == "running"
    assert record.state() == "missing"


def test_a_failure_of_the_past_does_not_hide_that_it_runs(tmp_path: Path) -> None:
    record = CellRecord(tmp_path / "cell")
    with _locked_elsewhere(record):
        records.fail(record)
        assert record.state() == "running"


def test_a_result_ends_the_checkpoint(tmp_path: Path) -> None:
    record = CellRecord(tmp_path)
    record.checkpoint.write_bytes(b"state")
    records.end(record)
    assert not record.checkpoint.exists()


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("the disk is full")

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="full"):
        atomic_file.write_atomically(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_json_has_no_infinity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic_file.write_json(tmp_path / "file.json", {"loss": float("inf")})
    assert list(tmp_path.iterdir()) == []


def test_a_prefix_finds_one_cell_or_says_why_not(tmp_path: Path) -> None:
    for name in ("a" * 64, "ab" + "c" * 62):
        (tmp_path / name).mkdir()
    assert find_record(tmp_path, "ab").fingerprint == "ab" + "c" * 62
    with pytest.raises(TrackingError, match="2 cells start so"):
        find_record(tmp_path, "a")
    with pytest.raises(TrackingError, match="no such cell"):
        find_record(tmp_path, "f")


def test_a_runs_folder_under_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match="cannot be written") as refusal:
        require_writable(tmp_path / "file" / "runs")
    assert "\n" not in str(refusal.value)


def test_whoever_holds_it_says_who_they_are(tmp_path: Path) -> None:
    record = CellRecord(tmp_path / "cell")
    with record.owned(patience=0):
        holder = record.owner()
        assert holder is not None
        assert (holder.host, holder.pid) == (socket.gethostname(), os.getpid())
        assert record.state() == "running"
    assert record.owner() is None
    assert record.state() == "missing"


def test_a_sign_of_life_from_another_host_holds_it_until_it_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_owner, "BEAT", 0.01)
    record = CellRecord(tmp_path / "cell")
    record.folder.mkdir()
    now = time.time_ns() // 1_000_000
    atomic_file.write_json(record.folder / "owner.json", {"host": "elsewhere", "pid": 1, "time": now - 1000})
    assert record.state() == "running"
    with pytest.raises(Timeout), record.owned(patience=0):
        pass
    silent = now - round(1000 * SILENCE) - 1
    atomic_file.write_json(record.folder / "owner.json", {"host": "elsewhere", "pid": 1, "time": silent})
    assert record.state() == "missing"
    with record.owned(patience=0):
        assert record.state() == "running"


def test_the_heart_beats_while_the_cell_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_lab.store.cell_owner.BEAT", 0.01)
    record = CellRecord(tmp_path / "cell")
    with record.owned(patience=0):
        first = record.owner()
        end = time.monotonic() + 10
        while record.owner() == first:
            assert time.monotonic() < end, "no second sign of life"


def test_set_aside_it_is_missing_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    record = CellRecord(tmp_path / ("0" * 64))
    records.end(record)
    result = record.result()
    place = record.set_aside()
    assert record.state() == "missing"
    assert place.parent == tmp_path / "superseded"
    assert CellRecord(place).result() == result
    with _locked_elsewhere(record), pytest.raises(Timeout):
        record.set_aside()


@pytest.mark.parametrize(
    ("file", "text", "rule"),
    [
        ("result.json", "[]", "[] is not an object"),
        ("result.json", '{"status": "finished", "epoch": 1, "step": null, "time": 1}', "'metrics' is missing"),
        ("result.json", '{"epoch": true}', "'epoch' is True, not a whole number"),
        ("failure.json", '{"error": 3}', "'error' is 3, not text"),
        ("owner.json", '{"host": "here", "pid": 1}', "'time' is missing"),
        ("cell.json", '{"provenance": {"hardware": []}}', "'provenance.hardware' is [], not an object"),
    ],
)
def test_what_is_damaged_is_refused_by_file_and_rule(tmp_path: Path, file: str, text: str, rule: str) -> None:
    (tmp_path / file).write_text(text)
    readers = {"result.json": CellRecord.result, "failure.json": CellRecord.failure, "owner.json": CellRecord.owner}
    with pytest.raises(TrackingError) as refusal:
        readers.get(file, CellRecord.cell)(CellRecord(tmp_path))
    assert str(refusal.value) == f"{tmp_path / file}: damaged: {rule}"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"0.9"', "true", "null"])
def test_a_metric_is_a_finite_number(tmp_path: Path, value: str) -> None:
    text = json.dumps({**records.result_file().as_json(), "metrics": {"test/acc": "?"}}).replace('"?"', value)
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DamageError, match=r"metric 'test/acc' is .*, not a finite number"):
        CellRecord(tmp_path).result()
    assert CellRecord(tmp_path).state() == "damaged"


def test_a_field_that_every_version_wrote_is_missing_by_its_path(tmp_path: Path) -> None:
    record = CellRecord(tmp_path)
    tree = {**records.cell_file(record.fingerprint).as_json(), "recipe": {"train": {}}}
    (tmp_path / "cell.json").write_text(json.dumps(tree))
    with pytest.raises(TrackingError, match=r"cell\.json: damaged: 'recipe\.train\.protocol' is missing"):
        record.cell()
    assert CellRecord(tmp_path / "nowhere").cell() is None
