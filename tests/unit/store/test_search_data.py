"""Searches in MLflow: nothing measured on test, pruned trials as finished, the latest command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import records
from made.bounded import bounded
from made.misplaced import put_pipe

from cifar_lab.inspect.status import look
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import sync_invocations
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.search_data import files
from cifar_lab.store.selection import select

TEST = 0.987123


def draw(_record: Any) -> dict[str, bytes]:
    return {"figures/loss.png": b"png", "confusion.png": b"png"}


def ship(study: Any, store: MLflowStore) -> None:
    sync_invocations(study.runs, read_index(study.runs).invocations, store, draw=draw, say=lambda _: None)


@pytest.fixture
def searched(study: Any) -> Invocation:
    """A search of two trials: one is finished, the other pruned after two epochs."""
    note: Invocation = study.invocation("sweep.wide", seeds=1, metric="val/acc")
    study.whole("r16", accuracy=TEST)
    study.train(study.begin("r4"), range(1, 3))
    tags = {study.asked("r4", 0).fingerprint: {"trial": "1", "trial_state": "pruned", "trial_pruned_at": "2"}}
    note = replace(note, tags=tags)
    note.write(study.runs)
    return note


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_that_was_measured_on_test_is_shipped(
    study: Any, searched: Invocation, store: MLflowStore, client: Any, runs_of: Any, tmp_path: Path
) -> None:
    ship(study, store)
    run = runs_of("sweep.wide")["r16/s0"]
    (tmp_path / "got").mkdir()
    got = contents(Path(client.download_artifacts(run.info.run_id, "", str(tmp_path / "got"))))
    assert {"result.json", "recipe.json", "journal.jsonl", "weights.safetensors", "loss.png"} <= set(got)
    assert not {"predictions.npz", "confusion.csv", "confusion.png"} & set(got)
    assert b'"val/acc"' in got["result.json"]
    for name, content in got.items():
        assert str(TEST).encode() not in content, name
    assert not [metric for metric in run.data.metrics if "test/" in metric]


def test_an_ablation_ships_test_as_before(study: Any, store: MLflowStore, client: Any, runs_of: Any) -> None:
    study.invocation(seeds=1)
    study.whole("r4")
    ship(study, store)
    run = runs_of("se_ratio")["r4/s0"]
    shipped = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"predictions.npz", "confusion.csv", "confusion.png", "result.json"} <= shipped


def test_a_pruned_trial_and_its_study_are_finished(
    study: Any, searched: Invocation, store: MLflowStore, runs_of: Any
) -> None:
    ship(study, store)
    run = runs_of("sweep.wide")["r4/s0"]
    assert (run.info.status, run.data.tags["pruned"], run.data.tags["status"]) == ("FINISHED", "true", "pruned")
    parent = next(iter(runs_of("sweep.wide", role="invocation").values()))
    assert parent.info.status == "FINISHED"


def test_a_pruned_trial_that_an_earlier_version_called_killed_is_put_right(
    study: Any, searched: Invocation, store: MLflowStore, runs_of: Any
) -> None:
    ship(study, store)
    run = runs_of("sweep.wide")["r4/s0"].info.run_id
    store.tag(run, {"status": "stopped"})
    store.end(run, "KILLED", 1)
    ship(study, store)
    assert runs_of("sweep.wide")["r4/s0"].info.status == "FINISHED"


def test_a_trial_that_was_stopped_and_not_pruned_is_killed(
    study: Any, searched: Invocation, store: MLflowStore, runs_of: Any
) -> None:
    replace(searched, tags={}).write(study.runs)
    ship(study, store)
    assert runs_of("sweep.wide")["r4/s0"].info.status == "KILLED"


def test_a_failed_trial_does_not_make_the_study_one_that_failed(
    study: Any, searched: Invocation, store: MLflowStore, runs_of: Any
) -> None:
    records.fail(study.record("r4", 0), "boom", "boom", time=10**13)
    replace(searched, tags={}).write(study.runs)
    ship(study, store)
    assert runs_of("sweep.wide")["r4/s0"].info.status == "FAILED"
    assert next(iter(runs_of("sweep.wide", role="invocation").values())).info.status == "FINISHED"


def test_the_run_of_a_study_that_is_gone_on_with_has_the_latest_command(
    study: Any, searched: Invocation, store: MLflowStore, runs_of: Any
) -> None:
    ship(study, store)
    latest = "cifar-lab sweep --study wide --trials 9"
    replace(searched, command=latest, cells=(*searched.cells, study.asked("r4", 1))).write(study.runs)
    study.whole("r4", 1)
    ship(study, store)
    (parent,) = runs_of("sweep.wide", role="invocation").values()
    assert (parent.data.tags["command"], parent.data.tags["cells"]) == (latest, "3")


def test_status_calls_a_pruned_trial_pruned_and_shows_no_test(study: Any, searched: Invocation) -> None:
    status = look(select(study.runs, "sweep.wide"), study.runs)
    assert {cell.asked.variant: cell.state for cell in status.cells} == {"r16": "finished", "r4": "pruned"}
    assert status.is_settled
    assert (status.counts()["missing"], status.counts()["pruned"]) == (0, 1)
    assert {cell.test for cell in status.cells} == {None}


def test_a_comparison_counts_a_pruned_trial_as_pruned(study: Any, searched: Invocation) -> None:
    from cifar_lab.results.compare import compare

    rows = {row.variant: row for row in compare(study.runs, "sweep.wide").rows}
    assert (rows["r4"].pruned, rows["r4"].missing, rows["r16"].pruned) == (1, 0, 0)


@pytest.mark.usefixtures("searched")
def test_a_pipe_for_a_journal_is_refused_and_not_waited_for(study: Any) -> None:
    record = study.record("r16", 0)
    put_pipe(record.journal)
    with bounded(), pytest.raises(OSError, match="not a regular file"):
        files(record)
