"""A study on its way: packed by one process, read by others, and the study that is kept in this repository."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import cifar_lab
from cifar_lab.cli import run
from cifar_lab.errors import TrackingError

Lab = Callable[..., str]
HOUSE = Path(__file__).parents[2]
KEPT = HOUSE / "docs" / "results" / "study.zip"
OWN = ("--ablations", str(HOUSE / "docs" / "results" / "ablations"))


@pytest.fixture
def lab(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lab:
    """`lab("status", …, code=0)`: type a command, check its exit code, and return what it printed."""
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def lab(*words: str, code: int = 0) -> str:
        ended = run(list(words))
        said = capsys.readouterr()
        assert ended == code, said.err
        return said.out if code == 0 else said.err

    return lab


def records(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("runs/")}


def test_a_study_is_packed_taken_along_read_and_packed_again(lab: Lab, tmp_path: Path) -> None:
    lab("pack", "batch_norm", "optimizers", "--runs", str(KEPT), "-o", "one.zip")
    kept = records(KEPT)
    assert set(records(tmp_path / "one.zip")) < set(kept)
    assert all(kept[name] == content for name, content in records(tmp_path / "one.zip").items())

    there = json.loads(lab("compare", "optimizers", "--runs", "one.zip", "--json"))
    assert there == json.loads(lab("compare", "optimizers", "--runs", str(KEPT), "--json"))
    assert {row["variant"]: round(100 * row["mean"], 2) for row in there["rows"]}["muon"] == 71.88

    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        archive.extractall(tmp_path / "study")
    lab("pack", "--runs", "study/runs", "-o", "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "one.zip").read_bytes()


def test_reading_commands_take_the_file_and_write_nothing_beside_it(lab: Lab, tmp_path: Path) -> None:
    ends = sorted(name.split("/")[1] for name in records(KEPT) if name.endswith("/result.json"))
    before = KEPT.stat()
    assert "180 cells and 14 invocations checked: nothing is damaged" in lab("fsck", "--runs", str(KEPT))
    assert "12 finished" in lab("status", "--runs", str(KEPT))
    assert "no failures" in lab("failures", "--runs", str(KEPT))
    assert "test/acc" in lab("diff", ends[0], ends[1], "--runs", str(KEPT))
    assert "direction agrees" in lab("verify", "batch_norm", "--runs", str(KEPT))
    lab("report", "batch_norm", "--runs", str(KEPT), "-o", "page.html")
    assert "off-lr0.01" in (tmp_path / "page.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "page.html"}
    assert (KEPT.stat().st_mtime_ns, KEPT.stat().st_size) == (before.st_mtime_ns, before.st_size)


def test_errors_name_the_file_not_the_copy_in_the_cache(lab: Lab) -> None:
    assert f"'width' has not been run in {KEPT};" in lab("compare", "width", "--runs", str(KEPT), code=2)
    with pytest.raises(TrackingError, match=rf"'width' has not been run in {re.escape(str(KEPT))};"):
        cifar_lab.compare("width", runs=KEPT)


@pytest.mark.parametrize("line", ["run-ablation batch_norm", "sync", "clean -y", "fsck --repair"])
def test_writing_commands_say_in_one_line_that_the_file_is_only_read(lab: Lab, tmp_path: Path, line: str) -> None:
    said = lab(*line.split(), "--runs", str(KEPT), code=2)
    assert said == f"cifar-lab: --runs {KEPT}: a file; this command needs a folder of records " + (
        "(a packed study is only read)\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["optimizers", "precision"])
def test_the_pages_of_results_have_the_numbers_of_the_kept_study(lab: Lab, tmp_path: Path, name: str) -> None:
    page = (HOUSE / "docs" / "results" / f"{name}-small.md").read_text()
    rows = [row for row in lab("compare", name, "--runs", str(KEPT), "--format", "md").splitlines()
            if row.startswith("| ")]  # fmt: skip
    assert len(rows) > 4
    assert [row for row in rows[:4] if row not in page] == []
