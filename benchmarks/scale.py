"""Measure commands on studies of 100, 1,000 and 10,000 cells: processor time, wall time and peak memory of each.

    python benchmarks/scale.py FOLDER                             # a markdown table on standard output
    python benchmarks/scale.py FOLDER --before CHECKOUT           # also of another version, in turn with this one

The studies are those of `simulated_study.py`; they are written to FOLDER unless they are there. Each command is a
process of its own. The rounds are interleaved, and the table has medians. `sync` is measured after an upload to
`FOLDER/….mlflow.db`, which takes 0.1 to 0.2 s for a cell.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from markdown_table import table

HERE = Path(__file__).resolve().parent
RUN = "import sys; from cifar_lab.cli import run; run(sys.argv[1:])"
SETTING = ("--scale", "smoke", "--data", "synthetic", "train.epochs=10")
DONE, HALF, ASKED = "all cells finished", "half of the cells finished", "no cell finished, ten runners' notes"
OPTIONS = {DONE: (), HALF: ("--done", "0.5"), ASKED: ("--empty", "--notes", "10")}
"""Options of `simulated_study.py` by state of the study."""
COMMANDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("plan", DONE, ("plan", "many", *SETTING)),
    ("status", DONE, ("status", "many")),
    ("status", HALF, ("status", "many")),
    ("status", ASKED, ("status", "many")),
    ("failures", HALF, ("failures", "many")),
    ("compare", DONE, ("compare", "many")),
    ("verify", DONE, ("verify", "many")),
    ("report", DONE, ("report", "many")),
    ("run-ablation", DONE, ("run-ablation", "many", *SETTING, "--offline", "--yes")),
    ("sync", DONE, ("sync",)),
)
"""Name, state of the study, and words of each measured command; `sync` has nothing to do."""


class Cost(NamedTuple):
    """Cost of one process with those that it started and waited for."""

    cpu: float
    wall: float
    peak_mib: float


def measure(words: Sequence[str], code: Path, runs: Path, limit: float) -> Cost | None:
    """Run a command with the package in the folder `code`; None if it took longer than `limit` seconds.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(code), "CIFAR_LAB_RUNS": str(runs)}
    environment["CIFAR_LAB_ABLATIONS"] = str(runs / "ablations")
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{runs}.mlflow.db"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words], cwd=folder, env=environment, stdout=log, stderr=log
        )
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            wall = time.perf_counter() - began
            if ended:
                break
            if wall > limit:
                process.kill()
                process.wait()
                return None
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)}: {(Path(folder) / 'log').read_text()[-500:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def study(folder: Path, size: tuple[int, int], state: str) -> Path:
    """Return the folder of a study, written unless it is there."""
    variants, seeds = size
    runs = folder / f"{variants}x{seeds}{''.join(OPTIONS[state])}"
    if not runs.exists():
        words = ["--variants", str(variants), "--seeds", str(seeds), *OPTIONS[state]]
        subprocess.run(
            [sys.executable, str(HERE / "simulated_study.py"), str(runs), *words], check=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parent)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return runs


def measure_without_traces(words: Sequence[str], code: Path, runs: Path, limit: float) -> Cost | None:
    """Measure a command, and remove the notes that it left: they would count in the next measurement."""
    before = set((runs / "invocations").iterdir())
    try:
        return measure(words, code, runs, limit)
    finally:
        for note in set((runs / "invocations").iterdir()) - before:
            note.unlink()


def rows(given: argparse.Namespace) -> Iterator[list[object]]:
    """Yield a row for each command: costs by size, and with another version its processor time."""
    codes = [HERE.parent, *([given.before.resolve()] if given.before is not None else [])]
    for name, state, words in COMMANDS:
        if given.only and name not in given.only:
            continue
        for size in given.sizes:
            runs, costs = study(given.folder.resolve(), size, state), [list[Cost | None]() for _ in codes]
            if name == "sync":  # not measured: it uploads
                measure(words, codes[0], runs, math.inf)
            for _ in range(given.rounds):
                for code, measured in zip(codes, costs, strict=True):
                    if None not in measured:
                        measured.append(measure_without_traces(words, code, runs, given.limit))
            mine, *others = [_median(each) for each in costs]
            shown = [f"{mine.cpu:.1f}", f"{mine.wall:.1f}", f"{mine.peak_mib:.0f}"] if mine else [f"over {given.limit}"]
            for other in others:
                ratio = f"{other.cpu / mine.cpu:.1f}" if mine and other else ""
                shown += [f"{other.cpu:.1f}" if other else f"over {given.limit:g} s", ratio]
            yield [name, state, f"{size[0] * size[1]:,}", *shown]


def _median(costs: Sequence[Cost | None]) -> Cost | None:
    whole = [cost for cost in costs if cost is not None]
    return Cost(*map(statistics.median, zip(*whole, strict=True))) if len(whole) == len(costs) else None


def _size(text: str) -> tuple[int, int]:
    variants, _, seeds = text.partition("x")
    return int(variants), int(seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="Folder of the studies.")
    parser.add_argument("--sizes", type=_size, nargs="+", default=[(10, 10), (32, 32), (100, 100)], metavar="VxS")
    parser.add_argument("--only", nargs="+", metavar="COMMAND")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900.0, help="Seconds after which a command is ended.")
    parser.add_argument("--before", type=Path, help="Checkout of another version, measured in turn with this one.")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    heading = ["command", "study", "cells", "CPU s", "wall s", "peak MiB"]
    heading += ["CPU s before", "ratio"] if given.before is not None else []
    for line in table(heading, rows(given), left=2):
        print(line, flush=True)


if __name__ == "__main__":
    main()
