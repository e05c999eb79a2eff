"""Rows that tests elsewhere fill: they are run with the number of examples that the row asks for."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from faults.record import COUNT, VARIABLE
from faults.table.tally import Tally

ROOT = Path(__file__).parents[3]
"""Written by the check of the supply chain: {"tried": packages, "lost": [lines], "notes": {…}}."""
LONGEST = 1800.0
"""Most seconds for one row."""
NO_TEST = 5
"""Exit code of pytest where no test was chosen."""


def _run(tally: Tally, *patterns: str, choose: str = "") -> None:
    """Run test files below `tests/` and count: the examples of a property test as Hypothesis counts them, else one.

    Args:
        tally: the row; its number of tries is the number of examples that each property test is asked for.
        patterns: of paths relative to `tests/`.
        choose: an expression for pytest's `-k`.
    """
    files = sorted({str(path) for pattern in patterns for path in (ROOT / "tests").glob(pattern)})
    if not files:
        tally.skip(f"no file tests/{' or tests/'.join(patterns)} is here")
    report = Path(tempfile.gettempdir()) / f"cifar-lab-faults-{os.getpid()}.xml"
    line = [sys.executable, "-m", "pytest", *files, f"--junitxml={report}", "-p", "no:cacheprovider", "-m", "not gpu"]
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE} | {COUNT: str(tally.tries)}
    done = subprocess.run(
        [*line, *(["-k", choose] if choose else [])], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=LONGEST, check=False,
    )  # fmt: skip
    if done.returncode == NO_TEST:
        tally.skip(f"no test of {', '.join(Path(file).name for file in files)} matches '{choose}'")
    assert done.returncode in {0, 1}, done.stdout[-2000:] + done.stderr[-2000:]
    tree = ET.parse(report)
    report.unlink()
    cases = [case for case in tree.iter("testcase") if case.find("skipped") is None]
    examples = _examples(tree)
    tally.tried = len(cases) - len(examples) + sum(examples)
    for case in cases:
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            text = (bad.get("message") or "").strip().splitlines()
            tally.lost.append(f"{case.get('name')}: {text[0][:200] if text else 'failed'}")
    tally.notes["tests"] = str(len(cases))
    if examples:
        tally.notes["property tests and their examples"] = f"{len(examples)} and {sum(examples):,}"
    tally.settle()


def _examples(tree: ET.ElementTree) -> list[int]:
    """Return the number of examples that each property test ran, from the statistics that Hypothesis adds."""
    numbers = []
    for each in tree.iter("property"):
        if each.get("name", "").startswith("hypothesis-statistics-"):
            text = base64.b64decode(each.get("value", "")).decode()
            numbers.append(sum(int(number) for number in re.findall(r"(\d+) (?:passing|failing)", text)))
    return numbers


@pytest.mark.slow
def test_hostile_lines(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_input.py", choose="not ablation")


@pytest.mark.slow
def test_hostile_ablations(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_input.py", choose="ablation")


@pytest.mark.slow
def test_hostile_spaces(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_spaces.py")


@pytest.mark.slow
def test_hostile_images(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_data.py")


@pytest.mark.slow
def test_hostile_files(tally: Tally) -> None:
    """Run the tests in which each hostile or damaged file is written by hand."""
    _run(tally, "faults/test_bad_*.py", "faults/test_damage*.py", "unit/test_text.py")


@pytest.mark.slow
def test_secrets(tally: Tally) -> None:
    _run(tally, "faults/test_secrets.py", "unit/mlflow_sync/test_uri.py")


@pytest.mark.slow
def test_supply_chain(tally: Tally) -> None:
    _run(tally, "contracts/test_supply_chain.py")
