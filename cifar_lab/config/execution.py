"""Execution settings of a cell, as they are recorded: device, threads, precision, compilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Execution settings: they may change the last digits of a result and are no part of the question.

    One exception: dropout draws its masks on the device, so for a given seed they differ between a CPU and a GPU, while
    all other random draws are the same.
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

    @classmethod
    def of_record(cls, tree: Mapping[str, Any]) -> Execution:
        """Read the execution of a record, of this version or another."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in normalised(tree).items() if name in known})


THEN = " then "
"""Separator between the GPU models that trained one cell in succession."""


def normalised(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the execution of a record with defaults for fields that its version did not write."""
    defaults = {field.name: field.default for field in fields(Execution) if field.default is not MISSING}
    return {**defaults, **tree}


def what_rounds(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a record's execution that may change the digits of a result.

    Steps that are replayed as a CUDA graph are bit-identical to eager ones, and on a GPU the number of CPU threads has
    no effect: both are left out.
    """
    found = normalised(tree)
    del found["graph"]
    if str(found.get("device", "")).startswith("cuda"):
        found.pop("threads", None)
    return found
