"""Comparison of a tracking store, read from its database, with the journals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy

from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_points

RUNS = (
    "select r.run_uuid, r.status, r.start_time, r.end_time, role.value, cell.value from runs r "
    "left join tags role on role.run_uuid = r.run_uuid and role.key = 'role' "
    "left join tags cell on cell.run_uuid = r.run_uuid and cell.key = 'fingerprint'"
)


def sqlite_address(path: Path) -> str:
    """Return the address of a database file."""
    return f"sqlite:///{path}"


def ask(address: str, query: str) -> list[Any]:
    """Return the rows of one query."""
    engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(query))


def number_of_points(address: str) -> int:
    """Return the number of metric points that the store holds by now; 0 while it has no tables."""
    try:
        return int(ask(address, "select count(*) from metrics")[0][0])
    except sqlalchemy.exc.DBAPIError:
        return 0


def lacks(address: str, records: Iterable[CellRecord]) -> tuple[list[str], int]:
    """Compare a store with the records of finished cells.

    Returns:
        One line for each thing that is not as it must be, and the number of points that are there as they must be.
    """
    runs = ask(address, RUNS)
    by_cell: dict[str, list[Any]] = {}
    problems = [f"{role} run {run[:8]} is left RUNNING" for run, status, _, _, role, _ in runs if status == "RUNNING"]
    for run, status, began, ended, role, cell in runs:
        if role == "cell":
            by_cell.setdefault(cell, []).append((run, status))
        if status == "FINISHED" and ended is not None and ended < began:
            problems.append(f"{role} run {run[:8]} ends {(began - ended) / 1000:.0f} s before it begins")
    history: dict[str, Counter[tuple[str, int, float]]] = {}
    for run, key, step, value in ask(address, "select run_uuid, key, step, value from metrics"):
        history.setdefault(run, Counter())[key, int(step), float(value)] += 1
    held = 0
    for record in records:
        found, name = by_cell.get(record.fingerprint, []), record.fingerprint[:12]
        if len(found) != 1:
            problems.append(f"{name} has {len(found)} runs")
            continue
        run, status = found[0]
        if status != "FINISHED":
            problems.append(f"the run of {name} is {status}")
        counts = history.get(run, Counter())
        expected = {
            (key, point.epoch, value)
            for point in read_points(record.folder)
            for key, value in point.values.items()
            if math.isfinite(value)
        }
        missing = [key for key in expected if counts[key] == 0]
        places = Counter((key, step) for (key, step, _), number in counts.items() for _ in range(number))
        twice = [place for place, number in places.items() if number > 1]
        held += len(expected) - len(missing)
        problems += [f"{name}: {len(missing)} of {len(expected)} points are missing"] if missing else []
        problems += [f"{name}: {len(twice)} points are there twice, such as {twice[0]}"] if twice else []
    return problems, held
