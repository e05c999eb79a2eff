"""Client of MLflow: its store is found as MLflow finds it, checked before use, and kept within its limits."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.errors import TrackingError
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.run_fields import DatasetPart, MetricPoint, RunFields
from cifar_lab.mlflow_sync.ui_view import UIView
from cifar_lab.mlflow_sync.uri import require_usable, resolve_uri


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert resolve_uri() == "http://tracking:5000"


def test_without_it_the_store_is_a_database_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri() == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("older", [False, True])
def test_mlflow_itself_finds_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool) -> None:
    from mlflow.tracking import get_tracking_uri

    monkeypatch.chdir(tmp_path)
    if older:
        (tmp_path / "mlruns" / "0").mkdir(parents=True)
        (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    assert resolve_uri() == get_tracking_uri()


def test_a_store_that_can_be_written_is_let_pass(tmp_path: Path) -> None:
    require_usable(f"sqlite:///{tmp_path}/mlflow.db")
    with sqlite3.connect(tmp_path / "there.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    require_usable(f"sqlite:///{tmp_path}/there.db")
    require_usable("http://127.0.0.1:9")
    require_usable("postgresql+psycopg://u:p@nowhere/db")
    assert [path.name for path in tmp_path.iterdir()] == ["there.db"]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("missing/mlflow.db", "no folder"),
        ("file/mlflow.db", "not a folder"),
        ("folder", "a folder, not a database"),
        ("file", "not a database"),
    ],
)
def test_one_that_cannot_is_refused_in_one_line(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").write_text("no database, only words\n" * 100)
    (tmp_path / "folder").mkdir()
    with pytest.raises(TrackingError, match=why) as refusal:
        require_usable(f"sqlite:///{tmp_path}/{place}")
    assert "\n" not in str(refusal.value)


def test_a_folder_of_runs_is_refused_as_mlflow_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackingError, match="sqlite:///"):
        require_usable(tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    require_usable(tmp_path.as_uri())


def test_asking_does_not_import_mlflow() -> None:
    code = (
        "import sys; from cifar_lab.mlflow_sync import client, uploader, uri; uri.require_usable('sqlite:///x.db');"
        "sys.exit('mlflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_new_database_is_whole_and_can_be_read_while_it_is_written(store: MLflowStore, tmp_path: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir() if "-" not in path.name) == ["mlflow.db", "mlflow.db.lock"]
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_everything_is_cut_to_the_limits(store: MLflowStore, client: Any) -> None:
    sheet = RunFields(
        name="big",
        identity={"role": "cell"},
        tags={f"tag{i}": "t" * 9000 for i in range(120)},
        params={f"param{i}": "p" * 7000 for i in range(120)},
        time=1,
        data=(DatasetPart(part="test", name="d" * 300, digest="a" * 32, context="test", source={"sha256": "b" * 64}),),
    )
    run = store.start(store.experiment("limits", {}, print), sheet)
    store.log(run, [MetricPoint("loss", 0.5, 1000 + step, step) for step in range(2500)])
    shown = client.get_run(run)
    assert len(client.get_metric_history(run, "loss")) == 2500
    assert {len(shown.data.params[f"param{i}"]) for i in range(120)} == {6000}
    assert {len(shown.data.tags[f"tag{i}"]) for i in range(120)} == {8000}
    (data,) = shown.inputs.dataset_inputs
    assert (len(data.dataset.name), data.dataset.digest) == (250, "a" * 32)


def test_a_start_that_broke_off_is_made_whole(store: MLflowStore, client: Any) -> None:
    experiment = store.experiment("broken", {}, print)
    begun = RunFields(name="r", identity={"role": "cell", "fingerprint": "f"}, tags={}, params={}, time=1)
    run = store.start(experiment, begun)
    whole = RunFields(name="r", identity=begun.identity, tags={"a": "1"}, params={"p": "1"}, time=1)
    for _ in range(2):
        assert store.start(experiment, whole, store.find(experiment, role="cell", fingerprint="f")) == run
    assert client.get_run(run).data.params == {"p": "1"}


def test_the_experiment_that_was_asked_for_last_is_shown_first(store: MLflowStore) -> None:
    for name, time in {"early": 1, "late": 3, "middle": 2}.items():
        seen = UIView(setting="s", name="small", variants=("a",), cells=1, metric="test/acc", began=0, time=time)
        store.experiment(name, {seen.tag: seen.value()}, print)
    store.experiment("of somebody else", {"mlflow.sharedViewState.theirs": "{}"}, print)
    assert [(shown.name, shown.key) for shown in store.shown()] == [
        ("late", "cifar-lab-s"),
        ("middle", "cifar-lab-s"),
        ("early", "cifar-lab-s"),
    ]


def test_a_deleted_experiment_comes_back(store: MLflowStore, client: Any) -> None:
    experiment = store.experiment("gone", {}, print)
    client.delete_experiment(experiment)
    assert store.experiment("gone", {}, print) == experiment
    assert client.get_experiment(experiment).lifecycle_stage == "active"
