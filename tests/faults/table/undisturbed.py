"""Studies that nothing disturbs: the numbers that every other one must end with, and an empty store to copy."""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path
from subprocess import run
from typing import Any

from faults.table.lab import Lab, Material, numbers

from cifar_lab.store.journal import read_events


@cache
def _study(root: Path, words: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], float]:
    folder = root / "undisturbed" / "-".join(words or ("plain",)).replace("/", "_")
    lab = Lab(folder=folder, material=Material(root=root))
    done = lab.run(*lab.line("--offline", *words))
    assert done.code == 0, done.err
    return {record.fingerprint: numbers(record) for record in lab.records()}, training_seconds(lab)


def study(material: Material, *words: str) -> dict[str, dict[str, Any]]:
    """Return the numbers of each cell by fingerprint; `words`: overrides and options of the command line."""
    return _study(material.root, words)[0]


def seconds(material: Material, *words: str) -> float:
    """Return the seconds from the first start of a cell to the last end."""
    return _study(material.root, words)[1]


def training_seconds(lab: Lab) -> float:
    """Return the seconds from the first start of a cell to the last end, by the journals."""
    times = [event.time for record in lab.records() for event in read_events(record.folder)]
    return (max(times) - min(times)) / 1000


def copy_store(material: Material, place: Path) -> Path:
    """Copy an MLflow database without runs to `place`, which saves the seconds in which MLflow makes its tables."""
    empty = material.root / "empty" / "mlflow.db"
    if not empty.exists():
        empty.parent.mkdir(exist_ok=True)
        program = (
            "import sys; from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore;"
            "SqlAlchemyStore('sqlite:///' + sys.argv[1], sys.argv[2])"
        )
        line = [sys.executable, "-c", program, str(empty), str(empty.parent / "artifacts")]
        run(line, check=True, capture_output=True, env=material.environment())
    return Path(shutil.copy(empty, place))
