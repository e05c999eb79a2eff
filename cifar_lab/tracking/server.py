"""Run MLflow's own server, lean: one worker, no job runners, no telemetry, for this machine unless told otherwise."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cifar_lab.errors import TrackingError
from cifar_lab.redaction import redacted
from cifar_lab.text import printable

HOST = "127.0.0.1"
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
PATIENCE = 120.0
"""Seconds until a server that does not answer counts as broken; 6 to 9 are usual."""
GRACE = 5.0
"""Seconds that it has to end by itself."""


@dataclass(frozen=True)
class Server:
    """A server that answers at `address`, `http://127.0.0.1:5000`."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> int:
        """Wait for it to end, which it does not by itself; its exit code."""
        return self.process.wait()

    def last_words(self) -> str:
        """Return the last line of its log that has words, without secrets."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return printable(redacted(lines[-1].strip())) if lines else "its log is empty"


def address_of(uri: str) -> str | None:
    """The address of the server that `uri` names, fit to be shown; none for a store without a server."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def require_free(port: int) -> None:
    """Refuse a port that another program listens on.

    Raises:
        TrackingError: it names the next free one.
    """
    if not _is_free(port):
        free = next((other for other in range(port + 1, min(port + 1000, 65536)) if _is_free(other)), None)
        hint = f"; {free} is free: --port {free}" if free is not None else ""
        raise TrackingError(f"--port {port} is taken on {HOST}{hint}")


@contextmanager
def serve(uri: str, port: int, host: str = HOST) -> Iterator[Server]:
    """Serve the store `uri` from its first answer on; the server ends with the block, and writes its log into a file.

    `host`: the address of this machine that the server listens on.

    Raises:
        TrackingError: it ended, or did not answer in time; with its last words.
    """
    handle, name = tempfile.mkstemp(prefix="cifar-lab-ui-", suffix=".log")
    server = Server(f"http://{reached_at(host)}:{port}", _start(uri, port, handle, host), Path(name))
    try:
        _await(server)
        yield server
    finally:
        _end(server.process)
        if not server.process.returncode or server.process.returncode == -signal.SIGTERM:
            server.log.unlink(missing_ok=True)  # it ended as it was told, and nobody will ask


def reached_at(host: str) -> str:
    """Return the name by which this machine reaches a server that listens on `host`."""
    return HOST if host in {"0.0.0.0", "::", ""} else f"[{host}]" if ":" in host else host


def warning_of(host: str) -> str | None:
    """Return what listening on `host` means for others; None for an address of this machine alone."""
    if host in {HOST, "localhost", "::1"}:
        return None
    return (
        f"--host {host}: whoever reaches this machine can read, change and delete these runs; MLflow asks nobody for a "
        "password. Within reach of strangers, keep 127.0.0.1 and use `ssh -L`, or a proxy that asks"
    )


def _start(uri: str, port: int, log: int, host: str = HOST) -> subprocess.Popen[bytes]:
    """In a session of its own, so that it can be ended with the processes that it starts, and by us only.

    A database's address may hold a password, and a command line is shown to every user of the machine.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    try:
        return subprocess.Popen(
            command, env={**os.environ, **ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": uri}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)


def _await(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _answers(server.address):
        if server.process.poll() is not None:
            raise TrackingError(f"the MLflow server ended: {server.last_words()} (all of it: {server.log})")
        if time.monotonic() > deadline:
            raise TrackingError(f"the MLflow server does not answer: {server.last_words()} (all of it: {server.log})")
        time.sleep(0.1)


def _answers(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows of this machine's own server
    with suppress(OSError), direct.open(f"{address}/health", timeout=2) as reply:
        return bool(reply.status == 200)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            return


def _is_free(port: int) -> bool:
    """Whether nobody listens there; a port that a server has just left counts as free."""
    with socket.socket() as caller:
        if caller.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True
