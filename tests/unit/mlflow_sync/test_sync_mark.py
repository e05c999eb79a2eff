"""`sync` with nothing to do reads no record, and sees whatever has changed since the last one."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.mlflow_sync import client as client_module
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import sync_invocations
from cifar_lab.mlflow_sync.parent_run import ComparisonFiles
from cifar_lab.mlflow_sync.server_errors import StoreUnavailable
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index

Sync = Callable[..., tuple[int, int]]


@pytest.fixture
def sync(study: Any, store: MLflowStore) -> Sync:
    """`sync(…)`: upload everything to the store, or to another one, with a table or a function that makes it."""

    def sync(to: MLflowStore = store, table: Any = lambda _: ComparisonFiles("| table |", "")) -> tuple[int, int]:
        notes = read_index(study.runs).invocations
        return sync_invocations(study.runs, notes, to, draw=lambda _: {}, say=print, tabulate=table)[:2]

    return sync


@pytest.fixture
def synced(study: Any, sync: Sync, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Four cells that the store has, on pages of two runs."""
    monkeypatch.setattr(client_module, "PAGE", 2)
    study.invocation()
    study.all()
    assert sync() == (4, 0)
    return study


@pytest.fixture
def finished(study: Any, sync: Sync) -> CellRecord:
    """Record of a cell whose result names its files, and that the store has."""
    study.whole()
    record: CellRecord = study.record("r4", 0)
    _write_digests(record)
    study.invocation(seeds=1, variants=("r4",))
    assert sync() == (1, 0)
    return record


def _write_digests(record: CellRecord) -> None:
    """Write the result anew, with the digests of the record's files as they are now."""
    result = record.result()
    assert result is not None
    record.write_result(result.model_copy(update={"files": record.digests()}))


def _unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(record: CellRecord) -> None:
        raise AssertionError(f"{record.fingerprint} is read")

    monkeypatch.setattr(CellRecord, "result", refuse)


def test_a_second_sync_reads_no_record_and_one_page_of_runs(
    synced: Any, sync: Sync, store: MLflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    really = store._call
    monkeypatch.setattr(store, "_call", lambda *given, **named: calls.append(1) or really(*given, **named))
    _unread(monkeypatch)
    assert sync(table=None) == (0, 0)
    assert len(calls) == 3, "the experiment for its mark, the experiment and the last page of its runs"


def test_files_that_were_replaced_in_a_finished_record_are_uploaded(
    finished: CellRecord, sync: Sync, client: Any, runs_of: Any
) -> None:
    finished.predictions.write_bytes(b"predictions with logits")
    _write_digests(finished)  # as `evaluate` does
    assert sync() == (1, 0)
    run = runs_of("se_ratio")["r4/s0"]
    assert Path(client.download_artifacts(run.info.run_id, "predictions.npz")).read_bytes() == (
        b"predictions with logits"
    )
    assert sync() == (0, 0)


@pytest.mark.parametrize(("seconds", "shipped"), [(1, 0), (3600, 1)])
def test_a_run_of_an_earlier_version_lacks_what_was_written_after_the_end_of_its_cell(
    seconds: int, shipped: int, finished: CellRecord, sync: Sync, client: Any, runs_of: Any
) -> None:
    result = finished.result()
    assert result is not None
    client.set_tag(runs_of("se_ratio")["r4/s0"].info.run_id, "cifar_lab.shipped_to", str(result.time))
    written = result.time / 1000 + seconds
    os.utime(finished.folder / "result.json", (written, written))
    assert sync() == (shipped, 0)
    assert sync() == (0, 0)


def test_a_cell_that_is_redone_gets_a_new_run(synced: Any, sync: Sync, client: Any, runs_of: Any) -> None:
    old = runs_of("se_ratio")["r4/s0"].info.run_id
    shutil.rmtree(synced.record("r4", 0).folder)
    time.sleep(0.002)
    synced.whole()
    assert sync() == (1, 0)
    assert client.get_run(old).data.tags["role"] == "superseded"


@pytest.mark.parametrize(
    ("name", "purge"),
    [("r4/s0", True), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("r4/s0", False), ("r16/s1", True)))],
)
def test_a_run_that_was_deleted_is_uploaded_again(
    name: str, purge: bool, synced: Any, sync: Sync, client: Any, runs_of: Any
) -> None:
    old = runs_of("se_ratio")[name].info.run_id
    client.delete_run(old)
    if purge:  # as `mlflow gc` does
        client._tracking_client.store._hard_delete_run(old)
    assert sync() == (1, 0)
    assert runs_of("se_ratio")[name].info.run_id != old
    assert sync() == (0, 0)


def test_the_run_of_an_invocation_that_was_deleted_is_there_again(
    synced: Any, sync: Sync, client: Any, runs_of: Any
) -> None:
    (old,) = runs_of("se_ratio", "invocation").values()
    client.delete_run(old.info.run_id)
    assert sync() == (0, 0)
    (new,) = runs_of("se_ratio", "invocation").values()
    assert new.info.run_id != old.info.run_id
    assert new.data.tags["mlflow.note.content"] == old.data.tags["mlflow.note.content"].replace(
        old.info.run_id, new.info.run_id
    )


@pytest.mark.slow
@pytest.mark.usefixtures("synced")
def test_another_store_gets_everything(sync: Sync, tmp_path: Path) -> None:
    assert sync(MLflowStore.open(f"sqlite:///{tmp_path / 'other.db'}")) == (4, 0)


def test_an_upload_that_broke_off_goes_on(
    study: Any, sync: Sync, store: MLflowStore, runs_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.invocation()
    study.all()
    uploads: list[str] = []
    really = store.upload

    def upload_twice(run: str, *files: Any) -> None:
        if len(uploads) == 2:
            raise StoreUnavailable("away")
        uploads.append(run)
        really(run, *files)

    monkeypatch.setattr(store, "upload", upload_twice)
    assert sync()[1] == 2
    monkeypatch.setattr(store, "upload", really)
    assert sync() == (2, 0)
    assert {run.info.status for run in runs_of("se_ratio").values()} == {"FINISHED"}


def test_a_cell_that_was_running_is_looked_at_again_although_its_files_did_not_change(
    study: Any, sync: Sync, runs_of: Any
) -> None:
    study.invocation(seeds=1, variants=("r4",))
    study.train(study.begin(), range(1, 3))
    with study.record("r4", 0).lock():
        assert sync() == (1, 0)
        assert runs_of("se_ratio")["r4/s0"].info.status == "RUNNING"
    sync()
    assert runs_of("se_ratio")["r4/s0"].info.status == "KILLED"


def test_a_table_that_could_not_be_made_is_made_by_the_next_sync(study: Any, sync: Sync, runs_of: Any) -> None:
    def fail(invocation: Any) -> None:
        raise ValueError("no numbers")

    study.invocation()
    study.all()
    assert sync(table=fail) == (4, 0)
    assert sync() == (0, 0)
    (parent,) = runs_of("se_ratio", "invocation").values()
    assert parent.data.tags["mlflow.note.content"].startswith("| table |")
