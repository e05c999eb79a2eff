"""Rows that tests elsewhere fill: they are run with the number of examples that the row asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from faults.record import COUNT, VARIABLE
from faults.table.tally import Tally

ROOT = Path(__file__).parents[3]
SUPPLY = ROOT / "docs" / "supply-chain.json"
"""Written by the check of the supply chain: {"tried": packages, "lost": [lines], "notes": {…}}."""
LONGEST = 1800.0


def _run(tally: Tally, *patterns: str, choose: str = "", examples: bool = True) -> None:
    """Run test files below `tests/` and count: a passed test counts its examples, or one where it makes none.

    Args:
        patterns: of paths relative to `tests/`.
        choose: an expression for pytest's `-k`.
        examples: each test makes as many examples as the row asks for, unless it says by the property `tried` how many.
    """
    files = sorted({str(path) for pattern in patterns for path in (ROOT / "tests").glob(pattern)})
    if not files:
        tally.skip(f"no file tests/{' or tests/'.join(patterns)} is here")
    report = Path(os.environ.get("TMPDIR", "/tmp")) / f"cifar-lab-faults-{os.getpid()}.xml"
    line = [sys.executable, "-m", "pytest", *files, f"--junitxml={report}", "-p", "no:cacheprovider", "-m", "not gpu"]
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE} | {COUNT: str(tally.tries)}
    done = subprocess.run(
        [*line, *(["-k", choose] if choose else [])], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=LONGEST, check=False,
    )  # fmt: skip
    if done.returncode == 5:  # pytest's code for "no test was chosen"
        tally.skip(f"no test of {', '.join(Path(file).name for file in files)} matches '{choose}'")
    assert done.returncode in {0, 1}, done.stdout[-2000:] + done.stderr[-2000:]
    tests = 0
    for case in ET.parse(report).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        tests += 1
        own = sum(int(each.get("value", 0)) for each in case.iter("property") if each.get("name") == "tried")
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        tally.tried += own or (tally.tries if examples else 1)
        if bad is not None:
            text = (bad.get("message") or "").strip().splitlines()
            tally.lost.append(f"{case.get('name')}: {text[0][:200] if text else 'failed'}")
    report.unlink()
    tally.notes["tests"] = str(tests)
    tally.settle()


def test_hostile_lines(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_input.py", choose="not ablation")


def test_hostile_ablations(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_input.py", choose="ablation")


@pytest.mark.slow
def test_hostile_spaces(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_spaces.py")


@pytest.mark.slow
def test_hostile_images(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_data.py", choose="random or any or hypothesis")


@pytest.mark.slow
def test_hostile_files(tally: Tally) -> None:
    _run(tally, "faults/test_hostile_data.py", "faults/test_bad_data.py", "faults/test_bad_records.py",
         "faults/test_damage*.py", "unit/test_text.py", examples=False)  # fmt: skip


@pytest.mark.slow
def test_secrets(tally: Tally) -> None:
    _run(tally, "faults/test_secrets.py", "unit/tracking/test_uri.py", examples=False)


def test_supply_chain(tally: Tally) -> None:
    """Take the counts that the check of the dependencies wrote."""
    if not SUPPLY.exists():
        tally.skip(f"{SUPPLY.relative_to(ROOT)} is not here; the check of the dependencies writes it")
    tree = json.loads(SUPPLY.read_text())
    tally.tried, tally.lost = int(tree["tried"]), list(tree["lost"])
    tally.notes.update({str(name): str(value) for name, value in tree.get("notes", {}).items()})
    tally.settle()
