"""Tests of a database that is away while a search runs: waited for, or given up with one line."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError, PendingRollbackError

from cifar_lab.errors import CellError, Interrupted, TrackingError
from cifar_lab.search import database, storage
from cifar_lab.search.database import Database


class Outage:
    """Errors of the connection for the next statements, instead of their execution."""

    def __init__(self, database: Database) -> None:
        self.left = 0
        self.error: Exception = OperationalError("SELECT 1", None, Exception("terminating connection"))
        sqlalchemy.event.listen(database.engine, "before_cursor_execute", self._fail)

    def _fail(self, *_: object) -> None:
        if self.left:
            self.left -= 1
            raise self.error


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with a study, 'there'; SQLite's file stands for a server."""
    monkeypatch.setattr(database, "PAUSE", 0.0)
    opened = Database(f"sqlite:///{tmp_path / 'studies.db'}")
    optuna.create_study(storage=opened, study_name="there")
    monkeypatch.setattr(opened.engine.dialect, "name", "postgresql")
    return opened


@pytest.mark.parametrize("by_optuna", [True, False])
def test_a_database_that_is_away_during_a_search_is_waited_for(opened: Database, by_optuna: bool) -> None:
    outage, lines = Outage(opened), list[str]()
    storage.be_patient(opened, lines.append)
    outage.left = 3
    if by_optuna:  # through its cache, and with a commit
        optuna.load_study(storage=opened, study_name="there").set_user_attr("name", "value")
    assert opened.get_study_id_from_name("there") == 1
    assert outage.left == 0
    assert ["is waited for, 15 min at most" in line for line in lines] == [True, False]
    assert "terminating connection" in lines[0]
    assert lines[1].endswith("it answers again")


def test_before_a_search_has_begun_it_is_an_error_at_once(opened: Database) -> None:
    outage = Outage(opened)
    outage.left = 1
    with pytest.raises(TrackingError, match="terminating connection") as raised, storage.reaching(opened.url):
        opened.get_study_id_from_name("there")
    assert raised.value.exit_code == 2
    assert outage.left == 0, "it was tried once"


def test_one_that_stays_away_ends_the_search_with_exit_code_1(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    outage = Outage(opened)
    storage.be_patient(opened, lambda _: None)
    outage.left = 10**9
    for _ in range(2):  # the second time at once
        with pytest.raises(CellError, match="the same command goes on from what is saved") as raised:
            opened.get_study_id_from_name("there")
        assert raised.value.exit_code == 1


def test_a_signal_ends_the_waiting_and_reaches_its_handler(opened: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    outage, received = Outage(opened), list[int]()
    outage.left = 10**9
    storage.be_patient(opened, lambda _: None)
    monkeypatch.setattr(database, "PAUSE", 0.2)
    sender = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    sender.start()
    try:
        with pytest.raises(Interrupted, match="the same command goes on") as raised:
            opened.get_study_id_from_name("there")
    finally:
        sender.join()
        signal.signal(signal.SIGTERM, before)
    assert raised.value.exit_code == 130
    assert received


@pytest.mark.parametrize(
    ("error", "is_away"),
    [
        (OperationalError("SELECT 1", None, Exception("connection refused")), True),
        (PendingRollbackError("Can't reconnect until invalid transaction is rolled back."), True),
        (sqlalchemy.exc.ProgrammingError("SELECT 1", None, Exception("no such table")), False),
        (sqlalchemy.exc.DataError("SELECT 1", None, Exception("out of range")), False),
    ],
)
def test_only_errors_of_the_connection_are_waited_out(error: Exception, is_away: bool, opened: Database) -> None:
    outage, lines = Outage(opened), list[str]()
    storage.be_patient(opened, lines.append)
    outage.left, outage.error = 1, error
    if is_away:
        assert opened.get_study_id_from_name("there") == 1
    else:
        with pytest.raises(optuna.exceptions.StorageInternalError):
            opened.get_study_id_from_name("there")
    assert bool(lines) == is_away


def test_a_value_whose_confirmation_was_lost_counts_as_told(opened: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = optuna.load_study(storage=opened, study_name="there").ask()
    storage.be_patient(opened, lambda _: None)
    connection, commit, lost = sqlalchemy.engine.Connection, sqlalchemy.engine.Connection._commit_impl, list[bool]()

    def commit_and_lose(self: sqlalchemy.engine.Connection) -> None:
        commit(self)
        if not lost:
            lost.append(True)
            raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(connection, "_commit_impl", commit_and_lose)
    assert opened.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.5])
    assert lost
    assert opened.get_trial(trial._trial_id).values == [0.5]
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        opened.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def test_lost_trials_are_not_looked_for_right_after_an_outage(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[object]()
    monkeypatch.setattr(optuna.storages, "fail_stale_trials", asked.append)
    monkeypatch.setattr(storage, "has_heartbeat", lambda _: True)
    study = optuna.load_study(storage=opened, study_name="there")
    storage.retry_lost(study)
    assert len(asked) == 1
    outage = Outage(opened)
    storage.be_patient(opened, lambda _: None)
    outage.left = 1
    opened.get_study_id_from_name("there")
    storage.retry_lost(study)
    assert len(asked) == 1, "other runners have not recorded their heartbeats yet"
