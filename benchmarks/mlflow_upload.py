"""Measure the upload of a study to MLflow on PostgreSQL, thousand by thousand: time, memory, size of the database.

    MLFLOW_TRACKING_URI=postgresql+psycopg://… python benchmarks/mlflow_upload.py FOLDER/100x100
    MLFLOW_TRACKING_URI=postgresql+psycopg://… python benchmarks/mlflow_upload.py FOLDER/100x100 --server

`cifar-lab sync` runs as a process of its own, by default on the database itself, with `--server` on an MLflow server
with one worker in between. PostgreSQL must run on this machine, since its processor time is that of its processes.
A study of `simulated_study.py` is meant; what is uploaded already is not uploaded again, so that the same command
measures a second `sync`, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import psutil
from markdown_table import table

from cifar_lab.mlflow_sync import server

RUN = "import sys; from cifar_lab.cli import run; run(sys.argv[1:])"
HEADING = (
    "runs",
    "wall s",
    "CPU s of sync",
    "of PostgreSQL",
    "of the server",
    "CPU ms for a cell",
    "MiB of sync",
    "MB",
)
PORT = 54380
PAUSE = 0.5
"""Seconds between two looks."""


class Look(NamedTuple):
    """Measurements of one moment, in seconds, MiB and MB."""

    runs: int
    wall: float
    sync: float
    database: float
    server: float
    peak_mib: float
    size_mb: float


class Database:
    """PostgreSQL of an address, on this machine."""

    def __init__(self, uri: str) -> None:
        import psycopg

        self._connection = psycopg.connect(uri.replace("+psycopg", "", 1), autocommit=True)
        (backend,) = self._connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        main = psutil.Process(backend).parent()
        assert main is not None, "a backend is a child of the server"
        self._main = main

    def cpu(self) -> float:
        """Return the processor seconds of all of its processes, those that have ended included."""
        times = self._main.cpu_times()
        ended = times.user + times.system + times.children_user + times.children_system
        return ended + sum(map(cpu_of, self._main.children()))

    def runs(self) -> int:
        """Return the number of runs; 0 as long as MLflow has made no tables."""
        (name,) = self._connection.execute("SELECT to_regclass('runs')").fetchone() or (None,)
        (count,) = self._connection.execute("SELECT count(*) FROM runs").fetchone() or (0,) if name else (0,)
        return int(count)

    def size_mb(self) -> float:
        """Return the size of the database in MB."""
        (size,) = self._connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
        return float(size) / 1e6


def cpu_of(process: psutil.Process) -> float:
    """Return the processor seconds of a process; 0 if it has ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def upload(runs: Path, uri: str, database: Database, each: int, served: server.Server | None) -> Iterator[Look]:
    """Upload, and yield a look at the beginning, after each `each` runs, and at the end.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "MLFLOW_TRACKING_URI": served.address if served is not None else uri}
    environment["CIFAR_LAB_ABLATIONS"] = str(runs / "ablations")
    workers = psutil.Process(served.process.pid) if served is not None else None
    peak, began, next_runs = 0.0, time.perf_counter(), 0

    def look(count: int, sync: float) -> Look:
        of_server = sum(map(cpu_of, [workers, *workers.children(recursive=True)])) if workers is not None else 0.0
        return Look(
            count, time.perf_counter() - began, sync, database.cpu(), of_server, peak / 2**20, database.size_mb()
        )

    yield look(database.runs(), 0.0)
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        words = [sys.executable, "-c", RUN, "sync", "--runs", str(runs)]
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                process.returncode = os.waitstatus_to_exitcode(status)
                peak = usage.ru_maxrss * 1024
                break
            seen = psutil.Process(process.pid)
            peak = max(peak, seen.memory_info().rss)
            count = database.runs()
            next_runs = next_runs or (count // each + 1) * each
            if count >= next_runs:
                next_runs += each
                yield look(count, cpu_of(seen))
            time.sleep(PAUSE)
        text = (Path(folder) / "log").read_text()
    yield look(database.runs(), usage.ru_utime + usage.ru_stime)
    print(text.strip(), file=sys.stderr)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {text[-500:]}")


def rows(looks: Iterator[Look]) -> Iterator[list[object]]:
    """Yield a row for the time between each two looks."""
    before = next(looks)
    for now in looks:
        spent = [now.wall - before.wall, now.sync - before.sync, now.database - before.database]
        spent.append(now.server - before.server)
        new = now.runs - before.runs
        one = f"{1000 * sum(spent[1:]) / new:.0f}" if new else ""
        yield [f"{now.runs:,}", *(f"{each:.1f}" for each in spent), one, f"{now.peak_mib:.0f}", f"{now.size_mb:.0f}"]
        before = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, help="Folder of the records.")
    parser.add_argument("--each", type=int, default=1000, help="Runs for one row of the table.")
    parser.add_argument("--server", action="store_true", help="Upload through an MLflow server.")
    given = parser.parse_args()
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith("postgresql"):
        parser.error("MLFLOW_TRACKING_URI: the address of a PostgreSQL database, postgresql+psycopg://…")
    with server.serve(uri, PORT) if given.server else nullcontext() as served:
        looks = upload(given.runs.resolve(), uri, Database(uri), given.each, served)
        for line in table(HEADING, rows(looks), left=0):
            print(line, flush=True)


if __name__ == "__main__":
    main()
