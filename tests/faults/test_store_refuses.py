"""A store that refuses, or holds one thing up, is one line; it costs no table, and nothing else waits for it."""

from __future__ import annotations

import http.server
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made.mlflow_study import Study

from cifar_lab.cli import run
from cifar_lab.errors import TrackingError
from cifar_lab.mlflow_sync import upload
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import sync_invocations
from cifar_lab.mlflow_sync.run_fields import RunFields
from cifar_lab.mlflow_sync.server_errors import CallRefused, StoreRefuses, StoreUnavailable
from cifar_lab.mlflow_sync.uploader import Uploader
from cifar_lab.mlflow_sync.uri import require_usable, resolve_uri

Serve = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")  # the current one holds the store


@pytest.fixture
def study(folder: Path) -> Study:
    (folder / "runs").mkdir()
    return Study(folder / "runs")


@pytest.fixture
def answering() -> Iterator[Serve]:
    """`answering(401, "no")`: the address of a server on this machine that answers everything so."""
    with_end = []

    def serve(status: int, body: str) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(status)
                self.send_header("content-length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        with_end.append(made)
        return f"http://127.0.0.1:{made.server_port}"

    yield serve
    for made in with_end:
        made.shutdown()
        made.server_close()


ANSWERS = [
    (401, "You are not authenticated", StoreRefuses, "401 (You are not authenticated)"),
    (403, "", StoreRefuses, "403"),
    (404, "<html><body>no such page</body></html>", StoreRefuses, "404 (no such page)"),
    (200, "<html><body>Sign in</body></html>", StoreRefuses, "does not answer as MLflow does"),
    (500, "oops", StoreUnavailable, "is away: it answers 500"),
    (503, "<html>down for repair</html>", StoreUnavailable, "503 (down for repair)"),
]


@pytest.mark.parametrize(("status", "body", "kind", "words"), ANSWERS)
def test_what_a_gateway_answers_is_one_line(
    answering: Serve, status: int, body: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as refusal:
        MLflowStore.open(answering(status, body)).shown()
    assert words in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_sync_and_ui_end_with_one_line_and_exit_code_2(
    answering: Serve, study: Study, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", answering(status, "no"))
    study.all()
    study.invocation()
    for command in (["sync"], ["ui", "--no-open"]):
        assert run(command) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert f"refuses: {status} (no)" in lines[0]


@pytest.mark.parametrize("address", ["answering", "foo://bar", "http://127.0.0.1:9"])
def test_who_trains_nothing_is_told_and_does_not_wait(
    answering: Serve, study: Study, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", answering(401, "no") if address == "answering" else address)
    said: list[str] = []
    assert not upload.lacks(study.runs, study.invocation(), said.append)
    assert len(said) == 1
    assert said[0].endswith("`cifar-lab sync` ships this run later")


def test_a_refusal_during_a_training_is_said_once_and_nobody_waits_for_it(answering: Serve, study: Study) -> None:
    study.all()
    said: list[str] = []
    uri = answering(401, "no")
    shipper = Uploader(
        study.runs, study.invocation(), lambda: MLflowStore.open(uri), draw=lambda _: {}, say=said.append
    )
    shipper.start()
    assert shipper.drain(60) == 4
    assert not shipper.is_alive()
    assert len(said) == 1
    assert "away" not in said[0]


NAMES = [
    "it's",
    "both'\"",
    "a/b",
    "../../up",
    "<script>alert(1)</script>",
    "two\nlines",
    "\x1b]0;title\x07",
    "%s %2F ?#",
]


@pytest.mark.slow
def test_no_name_ends_the_sync_of_a_folder(study: Study, store: MLflowStore, folder: Path) -> None:
    study.whole("r4", 0)
    usual = study.invocation("se_ratio", seeds=1, variants=("r4",))
    odd = [replace(usual, ablation=name, question=f"{name}\nSource: {name}", id=f"{usual.id}{name}") for name in NAMES]
    said: list[str] = []
    for expected in ((len(NAMES) + 1, 0), (0, 0)):
        assert sync_invocations(study.runs, [*odd, usual], store, draw=lambda _: {}, say=said.append)[:2] == expected
    assert said == []
    for name in (*NAMES, "se_ratio"):
        assert len(store.find_all(name, role="cell")) == 1
    assert {path.name for path in folder.iterdir() if not path.name.startswith("mlflow.db")} == {"runs", "mlruns"}
    assert all(path.parent == folder / "mlruns" for path in (folder / "mlruns").iterdir())


def test_a_name_of_quotes_finds_its_run_again(store: MLflowStore) -> None:
    experiment = store.experiment("it's", {}, print)
    for name in ("it's", "it\"s'", "its"):
        sheet = RunFields(name=name, identity={"role": "cell", "fingerprint": name}, tags={}, params={}, time=1)
        run_id = store.start(experiment, sheet)
        found = store.find(experiment, role="cell", fingerprint=name)
        assert found is not None
        assert found.id == run_id


def test_where_no_artifact_can_be_written_all_metrics_arrive_and_the_files_come_later(
    study: Study, store: MLflowStore, folder: Path
) -> None:
    study.all()
    invocation, said = study.invocation(), list[str]()
    (folder / "mlruns").write_text("no folder")
    assert sync_invocations(study.runs, [invocation], store, draw=lambda _: {}, say=said.append)[:2] == (4, 4)
    assert len(said) == 1
    assert "takes no files (" in said[0]
    assert "away" not in said[0]
    client = store._client
    runs = [client.get_run(found.id) for found in store.find_all("se_ratio", role="cell")]
    assert all("test/acc" in each.data.metrics and each.info.status == "FINISHED" for each in runs)
    (folder / "mlruns").unlink()
    assert sync_invocations(study.runs, [invocation], store, draw=lambda _: {}, say=said.append)[:2] == (4, 0)
    assert "result.json" in {item.path for item in client.list_artifacts(runs[0].info.run_id)}
    assert sync_invocations(study.runs, [invocation], store, draw=lambda _: {}, say=said.append)[:2] == (0, 0)


def test_one_call_that_is_refused_is_no_refusal_of_the_store(store: MLflowStore) -> None:
    with pytest.raises(CallRefused):
        store.end("f" * 32, "FINISHED", 1)
    assert store.shown() == []


DAMAGES = {
    "a page of zeros": lambda path: _overwrite(path, bytes(4096 * 20)),
    "another version of MLflow": lambda path: _execute(path, "update alembic_version set version_num = 'ffffffffffff'"),
    "no tables": lambda path: _execute(path, "drop table experiments"),
}


def _overwrite(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(content)


def _execute(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_one_line(
    study: Study,
    store: MLflowStore,
    folder: Path,
    damage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.experiment("se_ratio", {}, print)
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    path = folder / "damaged" / "mlflow.db"  # MLflow keeps what it has read of a database that it has open
    path.parent.mkdir()
    shutil.copy(folder / "mlflow.db", path)
    DAMAGES[damage](path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    study.all()
    study.invocation()
    assert run(["sync"]) in {1, 2}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert "mlflow.db" in lines[0]
    assert "Traceback" not in lines[0]


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("localhost:5000", "'http://localhost:5000'"),
        ("127.0.0.1:5055", "did you mean 'http://127.0.0.1:5055'?"),
        ("127.0.0.1:5055/mlflow", "'http://127.0.0.1:5055/mlflow'"),
        ("//127.0.0.1:5055", "'http://127.0.0.1:5055'"),
        ("[::1]:5055", "'http://[::1]:5055'"),
        ("mlflow_server:5000", "'http://mlflow_server:5000'"),
        ("me@127.0.0.1:5055", "'http://***@127.0.0.1:5055'"),
        ("postgres://alice:s3cretPW@h/db", "'postgresql'"),
        ("sqlite:x.db", "sqlite:///x.db"),
        ("sqlite://x.db", "sqlite:///x.db"),
        ("htp://joe:s3cretPW@h", "'http'"),
        ("foo://bar", "http, https, sqlite"),
        ("http://[::1", "not an address"),
        ("http://h:99999", "not an address"),
        ("postgresql://joe:s3cretPW/x@h/db", "typed %2F"),
        ("http://", "http://localhost:5000"),
        ("joe:s3cretPW@host:5000", "names no scheme"),
        ("sqlite:///:memory:", "lost with the process"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused_with_the_nearest_right_form(address: str, hint: str) -> None:
    with pytest.raises(TrackingError) as refusal:
        require_usable(address)
    assert hint in str(refusal.value)
    assert "s3cretPW" not in str(refusal.value)


def test_a_driver_that_is_missing_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_lab.mlflow_sync.uri.find_spec", lambda _: None)
    with pytest.raises(TrackingError, match=r"psycopg is not installed; `pip install 'cifar-lab\[postgres\]'`"):
        require_usable("postgresql+psycopg://h/db")


@pytest.mark.parametrize("name", ["feature%2Fse", "what?"])
def test_a_folder_of_any_name_has_its_database_in_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    uri = resolve_uri()
    require_usable(uri)
    store = MLflowStore.open(uri)
    experiment = store.experiment("se_ratio", {}, print)
    assert (tmp_path / name / "mlflow.db").exists()
    assert store._client.get_experiment(experiment).name == "se_ratio"
    assert [path.parent.name for path in tmp_path.rglob("mlflow.db")] == [name]


def test_runs_of_an_older_mlflow_are_named_as_the_cause_with_the_ways_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mlruns" / "0").mkdir(parents=True)
    (folder / "mlruns" / "0" / "meta.yaml").touch()
    with pytest.raises(TrackingError) as refusal:
        require_usable(resolve_uri())
    for words in (
        "./mlruns holds runs of an older MLflow",
        "migrate-filestore",
        "MLFLOW_ALLOW_FILE_STORE",
        "--offline",
    ):
        assert words in str(refusal.value)
    assert "MLFLOW_TRACKING_URI=file" not in str(refusal.value)
