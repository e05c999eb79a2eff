"""Every benchmark finds what it imports, whether or not a test of its own runs it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[3] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_loads(path: Path) -> None:
    assert runpy.run_path(str(path), run_name="loaded")["__doc__"]
