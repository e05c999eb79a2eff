"""`bench.py` from the command line: it measures what it is told to, and writes both files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from side_by_side import archive

BENCH = Path(__file__).parents[3] / "benchmarks" / "bench.py"


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(BENCH), *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_quick_measures_the_sections_that_are_named_and_leaves_the_others(tmp_path: Path) -> None:
    done = bench("--quick", "--only", "commands,input", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    first = archive.read(tmp_path)
    assert [entry.section.name for entry in first] == ["input", "commands"]
    assert all(goal.is_reached is not None for entry in first for goal in entry.section.goals)
    assert "the numbers mean nothing" in (tmp_path / archive.PAGE).read_text()
    done = bench("--quick", "--only", "commands", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    second = json.loads((tmp_path / archive.NUMBERS).read_text())
    assert [tree["section"]["name"] for tree in second] == ["input", "commands"]
    assert second[0] == json.loads(json.dumps(archive.as_tree(first[0])))


@pytest.mark.slow
def test_a_section_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    done = bench("--only", "trainig", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "no section named 'trainig'" in done.stderr
    assert "training" in done.stderr
    assert not list(tmp_path.iterdir())
