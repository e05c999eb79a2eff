"""A note that several machines change at once, on a real server of S3: no change is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made import records

from cifar_lab.object_store import ObjectStore
from cifar_lab.store import mirror
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.mirror import open_mirror
from cifar_lab.store.shared_note import change_note

NOTE = records.invocation()


@pytest.fixture
def both(address: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The copies of two machines."""
    copies = []
    for name in ("a", "b"):
        monkeypatch.setattr(mirror.socket, "gethostname", lambda name=name: name)
        copies.append(open_mirror(address))
    return copies[0], copies[1]


def _remark(runs: Path, word: str, before_write: Callable[[], None] = lambda: None) -> None:
    def remarked() -> Invocation:
        note = read_index(runs).find(NOTE.id) or NOTE
        before_write()
        return replace(note, remarks={**note.remarks, word: word})

    change_note(runs, remarked)


def _words(runs: Path) -> set[str]:
    (note,) = read_index(runs).invocations
    return set(note.remarks)


def test_a_change_that_another_machine_made_meanwhile_is_kept(both: tuple[Path, Path], address: str) -> None:
    here, there = both
    others = iter(["first", "second"])

    def other_machine() -> None:
        if (word := next(others, None)) is not None:
            _remark(there, word)

    _remark(here, "mine", other_machine)
    assert _words(here) == {"first", "second", "mine"}
    _remark(there, "later")
    assert _words(there) == {"first", "second", "mine", "later"}
    assert len(ObjectStore(address).list_objects("invocations/")[0]) == 1


def test_nothing_is_written_where_nothing_changes(both: tuple[Path, Path], address: str) -> None:
    assert change_note(both[0], lambda: None) is None
    assert ObjectStore(address).list_objects("invocations/")[0] == {}


def test_in_a_folder_a_note_is_written_as_it_is(tmp_path: Path) -> None:
    _remark(tmp_path / "runs", "one")
    _remark(tmp_path / "runs", "two")
    assert _words(tmp_path / "runs") == {"one", "two"}
