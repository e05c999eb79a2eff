"""Commands shared by several sections: the lab's programs, and readers of their files."""

from __future__ import annotations

import json
from pathlib import Path

from side_by_side.asked import Asked
from side_by_side.contender import Contender, Results, program

from cifar_lab.execution.fork_server import ALLOCATOR


def steps(asked: Asked, name: str, file: str, width: int, count: tuple[int, int], *words: object) -> Contender:
    """Return a program that times training steps: `count` is (warm-up, timed)."""
    line = program(file, "--width", width, "--data", asked.data, "--warmup", count[0], "--steps", count[1], *words)
    environment = ALLOCATOR if file.startswith(("lab_", "tracked_", "profiled_")) else {}
    return Contender(name=name, line=line, folder=asked.scratch / name, environment=environment)


def only_cell(printed: str, folder: Path) -> Results:  # noqa: ARG001 (a Read)
    """Return the metrics of the one cell in `runs`, which must be finished."""
    (path,) = (folder / "runs").glob("*/result.json")
    result = json.loads(path.read_text())
    if result["status"] != "finished":
        raise ValueError(f"the cell {result['status']}")
    metrics = result["metrics"]
    return {"accuracy": 100 * metrics["test/acc"], "peak_mib": metrics["memory/peak_mib"],
            "training_seconds": metrics["seconds"]}  # fmt: skip
