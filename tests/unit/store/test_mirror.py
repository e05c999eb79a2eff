"""Local copies of runs folders on a real server of S3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from made.store_requests import counted_requests
from made.tiny_cells import stop_in_first_epoch, tiny_job

from cifar_lab.errors import ObjectStoreError
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.object_store import ObjectEntry, ObjectStore
from cifar_lab.store import cell_hold, mirror
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_points
from cifar_lab.store.lease import CellLease, LeaseLost
from cifar_lab.store.mirror import mirror_of, open_mirror
from cifar_lab.store.runs_folder import require_writable

OpenCopy = Callable[[str], Path]


@pytest.fixture
def open_copy(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenCopy:
    """`open_copy("b")`: the runs folder of another machine's copy of one store, refreshed."""

    def open_copy(name: str) -> Path:
        monkeypatch.setattr(mirror.socket, "gethostname", lambda: name)
        return open_mirror(address)

    return open_copy


@pytest.fixture
def job(open_copy: OpenCopy, few_images: Path) -> CellJob:
    """The job of a tiny cell in the copy `a`."""
    return tiny_job(open_copy("a"), few_images)


def _on_store(address: str, fingerprint: str) -> set[str]:
    return {name.partition("/")[2] for name in ObjectStore(address).list_objects(f"{fingerprint}/")[0]}


def test_a_finished_cell_is_on_the_store_and_another_copy_has_it(
    job: CellJob, address: str, open_copy: OpenCopy
) -> None:
    assert train_cell(job)
    assert _on_store(address, job.fingerprint) == {
        "cell.json", "confusion.csv", "journal.jsonl", "lease.json", "predictions.npz", "result.json",
        "weights.safetensors",
    }  # fmt: skip
    other = CellRecord(open_copy("b") / job.fingerprint)
    assert other.state() == "finished"
    assert not other.weights.exists(), "large files come when they are read"
    other.require_sound(other.weights, other.predictions, other.journal, other.confusion)
    assert other.weights.read_bytes() == job.record.weights.read_bytes()
    assert other.read() == job.record.read()
    assert not train_cell(replace(job, runs=other.folder.parent))


def test_a_cell_goes_on_in_another_copy_with_the_numbers_of_an_undisturbed_one(
    job: CellJob, open_copy: OpenCopy, tmp_path: Path, few_images: Path
) -> None:
    undisturbed = tiny_job(tmp_path / "plain", few_images)
    train_cell(undisturbed)
    stop_in_first_epoch(job)
    there = replace(job, runs=open_copy("b"))
    assert there.record.has_checkpoint
    assert not there.record.checkpoint.exists()
    assert train_cell(there)
    events = [line for line in there.record.journal.read_text().splitlines() if '"resume"' in line]
    assert '"step": 3' in events[-1], "it went on from the checkpoint"
    accuracy = {job.record.result().metrics["test/acc"] for job in (undisturbed, there)}
    assert len(accuracy) == 1
    assert there.record.weights.read_bytes() == undisturbed.record.weights.read_bytes()


def test_a_refresh_reads_only_what_changed(job: CellJob, address: str, open_copy: OpenCopy) -> None:
    train_cell(job)
    open_copy("b")
    with counted_requests() as counts:
        open_copy("b")
    assert +counts == {"LIST": 1}


def test_a_cell_that_is_trained_in_this_copy_is_left_alone(job: CellJob, open_copy: OpenCopy) -> None:
    train_cell(job)
    there = CellRecord(open_copy("b") / job.fingerprint)
    before = there.journal.read_bytes()
    with FileLock(there.folder / "lock"):
        there.journal.write_bytes(b"longer than on the store")
        open_copy("b")
        assert there.journal.read_bytes() == b"longer than on the store"
    open_copy("b")
    assert there.journal.read_bytes() == before


def test_files_that_were_damaged_here_come_again(job: CellJob, open_copy: OpenCopy) -> None:
    train_cell(job)
    record = CellRecord(open_copy("b") / job.fingerprint)
    record.fetch(record.weights)
    for path in (record.folder / "result.json", record.weights):
        path.write_bytes(b"damaged")
    open_copy("b")
    assert record.state() == "finished"
    assert not record.weights.exists()


@pytest.mark.slow
def test_a_journal_grows_in_place_so_that_readers_go_on(job: CellJob, address: str, open_copy: OpenCopy) -> None:
    stop_in_first_epoch(job)
    there = CellRecord(open_copy("b") / job.fingerprint)
    inode = there.journal.stat().st_ino
    train_cell(job)
    open_copy("b")
    assert there.journal.stat().st_ino == inode
    assert there.journal.read_bytes() == job.record.journal.read_bytes()
    assert len(read_points(there.folder)) == 2


def test_a_cell_that_another_copy_holds_is_running_and_is_not_taken(
    job: CellJob, address: str, open_copy: OpenCopy
) -> None:
    held = CellLease(ObjectStore(address), job.fingerprint, "another")
    held.take()
    record = CellRecord(open_copy("a") / job.fingerprint)
    assert record.state() == "running"
    with pytest.raises(Timeout), record.owned(patience=0.0):
        raise AssertionError("it is held")
    held.release()
    open_copy("a")
    assert record.state() == "missing"


