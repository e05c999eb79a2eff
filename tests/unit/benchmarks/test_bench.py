"""`bench.py` from the command line: it measures what it is told to, and writes both files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench import merge
from made.benchmarks import entry
from side_by_side import page

BENCH = Path(__file__).parents[3] / "benchmarks" / "bench.py"


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(BENCH), *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_quick_measures_the_section_that_is_named_and_leaves_the_others(tmp_path: Path) -> None:
    page.write(tmp_path, [entry()])
    before = page.read(tmp_path)
    done = bench("--quick", "--only", "cell", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, cell = page.read(tmp_path)
    assert first == before[0]
    assert all(goal.is_reached is not None for goal in cell.section.goals)
    assert "the numbers mean nothing" in (tmp_path / page.PAGE).read_text()
    assert cell.made["command"] == "python benchmarks/bench.py --only cell --quick"


def test_a_section_measured_anew_takes_its_own_place_and_leaves_the_others() -> None:
    before = [entry(name="no longer measured"), entry(name="training"), entry(name="tracking")]
    now = entry(name="tracking", circumstances={"date": "2026-12-01 08:00 UTC"})
    first = entry(name="cell")
    assert merge([*before, now, first]) == [before[1], first, now, before[0]]


@pytest.mark.slow
def test_a_section_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    done = bench("--only", "trainig", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "no section named 'trainig'" in done.stderr
    assert "training" in done.stderr
    assert not list(tmp_path.iterdir())
