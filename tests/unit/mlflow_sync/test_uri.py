"""Addresses: a password in one is used, and neither shown nor written down."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.mlflow_sync import server
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import upload_error_line
from cifar_lab.mlflow_sync.server_errors import StoreUnavailable
from cifar_lab.mlflow_sync.uri import without_credentials
from cifar_lab.redaction import redacted
from cifar_lab.store.invocation_index import read_index

USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


@pytest.fixture(autouse=True)
def _own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the credentials that a test puts into the environment."""
    for name in (USER, PASSWORD):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:secret@host/db", "postgresql://user:***@host/db"),
        ("postgresql+psycopg://user:secret@host:5432/db", "postgresql+psycopg://user:***@host:5432/db"),
        ("https://host:5000/path", "https://host:5000/path"),
        ("https://u:s/e@c@host", "https://u:***@host"),
        ("https://:secret@host", "https://:***@host"),
        ("postgresql://host/db?password=secret&x=1", "postgresql://host/db?password=***&x=1"),
        ("postgresql://host/db?sslpassword=secret&x=1", "postgresql://host/db?sslpassword=***&x=1"),
        ("https://host/?access_token=secret", "https://host/?access_token=***"),
        ("cannot open 'https://host/?token=secret', again", "cannot open 'https://host/?token=***', again"),
        ('cannot open "https://host/?token=secret"', 'cannot open "https://host/?token=***"'),
        ("host=h password=se'cret", "host=h password=***"),
        ("host=db password='two words' user=me", "host=db password=*** user=me"),
        ("host=db PASSWORD=it's user=me", "host=db PASSWORD=*** user=me"),
        ("'postgresql://u:secret@h/db' --study wide", "'postgresql://u:***@h/db' --study wide"),
        ("http://u:secret@h, then http://v:other@k", "http://u:***@h, then http://v:***@k"),
        ("http://localhost:5000 is away; ask me@host.org", "http://localhost:5000 is away; ask me@host.org"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    ("uri", "address", "credentials"),
    [
        ("https://me:se%40cret@host:5000/mlflow", "https://host:5000/mlflow", ("me", "se@cret")),
        ("http://me:secret@[::1]:5000", "http://[::1]:5000", ("me", "secret")),
        ("http://host:5000", "http://host:5000", None),
        ("http://me@host", "http://me@host", None),
        ("postgresql://me:secret@host/db", "postgresql://me:secret@host/db", None),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db", None),
    ],
)
def test_mlflow_is_given_the_address_of_a_server_and_its_password_apart(
    uri: str, address: str, credentials: tuple[str, str] | None
) -> None:
    named = dict(zip((USER, PASSWORD), credentials, strict=True)) if credentials else {}
    assert without_credentials(uri) == (address, named)


@pytest.fixture
def guarded() -> Iterator[tuple[str, list[str]]]:
    """A server that answers nobody but `me` with the password `se@cret`; its port, and who called."""
    callers: list[str] = []
    known = "Basic " + base64.b64encode(b"me:se@cret").decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            caller = self.headers.get("Authorization", "")
            callers.append(caller)
            content = json.dumps({"experiments": []}).encode()
            self.send_response(200 if caller == known else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{made.server_port}", callers
        made.shutdown()


def test_the_password_reaches_the_server(guarded: tuple[str, list[str]]) -> None:
    host, callers = guarded
    assert MLflowStore.open(f"http://me:se%40cret@{host}").shown() == []
    assert callers
    assert os.environ[USER] == "me"


def test_not_even_a_traceback_shows_it() -> None:
    uri = "http://me:secret@127.0.0.1:9"  # on a line that no traceback quotes
    with pytest.raises(StoreUnavailable) as away:
        MLflowStore.open(uri).shown()
    assert "http://me:***@127.0.0.1:9" in str(away.value)
    assert "secret" not in "".join(traceback.format_exception(away.value))


def test_a_shipment_that_breaks_does_not_tell() -> None:
    said = upload_error_line(ValueError("no such thing at http://me:secret@host/x\nmore"))
    assert said == "ValueError: no such thing at http://me:***@host/x"


def test_a_command_is_written_down_without_it(study: Any) -> None:
    invocation = study.invocation()
    typed = "cifar-lab sweep --study wide --storage postgresql+psycopg://me:secret@host/optuna"
    replace(invocation, command=typed).write(study.runs)
    (note,) = (study.runs / "invocations").glob("*.json")
    assert "secret" not in note.read_text()
    assert read_index(study.runs).invocations[0].command == typed.replace("secret", "***")


def test_a_server_is_told_of_its_store_where_others_cannot_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line is shown to every user of a machine, an environment to its owner alone."""
    told: dict[str, Any] = {}

    def popen(command: list[str], **how: Any) -> None:
        told.update(how, command=command)

    monkeypatch.setattr(subprocess, "Popen", popen)
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    server._start("postgresql://me:secret@host/mlflow", 5000, log)
    assert "secret" not in " ".join(told["command"])
    assert told["command"][:4] == [sys.executable, "-m", "mlflow", "server"]
    assert told["env"]["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:secret@host/mlflow"


def test_the_last_words_of_a_server_do_not_tell(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("starting\ncannot reach postgresql://me:secret@host/mlflow\n\n")
    words = server.Server("http://127.0.0.1:5000", None, log).last_words()  # type: ignore[arg-type]
    assert words == "cannot reach postgresql://me:***@host/mlflow"
