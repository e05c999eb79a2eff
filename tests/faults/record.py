"""Write the counts of a caused fault to the file that `docs/reliability.md` is made from.

Nothing is written unless the environment variable `CIFAR_LAB_FAULTS_RECORD` names a file: `make test-faults` sets it.
The file holds one JSON object a line, in the order in which the rows ended:

    {"row": "kill_worker", "form": "full", "tried": 50, "held": 50, "lost": [], "broke_off": false, "skipped": "",
     "notes": {"points in MLflow": "2,112"}, "seconds": 141.2, "command": "make test-faults ARGS=…",
     "date": "2026-11-27T10:00:00+00:00", "commit": "8fb5a8e…", "dirty": false, "machine": {"processor": …}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

VARIABLE = "CIFAR_LAB_FAULTS_RECORD"
COUNT = "CIFAR_LAB_FAULTS"
"""`quick` (the default), `full`, a number of tries for every row, or `row=number`; several with commas between."""
KEPT = 20
"""Most descriptions of what was lost that are kept of one row."""


def count(row: str, *, quick: int, full: int) -> int:
    """Return the number of tries that the environment asks for in `row`.

    Raises:
        ValueError: a part of the variable is neither `quick`, `full`, a number nor `row=number`.
    """
    chosen = quick
    own: int | None = None
    for part in filter(None, (piece.strip() for piece in os.environ.get(COUNT, "quick").split(","))):
        name, is_own, number = part.partition("=")
        if is_own and number.isdecimal():
            own = int(number) if name == row else own
        elif part in {"quick", "full"}:
            chosen = {"quick": quick, "full": full}[part]
        elif part.isdecimal():
            chosen = int(part)
        else:
            raise ValueError(f"{COUNT} reads quick, full, a number, or row=number; got '{part}'")
    return chosen if own is None else own


def form() -> str:
    """Return the environment's word for the number of tries."""
    return os.environ.get(COUNT) or "quick"


def record(
    row: str, *, tried: int, lost: Sequence[str] = (), seconds: float = 0.0, notes: Mapping[str, str] | None = None,
    broke_off: bool = False, skipped: str = "",
) -> None:  # fmt: skip
    """Append the counts of one row, if a file for them is named.

    Args:
        row: name of a row of the table (`faults.table.rows`).
        tried: how often the fault was caused.
        lost: one line for each try in which something was lost; at most `tried`.
        seconds: wall-clock time of all tries together.
        notes: further figures by what they count.
        broke_off: the test ended before all tries were made.
        skipped: reason why nothing was tried; empty where something was.
    """
    place = os.environ.get(VARIABLE)
    if not place:
        return
    from cifar_lab.execution.provenance import provenance

    origin = provenance()
    machine = {name: getattr(origin.hardware, name) for name in ("processor", "cores", "memory_gib", "platform")}
    entry: dict[str, Any] = {
        "row": row, "form": form(), "tried": tried, "held": tried - len(lost), "lost": list(lost)[:KEPT],
        "broke_off": broke_off, "skipped": skipped, "notes": dict(notes or {}), "seconds": round(seconds, 1),
        "command": command(row), "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": origin.git_commit, "dirty": origin.git_dirty, "machine": machine,
    }  # fmt: skip
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(entry, ensure_ascii=False) + "\n"
    with path.open("ab", buffering=0) as file:  # one write appends whole lines, though several processes record
        file.write(line.encode())


def command(row: str) -> str:
    """Return the command that causes the fault of one row again."""
    return f'make test-faults ARGS="-k {row}"'
