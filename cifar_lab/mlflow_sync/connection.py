"""Connection to a tracking store: MLflow's settings, an availability check within seconds, and new SQLite databases."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from cifar_lab import process_settings
from cifar_lab.mlflow_sync import server_errors
from cifar_lab.mlflow_sync.uri import sqlite_uri, without_credentials

ASKING = 5
"""Seconds within which a server or a database must answer the availability check."""
LONGEST_MAKING = 120
"""Seconds allowed to another process for creating a database."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the shipper retries by itself; seven retries take minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDERR": "true",
}


def probe(uri: str) -> None:
    """Check once that a server or a database is available. MLflow itself would retry for minutes.

    Raises:
        StoreUnavailable: it does not answer within `ASKING` seconds, or is unavailable now.
        StoreRefuses: it answers, but not as a usable store.
    """
    scheme = urlsplit(uri).scheme
    if scheme in {"http", "https"}:
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        answer = _within(
            _seconds_to_ask() + 1,
            lambda: http_request(
                get_default_host_creds(without_credentials(uri)[0]),
                "/api/2.0/mlflow/experiments/search",
                "POST",
                json={"max_results": 1},
                timeout=_seconds_to_ask(),
                max_retries=0,
                raise_on_status=False,
            ),
        )
        refusal = server_errors.answered(answer.status_code, answer.text, uri)
        if refusal is not None:
            raise refusal
    elif scheme.split("+")[0] in {"postgresql", "mysql", "mssql"}:
        import sqlalchemy

        process_settings.set_default_variables({"PGCONNECT_TIMEOUT": str(ASKING)})
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
        engine.connect().close()


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return the result of `call`. A request's timeout limits only each read, and a server may send a byte per second.

    Raises:
        TimeoutError: it did not return in time; it continues in a thread that nobody waits for.
    """
    ended: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((True, call()))
        except Exception as error:  # noqa: BLE001 (it is raised again where it is waited for)
            ended.put((False, error))

    threading.Thread(target=run, name="asking", daemon=True).start()
    try:
        is_answer, value = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no whole answer in {seconds:g} s") from None
    if not is_answer:
        raise value
    return value


def _seconds_to_ask() -> int:
    """Return `ASKING`, or the timeout set by MLflow's own variable for a slow server."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    given = os.environ.get(name, ENVIRONMENT[name])
    return int(given) if given.isdigit() and given != ENVIRONMENT[name] else ASKING


def spare_this_machine_proxies(uri: str) -> None:
    """Exclude this machine's addresses from proxies in the environment."""
    host = urlsplit(uri).hostname
    if host in {"127.0.0.1", "localhost", "::1"}:
        named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if host not in named.split(","):
            both = ",".join(filter(None, [named, host]))
            process_settings.set_variables({"no_proxy": both, "NO_PROXY": both})


def make_sqlite(path: Path, client: Any) -> None:
    """Create an MLflow database that can be read while it is written.

    Two processes that create one database corrupt it permanently, and so does a kill meanwhile: so it is created under
    a lock, under a temporary name beside its final one.
    """
    lock = path.with_name(f"{path.name}.lock")
    lock.touch()  # in a folder that is not writable, the lock would be waited for forever
    with FileLock(lock, timeout=LONGEST_MAKING):
        if not path.exists() or not path.stat().st_size:
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            client(sqlite_uri(partial.absolute()))
            partial.replace(path)
        with sqlite3.connect(path) as connection:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=wal")
        connection.close()
