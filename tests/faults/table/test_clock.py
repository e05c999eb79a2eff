"""A clock that jumps back by an hour in the middle of a study."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from faults.table import store, undisturbed
from faults.table.lab import Lab, Material, differences, wait_until
from faults.table.tally import Tally

from cifar_lab.store.cell_record import CellRecord

pytestmark = pytest.mark.slow


def _library() -> Path | None:
    """Return libfaketime for programs with threads."""
    places = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime", "/opt/homebrew/lib/faketime")
    paths = (path for place in places for path in sorted(Path("/").glob(f"{place[1:]}/libfaketimeMT.*")))
    return next(paths, None)


def _durations(record: CellRecord, elapsed: float) -> list[str]:
    """Return the durations of a cell that cannot be right."""
    result = record.result()
    seconds = result.metrics.get("seconds", -1) if result is not None else -1
    name = record.fingerprint[:12]
    return [] if 0 <= seconds <= elapsed else [f"{name} trained for {seconds:.0f} s in {elapsed:.0f} s"]


def test_clock_back(tally: Tally, lab: Lab, material: Material) -> None:
    library = _library()
    if library is None:
        tally.skip("libfaketime is not here (apt-get install faketime)")
    words = "train.epochs=40"
    expected = undisturbed.study(material, words)
    for number in range(tally.tries):
        each = Lab(folder=lab.folder / str(number), material=material)
        undisturbed.copy_store(material, each.folder / "mlflow.db")
        shift = each.folder / "shift"
        shift.write_text("+0\n")
        each.variables |= {
            "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(shift), "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        began = time.monotonic()
        process = each.start(each.line(words, "--seeds", "0-1"))
        wait_until(lambda: each.epochs() > 5 or process.poll() is not None, "five epochs")  # noqa: B023
        time.sleep(tally.chance.uniform(0, 1))
        shift.write_text("-3600\n")
        done = each.done(process)
        elapsed = time.monotonic() - began
        problems = done.problems(0) + differences(each.records(), expected)
        problems += [problem for record in each.records() for problem in _durations(record, elapsed)]
        problems += _latest(each)
        problems += each.run("sync", "--runs", str(each.runs)).problems(0)
        problems += store.lacks(store.sqlite_address(each.folder / "mlflow.db"), each.records())[0]
        tally.add(problems, f"study {number + 1}")
    tally.settle()


def _latest(lab: Lab) -> list[str]:
    """Ask for fewer cells in the hour that comes again; `compare` must take that invocation for the latest."""
    again = lab.run(*lab.line("train.epochs=40", "--seeds", "0", "--offline"))
    compared = lab.run("compare", "tiny", "--ablations", str(lab.material.ablations), "--runs", str(lab.runs))
    problems = again.problems(0) + compared.problems(0)
    # The file system's times are the kernel's, which nothing has set back.
    notes = sorted((lab.runs / "invocations").glob("*-tiny.json"), key=lambda path: path.stat().st_mtime_ns)
    if not problems and f"invocation {notes[-1].stem}" not in compared.out:
        named = next((line for line in compared.out.splitlines() if line.startswith("invocation ")), "none")
        problems.append(f"compare takes the earlier invocation for the latest: {named} for {notes[-1].stem}")
    return problems
