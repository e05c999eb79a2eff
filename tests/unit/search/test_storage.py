"""Tests of storages: two processes that open a new database at once, and what a failure says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from cifar_lab.errors import UsageError
from cifar_lab.search import storage

OPENS = """
import sys
from pathlib import Path
from cifar_lab.search.storage import open_storage

while not Path("go").exists():
    pass
open_storage(sys.argv[1], Path("runs"))
"""


@pytest.mark.slow
def test_processes_that_create_a_database_at_once_all_open_it(tmp_path: Path) -> None:
    line = [sys.executable, "-c", OPENS, "sqlite:///studies.db"]
    opening = [subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    (tmp_path / "go").touch()
    said = [process.communicate(timeout=120)[1] for process in opening]
    assert [process.returncode for process in opening] == [0] * 4, said


@pytest.mark.parametrize(
    ("message", "attempts"),
    [("table study_directions already exists", 3), ('duplicate key value violates "pg_type"', 3), ("no such host", 1)],
)
def test_what_another_process_creates_is_waited_for_and_nothing_else(
    message: str, attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def opened(url: str, **_: object) -> str:
        seen.append(url)
        if len(seen) < 3:
            raise RuntimeError("storage") from OperationalError(message, None, Exception(message))
        return "opened"

    monkeypatch.setattr(storage, "Database", opened)
    monkeypatch.setattr(storage, "CREATION_PAUSE", 0.0)
    if attempts == 1:
        with pytest.raises(UsageError, match="no such host"):
            storage.open_storage("sqlite:///s.db", tmp_path)
    else:
        assert str(storage.open_storage("sqlite:///s.db", tmp_path)) == "opened"
    assert len(seen) == attempts
