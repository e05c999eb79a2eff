"""Execution settings of a cell, as they are recorded: device, threads, precision, compilation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Execution settings: they may change the last digits of a result and are no part of the question.

    One exception: dropout and stochastic depth draw on the device, so for a given seed they differ between a CPU and a
    GPU, while all other random draws are the same.
    """

    device: str
    threads: int
    precision: str
    """Precision as the recipe names it, until `execution.settings.resolved`."""
    compile: bool = False
    graph: bool = False
    """Replay a whole training step as one CUDA graph, if it can be captured and equals the eager step."""
    gpu: str | None = None
    """Model of the GPU, as the driver names it; None for other devices and in records of older versions.

    In `cell.json`, a cell that was resumed on other models names them all, in their order, with `THEN` between them.
    """

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


THEN = " then "
"""Separator between the GPU models that trained one cell in succession."""
