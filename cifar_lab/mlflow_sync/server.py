"""Run a minimal MLflow server: one worker, no job runners, no telemetry; by default only for this machine."""

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
"""Seconds until a server that does not answer counts as broken; it usually takes 6 to 9."""
GRACE = 5.0
"""Seconds allowed for a clean shutdown."""


@dataclass(frozen=True)
class Server:
    """Running server at `address`, such as `http://127.0.0.1:5000`."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> int:
        """Wait for the server to end, which it does not do by itself; return its exit code."""
        return self.process.wait()

    def last_words(self) -> str:
        """Return the last non-empty line of its log, without secrets."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return printable(redacted(lines[-1].strip())) if lines else "its log is empty"


def address_of(uri: str) -> str | None:
    """Return the address of the server in `uri` without credentials; None for a store without a server."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def require_free(port: int) -> None:
    """Check that no other program listens on the port.

    Raises:
        TrackingError: the port is in use; the message names the next free one.
    """
    if not _is_free(port):
        free = next((other for other in range(port + 1, min(port + 1000, 65536)) if _is_free(other)), None)
        hint = f"; {free} is free: --port {free}" if free is not None else ""
        raise TrackingError(f"--port {port} is taken on {HOST}{hint}")


@contextmanager
def serve(uri: str, port: int, host: str = HOST) -> Iterator[Server]:
    """Serve the store `uri` while the block runs, once it answers; its log goes to a file.

    `host`: the local address that the server listens on.

    Raises:
        TrackingError: it ended, or did not answer in time; the message has the last line of its log.
    """
    handle, name = tempfile.mkstemp(prefix="cifar-lab-ui-", suffix=".log")
    server = Server(f"http://{reached_at(host)}:{port}", _start(uri, port, handle, host), Path(name))
    try:
        _await(server)
        yield server
    finally:
        _end(server.process)
        if not server.process.returncode or server.process.returncode == -signal.SIGTERM:
            server.log.unlink(missing_ok=True)  # it ended as requested, so its log is not needed


def reached_at(host: str) -> str:
    """Return the host name by which this machine reaches a server that listens on `host`."""
    return HOST if host in {"0.0.0.0", "::", ""} else f"[{host}]" if ":" in host else host


def warning_of(host: str) -> str | None:
    """Return a warning about who can reach a server on `host`; None for an address of this machine only."""
    if host in {HOST, "localhost", "::1"}:
        return None
    return (
        f"--host {host}: whoever reaches this machine can read, change and delete these runs; MLflow asks nobody for a "
        "password. Within reach of strangers, keep 127.0.0.1 and use `ssh -L`, or a proxy that asks"
    )


def _start(uri: str, port: int, log: int, host: str = HOST) -> subprocess.Popen[bytes]:
    """Start the server in its own session, so that it ends with its child processes and only on our request.

    The address is passed in the environment: it may hold a password, and command lines are visible to all users.
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
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # proxies cannot reach this machine's server
    with suppress(OSError), direct.open(f"{address}/health", timeout=2) as reply:
        return bool(reply.status == 200)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            return


def _is_free(port: int) -> bool:
    """Tell whether nobody listens on the port; a port that a server has just left counts as free."""
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
