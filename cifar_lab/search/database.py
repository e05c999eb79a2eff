"""Databases of studies, which are waited for while a search runs and their server is away."""

from __future__ import annotations

import functools
import inspect
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from cifar_lab.errors import CellError, CifarLabError, Interrupted, first_line
from cifar_lab.execution.stop_signals import noticed_signals
from cifar_lab.redaction import redacted
from cifar_lab.text import duration

PATIENCE, PAUSE = 900.0, 1.0
"""Seconds to wait for a database that is away, and between two attempts."""
GOES_ON = "the same command goes on from what is saved"
Say = Callable[[str], None]


class Database(RDBStorage):
    """Optuna's storage in a database; once `be_patient` was called, one that is away is waited for.

    Every method of Optuna's storage is tried again after an error of the connection, for `PATIENCE` seconds at most.
    A file of SQLite has no connection to lose.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        """Open the database; the arguments are Optuna's."""
        self.returned = -math.inf
        """Time on the monotonic clock at which the database was last away."""
        self._say: Say | None = None
        self._is_away, self._given_up = False, threading.Event()
        self._end: CifarLabError | None = None
        super().__init__(url, **settings)

    def be_patient(self, say: Say) -> None:
        """Wait from now on while the database is away; `say` is called as that begins and ends."""
        self._say = say if self.engine.dialect.name != "sqlite" else None

    def insist(self, act: Callable[[bool], Any]) -> Any:
        """Return what `act` does, called with whether it is called again; errors of the connection are waited out.

        Raises:
            CellError: the database was away for `PATIENCE` seconds.
            Interrupted: a signal to stop was received meanwhile.
        """
        end = math.inf
        while True:
            try:
                answer = act(end < math.inf)
            except (SQLAlchemyError, StorageInternalError) as error:
                if self._say is None or not is_away(error):
                    raise
                end = min(end, time.monotonic() + PATIENCE)
                self._wait(f"--storage {redacted(self.url)}: {why(error, self.url)}", end, self._say)
            else:
                if self._is_away and self._say is not None:
                    self._is_away, self.returned = False, time.monotonic()
                    self._say(f"--storage {redacted(self.url)}: it answers again")
                return answer

    def _wait(self, line: str, end: float, say: Say) -> None:
        if not self._is_away and self._end is None:
            self._is_away = True
            say(f"{line}; it is waited for, {duration(PATIENCE)} at most, while running cells go on")
        with noticed_signals() as was_signalled:
            self._given_up.wait(PAUSE)  # by this thread or another, such as that of an upload
            if self._end is None and was_signalled():
                self._end = Interrupted(f"{line}; not waited for any longer: {GOES_ON}")
        if self._end is None and time.monotonic() > end:
            self._end = CellError(f"{line}; it was away for {duration(PATIENCE)}: {GOES_ON}")
        if self._end is not None:
            self._given_up.set()
            raise self._end


def _insistent(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of Optuna's storage that waits for the database."""

    @functools.wraps(method)
    def call(self: Database, *arguments: Any, **named: Any) -> Any:
        def act(is_again: bool) -> Any:
            try:
                return method(self, *arguments, **named)
            except UpdateFinishedTrialError:
                if is_again and name == "set_trial_state_values":  # the answer of the first attempt was lost
                    return True
                raise

        return self.insist(act)

    return call


for _name, _method in vars(RDBStorage).items():
    if inspect.isfunction(_method) and not _name.startswith("__"):
        setattr(Database, _name, _insistent(_name, _method))


def is_away(error: Exception) -> bool:
    """Tell whether an error of a database, or of Optuna about one, is of the connection and not of what was asked."""
    cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
    # The last of these follows where Optuna has caught the first, to ask in another way.
    return isinstance(cause, OperationalError | InterfaceError | PendingRollbackError)


def why(error: BaseException, url: str) -> str:
    """Return one line without the password: drivers repeat the address that they were given."""
    line = first_line(error.__cause__ or error) or type(error).__name__
    return redacted(line.replace(url, redacted(url)) if url else line)
