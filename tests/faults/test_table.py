"""The fault table's own parts: rows, counts, records and the page that is made of them."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from faults import record as records
from faults import report
from faults.table.damage import Shown, harm, judge
from faults.table.rows import BY_NAME, ROWS
from faults.table.tally import Tally, counting

TESTS = "\n".join(path.read_text() for path in sorted((Path(__file__).parent / "table").glob("test_*.py")))


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that counts go to."""
    monkeypatch.setenv(records.VARIABLE, str(tmp_path / "docs" / "reliability.jsonl"))
    return tmp_path / "docs" / "reliability.jsonl"


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_each_row_has_a_test_that_fills_it(name: str) -> None:
    plain, _, database = name.rpartition("_")
    function = plain if database in {"sqlite", "postgresql"} else name
    assert re.search(rf"^def test_{function}\(", TESTS, re.MULTILINE)


def test_the_name_of_a_row_chooses_no_other_row() -> None:
    assert len(BY_NAME) == len(ROWS)
    assert [(a, b) for a in BY_NAME for b in BY_NAME if a != b and a in b] == []


def test_the_number_of_tries_is_set_for_all_rows_and_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def number(text: str) -> int:
        monkeypatch.setenv(records.COUNT, text)
        return records.count("kill_worker", quick=1, full=50)

    assert [number(text) for text in ("", "quick", "full", "7", "full,kill_worker=10", "kill_runner=3")] == [
        1, 1, 50, 7, 10, 1,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="reads quick, full"):
        number("many")


def test_nothing_is_recorded_unless_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(records.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    records.record("kill_worker", tried=1)
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_recorded_with_what_was_lost_and_fails(counts: Path) -> None:
    def test() -> None:
        with counting(BY_NAME["kill_worker"]) as tally:
            tally.add([])
            tally.add(["other weights", "a point twice"], "study 2")
            tally.settle()

    with pytest.raises(AssertionError, match="1 of 2 lost"):
        test()
    (entry,) = [json.loads(line) for line in counts.read_text().splitlines()]
    assert (entry["row"], entry["tried"], entry["held"], entry["broke_off"]) == ("kill_worker", 2, 1, False)
    assert entry["lost"] == ["study 2: other weights; a point twice"]
    assert entry["command"] == 'make test-faults ARGS="-k kill_worker"'
    assert entry["machine"]["cores"] >= 1


def test_a_row_that_breaks_off_says_so(counts: Path) -> None:
    def test() -> None:
        with counting(BY_NAME["kill_worker"]):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        test()
    assert json.loads(counts.read_text())["broke_off"] is True


def test_a_row_in_which_nothing_was_tried_fails() -> None:
    with pytest.raises(AssertionError, match="nothing was tried"):
        Tally(BY_NAME["kill_worker"]).settle()


def _entry(row: str, **changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "row": row, "form": "full", "tried": 1200, "held": 1200, "lost": [], "broke_off": False, "skipped": "",
        "notes": {"points in MLflow": "2,112"}, "seconds": 90.0, "command": "make", "date": "2026-11-27T10:00:00+00:00",
        "commit": "a" * 40, "dirty": False,
        "machine": {"processor": "EPYC", "cores": 2, "memory_gib": 24, "platform": "Linux"},
    }  # fmt: skip
    return fields | changed


def test_the_page_shows_the_latest_counts_of_each_row(tmp_path: Path) -> None:
    file = tmp_path / "counts.jsonl"
    entries = [
        _entry("kill_worker", tried=3, held=0, lost=["old"]),
        _entry("kill_worker"),
        _entry("kill_runner", held=1198, lost=["study 1: a | b", "study 2: c"]),
        _entry("disk_quota", skipped="only root can", tried=0, held=0),
        _entry("kill_writing", form="quick", broke_off=True),
    ]
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    text = report.page(report.read(file))
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert '| 1,200 | 0 | `make test-faults ARGS="-k kill_worker"` |' in rows["process of a cell killed"]
    assert "points in MLflow: 2,112" in rows["process of a cell killed"].lower().replace("mlflow", "MLflow")
    assert "| 1,200 | **2** |" in rows["runner killed"]
    assert "- kill_runner: study 1: a \\| b" in text
    assert "Skipped: only root can | – | – |" in rows["limit on the size of files"]
    assert "1,200 (broke off)" in rows["killed while it writes"]
    assert "Not in the full form: kill_writing." in text
    assert "old" not in [line for line in text.splitlines() if line.startswith("- kill_worker")]
    assert "commit aaaaaaaaaaaa" in text


def test_damage_changes_a_file_and_not_its_time(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    chance = random.Random(0)
    for _ in range(50):
        path.write_text('{"metrics": {"test/acc": 0.25}}\n')
        before = (path.read_bytes(), path.stat().st_mtime_ns)
        assert harm(path, chance).startswith("result.json: ")
        assert path.read_bytes() != before[0]
        assert path.stat().st_mtime_ns == before[1]


def test_another_number_is_wrong_unless_the_damage_is_named() -> None:
    def shown(**changed: Any) -> Shown:
        fields: dict[str, Any] = {"code": 0, "out": "accuracy 25.00", "err": "", "crash": ""}
        return Shown(**(fields | changed))

    assert judge("compare", shown(), shown(err="a warning")) == []
    assert judge("compare", shown(), shown(code=2, out="", err="cifar-lab: result.json: damaged: checksum")) == []
    assert "'accuracy 75.00' for 'accuracy 25.00'" in judge("compare", shown(), shown(out="accuracy 75.00"))[0]
    assert judge("compare", shown(), shown(crash="KeyError: 'a'")) == ["compare: traceback: KeyError: 'a'"]
