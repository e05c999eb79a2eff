"""`clean` on an object store, a real server of S3: what a redo set aside, and abandoned checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made.tiny_cells import stop_in_first_epoch, tiny_job

from cifar_lab.cli import run
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.inspect.store_cleanup import find_stored_items, free_stored
from cifar_lab.object_store import ObjectStore
from cifar_lab.store import mirror
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.lease import CellLease, LeaseLost
from cifar_lab.store.mirror import mirror_of, open_mirror

NOW = ("--older-than", "0d", "-y")


@pytest.fixture
def job(address: str, few_images: Path) -> CellJob:
    """A finished cell that is on the store."""
    job = tiny_job(open_mirror(address), few_images)
    train_cell(job)
    return job


@pytest.fixture
def stopped(address: str, few_images: Path) -> CellJob:
    """A cell that was stopped, with its checkpoint on the store."""
    job = tiny_job(open_mirror(address), few_images)
    stop_in_first_epoch(job)
    assert _files(address, job) >= {"checkpoint.pt", "journal.jsonl"}
    return job


def _files(address: str, job: CellJob) -> set[str]:
    return {name.rpartition("/")[2] for name in ObjectStore(address).list_objects(f"{job.fingerprint}/")[0]}


def _clean(address: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["clean", "--runs", address, *words]) == 0
    out, err = capsys.readouterr()
    return out + err


def _superseded(address: str) -> set[str]:
    return {name.rpartition("/")[2] for name in ObjectStore(address).list_objects("superseded/")[0]}


def test_what_a_redo_set_aside_goes_once_its_cell_has_ended_again(
    job: CellJob, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = job.record.set_aside()
    whole = _superseded(address)
    assert "result.json" in whole
    assert f"nothing to free in {address}" in _clean(address, capsys, *NOW), "it is the only result of its cell"
    train_cell(job)
    assert f"nothing to free in {address}" in _clean(address, capsys, "-y"), "it is no week old"
    ObjectStore(address).write("superseded/notes.txt", b"of somebody")
    (item,) = json.loads(_clean(address, capsys, *NOW, "--dry-run", "--json"))["items"]
    assert (item["kind"], item["path"], item["freed"]) == ("superseded", f"{address}/superseded/{place.name}", False)
    assert item["bytes"] > sum(path.stat().st_size for path in (job.record.weights, job.record.predictions)) / 2
    assert _superseded(address) == {*whole, "notes.txt"}
    assert "freed 1 of 1" in _clean(address, capsys, *NOW)
    assert _superseded(address) == {"notes.txt"}
    assert not place.exists(), "the copy in which the redo was done has it no more"
    monkeypatch.setattr(mirror.socket, "gethostname", lambda: "elsewhere")
    other = CellRecord(open_mirror(address) / job.fingerprint)
    assert other.state() == "finished"
    other.require_sound(other.weights, other.predictions, other.journal, other.confusion)


def test_nothing_goes_while_somebody_holds_the_cell(
    job: CellJob, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job.record.set_aside()
    train_cell(job)
    before = _superseded(address)
    lease = CellLease(ObjectStore(address), job.fingerprint, "another copy")
    lease.take(again=True)  # as another redo does, before it copies
    assert "stays: its cell is held" in _clean(address, capsys, *NOW)
    assert _superseded(address) == before
    monkeypatch.setattr("cifar_lab.store.lease.LeaseFile.is_alive", lambda *_: False)  # it died
    assert "freed 1 of 1" in _clean(address, capsys, *NOW)
    with pytest.raises(LeaseLost):
        lease.renew()


def test_a_redo_whose_lease_another_has_taken_deletes_nothing(job: CellJob, address: str) -> None:
    store = ObjectStore(address)
    late, other = (CellLease(store, job.fingerprint, name) for name in ("late", "other"))
    late.take(again=True)
    before = store.list_objects(f"{job.fingerprint}/")[0].keys()
    other._may_take = lambda *_: True  # type: ignore[method-assign]  # as if it had expired
    other.take(again=True)
    there = mirror_of(job.runs)
    assert there is not None
    with pytest.raises(LeaseLost):
        there.move_aside(job.fingerprint, f"{job.fingerprint}.1700000000000", late)
    assert store.list_objects(f"{job.fingerprint}/")[0].keys() == before


def test_the_checkpoint_of_a_cell_that_nobody_goes_on_with_goes_and_nothing_else(
    stopped: CellJob, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _files(address, stopped)
    assert f"nothing to free in {address}" in _clean(address, capsys, "-y"), "it is no week old"
    (item,) = json.loads(_clean(address, capsys, *NOW, "--dry-run", "--json"))["items"]
    assert (item["kind"], item["fingerprint"], item["freed"]) == ("checkpoint", stopped.fingerprint, False)
    assert item["path"] == f"{address}/{stopped.fingerprint}/checkpoint.pt"
    assert item["bytes"] == stopped.record.checkpoint.stat().st_size
    assert _files(address, stopped) == before
    assert "freed 1 of 1" in _clean(address, capsys, *NOW)
    assert _files(address, stopped) == before - {"checkpoint.pt"}
    assert not stopped.record.has_checkpoint
    monkeypatch.setattr(mirror.socket, "gethostname", lambda: "elsewhere")
    elsewhere = open_mirror(address)
    train_cell(replace(stopped, runs=elsewhere))
    assert CellRecord(elsewhere / stopped.fingerprint).state() == "finished", "from its beginning"


def test_the_checkpoint_of_a_cell_that_somebody_holds_stays(
    stopped: CellJob, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = mirror_of(stopped.runs)
    assert there is not None
    (item,) = find_stored_items(there, 0.0)
    lease = CellLease(ObjectStore(address), stopped.fingerprint, "another copy")
    lease.take()
    assert free_stored(there, item) == "its cell is held now", "it was taken since it was shown"
    assert f"nothing to free in {address}" in _clean(address, capsys, *NOW)
    assert "checkpoint.pt" in _files(address, stopped)
    monkeypatch.setattr("cifar_lab.store.lease.LeaseFile.is_alive", lambda *_: False)  # it died
    assert free_stored(there, item) is None
    assert "checkpoint.pt" not in _files(address, stopped)
    with pytest.raises(LeaseLost):
        lease.renew()


@pytest.mark.parametrize("file", ["checkpoint.pt", "journal.jsonl"])
def test_a_checkpoint_that_somebody_has_gone_on_from_since_stays(file: str, stopped: CellJob, address: str) -> None:
    there = mirror_of(stopped.runs)
    assert there is not None
    (item,) = find_stored_items(there, 0.0)
    ObjectStore(address).write(f"{stopped.fingerprint}/{file}", b"more")
    assert free_stored(there, item) == "somebody has gone on from it meanwhile"
    ObjectStore(address).delete(f"{stopped.fingerprint}/checkpoint.pt")
    assert free_stored(there, item) == "it is gone already"


def test_a_checkpoint_beside_a_result_is_a_leftover_of_any_age(
    job: CellJob, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ObjectStore(address).write(f"{job.fingerprint}/checkpoint.pt", b"killed before it was deleted")
    (item,) = json.loads(_clean(address, capsys, "-y", "--json"))["items"]
    assert (item["kind"], item["freed"]) == ("leftover", True)
    assert "checkpoint.pt" not in _files(address, job)
    assert "result.json" in _files(address, job)
