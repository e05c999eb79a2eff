"""Addresses that lead to devices, servers that drip, and limits of the machine: one line within seconds."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_lab import cli
from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.mlflow_sync import connection
from cifar_lab.mlflow_sync.uri import require_usable
from cifar_lab.search.storage import open_existing, open_storage


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_is_no_database(pipe: Path) -> None:
    with pytest.raises(TrackingError, match="a device or a pipe, not a database"):
        require_usable(f"sqlite:///{pipe}")
    assert pipe.is_fifo()
    assert [path.name for path in pipe.parent.iterdir()] == ["pipe"]


def test_a_pipe_is_no_journal_of_studies(pipe: Path) -> None:
    with pytest.raises(UsageError, match="a device or a pipe"):
        open_storage(str(pipe), pipe.parent)


def test_reading_a_database_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no study: .*nowhere\.db is not there"):
        open_existing(f"sqlite:///{tmp_path}/nowhere.db", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_with_a_control_character_is_refused_and_not_repeated() -> None:
    with pytest.raises(TrackingError, match="control character") as caught:
        require_usable("http://u:se\ncret@127.0.0.1:9/")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile"])
@pytest.mark.parametrize("has_host", [True, False])
def test_databricks_is_taken_if_mlflow_can_find_its_configuration(
    uri: str, has_host: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lab.mlflow_sync.uri.find_spec", lambda _: None)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("DATABRICKS_HOST", "https://h" if has_host else "")
    if has_host:
        require_usable(uri)
    else:
        with pytest.raises(TrackingError, match="`pip install databricks-sdk` brings it"):
            require_usable(uri)


@pytest.mark.parametrize("uri", ["databricks-uc", "uc", "uc:http://localhost:8080"])
def test_a_registry_of_models_is_no_store_of_runs(uri: str) -> None:
    with pytest.raises(TrackingError, match="a registry of models, which keeps no runs"):
        require_usable(uri)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="has no /proc")
def test_a_database_where_nobody_can_create_files_is_refused() -> None:
    with pytest.raises(TrackingError, match=r"proc/x\.db: (no file can be created in /proc|/proc cannot be)"):
        require_usable("sqlite:////proc/x.db")


@pytest.fixture
def dripping() -> Iterator[int]:
    """The port of a server that sends its headers and then a byte twice a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                for _ in range(40):
                    time.sleep(0.5)
                    try:
                        client.sendall(b" ")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.slow
def test_a_server_that_answers_a_byte_at_a_time_is_given_up(dripping: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ASKING", 1)
    with pytest.raises(TimeoutError, match="no whole answer in 2 s"):
        connection.probe(f"http://127.0.0.1:{dripping}")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; a limit of this machine"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x: Permission denied"),
        (ImportError("libtorch_cpu.so: failed to map segment"), "a library cannot be loaded: libtorch_cpu.so"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises(**_: object) -> None:
        raise error

    monkeypatch.setattr("cifar_lab.cli.app.app", raises)
    assert cli.run(["list"]) == 1
    assert line in capsys.readouterr().err


def test_a_machine_without_shared_memory_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises(**_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")  # as a semaphore does, without a name

    monkeypatch.setattr("cifar_lab.cli.app.app", raises)
    monkeypatch.setattr(cli, "SHARED_MEMORY", tmp_path / "shm")
    assert cli.run(["list"]) == 1
    assert f"{tmp_path / 'shm'}, which processes share memory in, is not mounted" in capsys.readouterr().err
