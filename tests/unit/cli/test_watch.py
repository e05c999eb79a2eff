"""Watching ends where nobody trains what is missing, and says what would."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.cli import run
from cifar_lab.cli.watch import PAUSE, is_idle
from cifar_lab.inspect.status import look
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.selection import select

COMMAND = "cifar-lab run-ablation se_ratio --scale small --seeds 0"


@pytest.fixture
def asked(folder: Path) -> Invocation:
    """`se_ratio` was asked for long ago, one cell."""
    cell, command = records.cell_ref("a" * 64, "r4"), f"{COMMAND} --json"
    found = records.invocation(cell, id="20260101T000000.000-se_ratio", control="r4", command=command, again=COMMAND)
    found.write(folder / "runs")
    return found


def test_where_nobody_trains_the_command_that_would_is_said_and_watching_ends(
    asked: Invocation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "se_ratio", "--watch"]) == 0
    said = capsys.readouterr().out
    assert "se_ratio: 1 cell is missing and nobody is training; to go on:\n" in said
    assert said.rstrip().endswith(f"  {COMMAND}")


def test_with_json_it_is_said_beside_it(asked: Invocation, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "se_ratio", "--watch", "--json"]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["missing"] for line in captured.out.splitlines()] == [1]
    assert COMMAND in captured.err


def test_a_runner_that_trains_or_is_between_two_cells_is_waited_for(asked: Invocation) -> None:
    runs = Path("runs").resolve()

    def idle(now: float) -> bool:
        return is_idle(look(select(runs, "se_ratio"), runs, now), now)

    begun: Any = asked.time / 1000
    assert not idle(begun + PAUSE - 1)
    assert idle(begun + PAUSE + 1)
    record = CellRecord(runs / ("a" * 64))
    record.folder.mkdir()
    with record.owned(patience=0):
        assert not idle(time.time() + 9)


def test_a_cell_that_was_stopped_is_told_from_one_that_was_not_begun(
    asked: Invocation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status"]) == 0
    assert "stopped" not in capsys.readouterr().out
    record = CellRecord(Path("runs").resolve() / asked.cells[0].fingerprint)
    record.folder.mkdir()
    record.checkpoint.write_bytes(b"a state")
    assert run(["status"]) == 0
    assert "1 missing (1 stopped)" in " ".join(capsys.readouterr().out.split())
