"""Real MLflow servers, on SQLite and on PostgreSQL, and a proxy before one that can be told to misbehave."""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from faults.table.lab import Material, kill_group, wait_until
from faults.table.undisturbed import copy_store

Mood = Literal["well", "500", "html", "late", "lost"]
PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Server:
    """An MLflow server that can be stopped, continued, killed and started again."""

    folder: Path
    database: str
    """Address of its database: SQLAlchemy's, without a password."""
    variables: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait for its first answer."""
        line = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        environment = {**self.variables, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                line, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self.answers, "the server to answer")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=4) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            kill_group(self.process)


@contextmanager
def sqlite_server(folder: Path, material: Material) -> Iterator[Server]:
    """Start a server on a SQLite file."""
    folder.mkdir()
    database = copy_store(material, folder / "server.db")
    yield from _running(Server(folder, f"sqlite:///{database}", material.environment()))


@contextmanager
def postgresql_server(folder: Path, material: Material) -> Iterator[Server]:
    """Start PostgreSQL, and a server on it."""
    folder.mkdir()
    with postgresql() as address:
        yield from _running(Server(folder, address, material.environment()))


def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


def postgresql_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; distributions keep most of them off the PATH."""
    path = shutil.which("initdb")
    folders = [Path(path).parent] if path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def other_user() -> dict[str, Any] | None:
    """Return who runs PostgreSQL, which refuses root; None where there is nobody else."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return None


@contextmanager
def postgresql() -> Iterator[str]:
    """Run PostgreSQL on a free port with a database `mlflow`; its address for SQLAlchemy."""
    import psycopg

    programs, user = postgresql_programs(), other_user()
    assert programs is not None
    assert user is not None
    with tempfile.TemporaryDirectory(prefix="cifar-lab-faults-") as name:  # a socket's path must be short
        if user:
            os.chown(name, user["user"], user["group"])
        how: dict[str, Any] = {"cwd": name, "env": {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": name}, **user}
        initdb = ["initdb", "--pgdata=data", "--username=lab", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run([programs / initdb[0], *initdb[1:], "--locale=C"], check=True, capture_output=True, **how)
        port = free_port()
        line = [str(programs / "postgres"), "-D", "data", "-p", str(port), "-k", name, "-F"]
        with (Path(name) / "log").open("wb") as log:
            process = subprocess.Popen(
                [*line, "-c", "listen_addresses=127.0.0.1"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **how,
            )  # fmt: skip

        def is_made() -> bool:
            assert process.poll() is None, (Path(name) / "log").read_text()
            try:
                with psycopg.connect(f"host=127.0.0.1 port={port} user=lab dbname=postgres", autocommit=True) as made:
                    made.execute("CREATE DATABASE mlflow")
            except psycopg.OperationalError:
                return False
            return True

        try:
            wait_until(is_made, "PostgreSQL")
            yield f"postgresql+psycopg://lab@127.0.0.1:{port}/mlflow"
        finally:
            kill_group(process)


class Proxy(ThreadingHTTPServer):
    """A server before another one, which it asks as long as it is well."""

    daemon_threads = True

    def __init__(self, port: int, seconds: float) -> None:
        """`seconds`: how long an answer is held back where it is late."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.seconds = port, seconds
        self.mood: Mood = "well"
        self.misbehaved = 0
        """Requests that were not answered as they should."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Pass over connections that the other side has closed."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mood = self.server.mood
        self.server.misbehaved += mood != "well"
        if mood == "500":
            self._send(500, "text/plain", b"Internal Server Error")
        elif mood == "html":
            self._send(200, "text/html", PAGE)
        else:
            if mood == "late":
                time.sleep(self.server.seconds)
            status, kind, content = self._ask(body)
            if mood == "lost":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._send(status, kind, content)

    def _ask(self, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=120)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection", "accept-encoding"}}
        try:
            connection.request(self.command, self.path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.getheader("Content-Type") or "application/octet-stream", reply.read()
        finally:
            connection.close()

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (names that http.server asks for)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
