"""An index reads each note once, sees every change, and keeps damage beside what can be read."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made import records

from cifar_lab.store import invocation_index
from cifar_lab.store.invocation import Invocation, read_invocation
from cifar_lab.store.invocation_index import read_index

CELL = records.cell_ref("a" * 64, "r4", seed=1)
EARLY = records.invocation(CELL, id="20260101T000000.000-se_ratio")
LATE = records.invocation(CELL, id="20260102T000000.000-se_ratio", overrides={"train.epochs": 3})


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of the notes that were read from the disk."""
    paths: list[Path] = []

    def read(path: Path) -> Invocation | None:
        paths.append(path)
        return read_invocation(path)

    monkeypatch.setattr(invocation_index, "read_invocation", read)
    return paths


def written(runs: Path, *notes: Invocation) -> list[Path]:
    """Write notes as of a minute ago, and return their paths."""
    before = time.time() - 60
    for note in notes:
        note.write(runs)
        os.utime(runs / "invocations" / f"{note.id}.json", (before, before))
    return sorted((runs / "invocations").glob("*.json"))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: the time of the last change of their status cannot be set back."""
    monkeypatch.setattr(invocation_index, "SETTLED_AFTER", -1.0)


@pytest.mark.usefixtures("settled")
def test_a_note_is_read_once_and_again_if_its_file_changes(tmp_path: Path, reads: list[Path]) -> None:
    early, late = written(tmp_path, EARLY, LATE)
    first = read_index(tmp_path)
    assert first.invocations == (EARLY, LATE)
    assert read_index(tmp_path) is first
    assert reads == [early, late]
    changed = replace(LATE, tags={CELL.fingerprint: {"trial": "1"}})
    changed.write(tmp_path)
    assert read_index(tmp_path).invocations == (EARLY, changed)
    assert reads == [early, late, late]
    late.unlink()
    assert read_index(tmp_path).invocations == (EARLY,)


def test_a_note_that_was_just_written_is_read_anew(tmp_path: Path, reads: list[Path]) -> None:
    EARLY.write(tmp_path)
    read_index(tmp_path)
    read_index(tmp_path)
    assert len(reads) == 2, "another change within one tick of the clock would not be seen"


@pytest.mark.usefixtures("settled")
def test_damage_is_said_each_time_and_a_repair_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    early, late = written(tmp_path, EARLY, LATE)
    text = late.read_text()
    late.write_text("{")
    for _ in range(2):
        caplog.clear()
        index = read_index(tmp_path)
        assert index.invocations == (EARLY,)
        assert list(index.damage) == [late]
        assert [str(error) for error in index.damage_of("se_ratio")] == [str(index.damage[late])]
        assert index.damage_of("other") == []
        assert str(late) in caplog.text
    late.write_text(text)
    assert read_index(tmp_path).invocations == (EARLY, LATE)


def test_notes_are_found_by_id_key_ablation_and_cell(tmp_path: Path) -> None:
    other = records.invocation(CELL, id="20260103T000000.000-layers", ablation="layers")
    written(tmp_path, EARLY, LATE, other)
    index = read_index(tmp_path)
    assert index.find(LATE.id) == LATE
    assert index.find("20260104T000000.000-layers") is None
    assert index.of_ablation("se_ratio") == [EARLY, LATE]
    assert index.with_key(LATE.key) == [LATE]
    assert index.requests(CELL.fingerprint) == [(EARLY, CELL), (LATE, CELL), (other, CELL)]
    assert read_index(tmp_path / "nowhere").invocations == ()


@pytest.mark.usefixtures("settled")
def test_notes_of_the_same_cells_keep_them_once(tmp_path: Path) -> None:
    other = records.cell_ref("b" * 64, "r16", seed=1)
    written(tmp_path, EARLY, LATE, replace(LATE, id="20260103T000000.000-se_ratio", cells=(CELL, other)))
    early, late, more = read_index(tmp_path).invocations
    assert early.cells is late.cells
    assert more.cells == (CELL, other)
    assert (early.as_json(), late.as_json()) == (EARLY.as_json(), LATE.as_json())