def _train_with(job: CellJob, other: Callable[[], object], at: int, patch: pytest.MonkeyPatch) -> int:
    """Train `job`, and call `other` right before its request number `at`; return the number of its requests."""
    call, count = ObjectStore._call, 0

    def counted(store: ObjectStore, method: str, **arguments: object) -> object:
        nonlocal count
        count += 1
        if count == at:
            patch.setattr(ObjectStore, "_call", call)
            other()
            patch.setattr(ObjectStore, "_call", counted)
        return call(store, method, **arguments)

    patch.setattr(ObjectStore, "_call", counted)
    try:
        train_cell(job)
    finally:
        patch.setattr(ObjectStore, "_call", call)
    return count


MOMENTS = range(3, 17)
"""Requests of a tiny cell after those that take its lease and bring its record; reads are not counted."""


@pytest.mark.parametrize("at", [pytest.param(at, marks=[] if at == 9 else [pytest.mark.slow]) for at in MOMENTS])
def test_whenever_a_holder_is_replaced_the_record_is_whole_and_of_one_holder(
    at: int, job: CellJob, open_copy: OpenCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lab.store.lease.CellLease._may_take", lambda *_: True)  # as if it had expired
    there = replace(job, runs=open_copy("b"))
    took_over: list[bool] = []
    try:
        requests = _train_with(job, lambda: took_over.append(train_cell(there)), at, monkeypatch)
        assert took_over in ([], [False]), "the later holder trained it to the end, so the first one was told"
        assert at > requests - 4, "before the cell has ended, the later holder takes it"
    except LeaseLost:
        assert took_over == [True]
        assert job.record.result() is None
        assert job.record.failure() is None
    third = CellRecord(open_copy("c") / job.fingerprint)
    assert third.state() == "finished"
    third.require_sound(third.weights, third.predictions, third.journal, third.confusion)
    assert third.result() == (there if took_over == [True] else job).record.result()


def test_a_result_whose_holder_died_is_written_by_the_next_one(job: CellJob, address: str, open_copy: OpenCopy) -> None:
    train_cell(job)
    store = ObjectStore(address)
    written = store.read(f"{job.fingerprint}/result.json")
    store.delete(f"{job.fingerprint}/result.json")
    there = replace(job, runs=open_copy("b"))
    assert there.record.state() == "missing"
    assert not train_cell(there)
    assert there.record.state() == "finished"
    assert store.read(f"{job.fingerprint}/result.json").content == written.content


@pytest.mark.slow
def test_a_redone_cell_is_set_aside_on_the_store(job: CellJob, address: str, open_copy: OpenCopy) -> None:
    train_cell(job)
    before = _on_store(address, job.fingerprint) - {"lease.json"}
    there = replace(job, runs=open_copy("b"))
    place = there.record.set_aside()
    assert _on_store(address, job.fingerprint) == {"lease.json"}
    assert _on_store(f"{address}/superseded", place.name) == before
    assert CellRecord(open_copy("a") / job.fingerprint).state() == "missing"
    assert train_cell(there)
    assert CellRecord(open_copy("a") / job.fingerprint).state() == "finished"


@pytest.mark.slow
def test_a_failure_and_its_end_are_sent(job: CellJob, open_copy: OpenCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cifar_lab.execution.worker.fit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_cell(job)
    assert CellRecord(open_copy("b") / job.fingerprint).state() == "failed"
    train_cell(replace(job, runs=open_copy("b")))
    assert not (CellRecord(open_copy("c") / job.fingerprint).folder / "failure.json").exists()


def test_training_goes_on_without_the_store_and_waits_for_it_at_the_end(
    job: CellJob, open_copy: OpenCopy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, refused = ObjectStore.write_if, iter(range(8))

    def away(store: ObjectStore, name: str, content: bytes, etag: str | None) -> str:
        if not name.endswith("lease.json") and next(refused, None) is not None:
            raise ObjectStoreError("away")
        return write(store, name, content, etag)

    monkeypatch.setattr(ObjectStore, "write_if", away)
    monkeypatch.setattr(cell_hold, "PAUSE", 0.0)
    assert train_cell(job)
    assert "away; sent with the next checkpoint" in caplog.text
    assert "away; tried again" in caplog.text
    assert CellRecord(open_copy("b") / job.fingerprint).state() == "finished"


def test_foreign_objects_are_not_copied(open_copy: OpenCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may list any names, also those that lead out of the folder."""
    cell = "0" * 64
    names = ("../out", "notes.txt", f"{cell}/../out", f"{cell}/..", f"{cell}/a/b", f"{cell}/lock", "slurm/x", "/etc/x")
    listed = {name: ObjectEntry('"1"', 7, 0.0) for name in names}
    runs = open_copy("a")
    monkeypatch.setattr(ObjectStore, "list_objects", lambda *_: (listed, True))
    with counted_requests() as counts:
        open_copy("a")
    assert +counts == {}
    assert [path.name for path in runs.rglob("*") if path.is_file() and mirror.MARK not in path.name] == []


def test_a_server_that_ignores_conditions_is_refused(open_copy: OpenCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = open_copy("a")
    require_writable(runs)
    monkeypatch.setattr(ObjectStore, "write_if", lambda store, name, content, _: store.write(name, content))
    with pytest.raises(ObjectStoreError, match="ignores conditions"):
        require_writable(runs)


def test_a_copy_of_a_copy_is_a_folder_like_any_other(open_copy: OpenCopy, tmp_path: Path) -> None:
    runs = open_copy("a")
    (tmp_path / mirror.MARK).write_bytes((runs / mirror.MARK).read_bytes())
    assert mirror_of(runs) is not None
    assert mirror_of(tmp_path) is None
