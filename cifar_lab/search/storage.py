"""Where a study is kept: a journal file on one machine, PostgreSQL across hosts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend

from cifar_lab.errors import UsageError
from cifar_lab.tracking.uri import redacted

__all__ = ["BaseStorage", "beat", "has_heartbeat", "open_existing", "open_storage", "quiet", "retry_lost"]

HEARTBEAT, GRACE = 20, 90
"""Seconds between two signs of life of a trial on a database, and without one before it is taken for lost."""
TRIES = 3
"""Times that a trial which was lost is begun anew."""


def quiet() -> None:
    """Optuna says what the display says already."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message=".*[Hh]eartbeat", category=UserWarning)


def open_storage(url: str | None, runs: Path) -> BaseStorage:
    """The storage at `url`: a database's, or the path of a journal file; none: a journal file in `runs`.

    Raises:
        UsageError: it cannot be reached or written.
    """
    if url is not None and "://" in url:
        return _open_database(url)
    path = Path(url) if url is not None else runs / "studies.journal"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise UsageError(f"--storage {path}: {error.strerror or error}") from error


def open_existing(url: str | None, runs: Path) -> BaseStorage:
    """`open_storage` that makes no journal file where there is none.

    Raises:
        UsageError: there is none, or it cannot be reached.
    """
    path = Path(url) if url is not None else runs / "studies.journal"
    if (url is None or "://" not in url) and not path.exists():
        raise UsageError(f"no study: {path} is not there; `cifar-lab sweep` makes one, --storage names another")
    return open_storage(url, runs)


def _open_database(url: str) -> BaseStorage:
    try:
        return RDBStorage(
            url,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=TRIES),
        )
    except Exception as error:
        raise UsageError(f"--storage {redacted(url)}: {_why(error, url)}") from error


def _why(error: BaseException, url: str) -> str:
    """One line, without the password: drivers repeat what they were given."""
    text = str(error.__cause__ or error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    return line.replace(url, redacted(url))


def has_heartbeat(storage: BaseStorage) -> bool:
    """Whether a trial that its process has left is found out by the storage itself."""
    return isinstance(_backend(storage), RDBStorage)


def beat(storage: BaseStorage, trials: list[Any]) -> None:
    """Say that `trials` are alive."""
    backend = _backend(storage)
    if isinstance(backend, RDBStorage):
        for trial in trials:
            backend.record_heartbeat(trial._trial_id)


def retry_lost(study: optuna.Study) -> None:
    """Fail the trials whose heartbeat stopped; each is asked for again with the same parameters."""
    if has_heartbeat(study._storage):
        optuna.storages.fail_stale_trials(study)


def _backend(storage: BaseStorage) -> BaseStorage:
    """Optuna wraps a database in a cache."""
    return getattr(storage, "_backend", storage)
