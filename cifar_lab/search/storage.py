"""Storage of studies: a journal file on one machine, PostgreSQL across hosts."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage as BaseStorage
from optuna.storages import JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.exc import SQLAlchemyError

from cifar_lab.errors import CifarLabError, TrackingError, UsageError
from cifar_lab.mlflow_sync.uri import sqlite_path
from cifar_lab.redaction import redacted
from cifar_lab.search.database import Database, why
from cifar_lab.search.journal_file import JournalFile, Say
from cifar_lab.search.study_name import require_storage
from cifar_lab.store.runs_folder import STUDIES

_log = logging.getLogger(__name__)
HEARTBEAT, GRACE = 20, 90
"""Seconds between two heartbeats of a trial in a database, and without one before it counts as lost."""
TRIES = 3
"""Maximum number of retries of a lost trial."""
CREATIONS, CREATION_PAUSE = 6, 0.5
"""Attempts to open a database whose tables another process is creating, and seconds between two."""
CREATED_BY_ANOTHER = re.compile(r"already exists|duplicate key|UNIQUE constraint|database is locked", re.IGNORECASE)
"""Errors of databases where two processes create the same tables at once; Optuna asks first and then creates."""


def quiet() -> None:
    """Silence Optuna's log, whose content the display shows already."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger(RDBStorage.__module__).setLevel(logging.ERROR)  # it repeats statements that failed
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message=".*[Hh]eartbeat", category=UserWarning)


def open_storage(url: str | None, runs: Path, say: Say = lambda _: None, *, only_reads: bool = False) -> BaseStorage:
    """Open the storage at `url`: a database, or the path of a journal file; None: a journal file in `runs`.

    A journal file is created with its first line, not here. `say` is called when one is repaired, and with `only_reads`
    if its last line is incomplete.

    Raises:
        UsageError: it is unreachable, not writable, or damaged.
    """
    require_storage(url)
    if url is not None and "://" in url:
        return _open_database(url)
    return _open_journal(_path(url, runs), runs, say, only_reads)


def open_existing(url: str | None, runs: Path) -> BaseStorage:
    """Open an existing storage for reading; unlike `open_storage`, a missing journal file is an error.

    Raises:
        UsageError: it is missing, unreachable, or damaged.
    """
    require_storage(url)
    database = sqlite_path(url) if url is not None else None
    if url is None or "://" not in url or database is not None:
        path = database or _path(url, runs)
        with _reading(path):
            path.stat()
    return open_storage(url, runs, _log.warning, only_reads=True)


@contextmanager
def reaching(url: str | None) -> Iterator[None]:
    """Convert errors of an unavailable or damaged database to one line, without its password.

    Raises:
        TrackingError: the database did not execute a call.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        where = redacted(url) if url is not None else "the study's storage"
        raise TrackingError(f"--storage {where}: {why(error, url or '')}") from error


def _path(url: str | None, runs: Path) -> Path:
    return Path(url).expanduser() if url is not None else runs / STUDIES


def _open_journal(path: Path, runs: Path, say: Say, only_reads: bool) -> BaseStorage:
    backend = JournalFile(path, say, only_reads=only_reads)
    with _reading(path, is_needed=False):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(f"--storage {path}: a device or a pipe; a journal file is wanted")
        if path.is_dir():
            raise UsageError(f"--storage {path}: a folder; a journal file is wanted, {path / STUDIES}")
        if path.exists() and not path.stat().st_size and any((runs / "invocations").glob("*-sweep.*.json")):
            raise UsageError(
                f"{path}: emptied: {runs / 'invocations'} has notes of studies; bring back a copy, or move the file "
                "away: a new study does not train finished cells again"
            )
    try:
        return JournalStorage(backend)
    except CifarLabError:
        raise
    except Exception as error:  # Optuna's error on an operation that is complete and cannot be executed
        raise backend.damage(f"{type(error).__name__}: {error}"[:200]) from error


@contextmanager
def _reading(path: Path, *, is_needed: bool = True) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if is_needed:
            line = f"no study: {path} is not there; `cifar-lab sweep` makes one, --storage names another"
            raise UsageError(line) from error
    except OSError as error:
        raise UsageError(f"--storage {path}: {error.strerror or error}") from error


def _open_database(url: str) -> BaseStorage:
    if url.partition("://")[0].lower() in {"http", "https", "file", "redis"}:
        raise UsageError(
            f"--storage {redacted(url)}: takes a database's URL, postgresql+psycopg://user@host/name or "
            "sqlite:///studies.db, or the path of a journal file"
        )
    for left in reversed(range(CREATIONS)):
        try:
            return Database(
                url,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=TRIES),
            )
        except Exception as error:
            if not left or not CREATED_BY_ANOTHER.search(str(error.__cause__ or error)):
                raise UsageError(f"--storage {redacted(url)}: {why(error, url)}") from error
            time.sleep(CREATION_PAUSE)
    raise AssertionError("the last attempt returns or raises")


def has_heartbeat(storage: BaseStorage) -> bool:
    """Tell whether the storage itself detects trials whose process has ended."""
    return isinstance(_backend(storage), RDBStorage)


def beat(storage: BaseStorage, trials: list[Any]) -> None:
    """Record a heartbeat of `trials`."""
    backend = _backend(storage)
    if isinstance(backend, RDBStorage):
        for trial in trials:
            backend.record_heartbeat(trial._trial_id)


def be_patient(storage: BaseStorage, say: Say) -> None:
    """Wait from now on for a database that is away, instead of ending at once."""
    backend = _backend(storage)
    if isinstance(backend, Database):
        backend.be_patient(say)


def retry_lost(study: optuna.Study) -> None:
    """Fail the trials whose heartbeat stopped; each is enqueued again with the same parameters.

    Not so shortly after the database was away, when other runners have not recorded theirs again.
    """
    backend = _backend(study._storage)
    was_away = isinstance(backend, Database) and time.monotonic() - backend.returned < GRACE
    if has_heartbeat(study._storage) and not was_away:
        optuna.storages.fail_stale_trials(study)


def _backend(storage: BaseStorage) -> BaseStorage:
    """Return the backend, without the cache that Optuna wraps around a database."""
    return getattr(storage, "_backend", storage)
