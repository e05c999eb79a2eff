"""The state from which a training goes on, on disk: whole or not there, read without running code from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cifar_lab.errors import CellError
from cifar_lab.tracking import atomic


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path` by `state`: tensors, numbers, strings, and lists and dicts of these."""
    atomic.write(path, lambda file: torch.save(state, file))


def load(path: Path) -> dict[str, Any] | None:
    """Return the state at `path`, its tensors on the CPU, or None when there is none.

    Whoever goes on from it copies the tensors to where they belong (`Trainer.load_state_dict`).

    Raises:
        CellError: the file is there and cannot be read; a training that starts over would lose what it holds.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        said = f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to start over"
        raise CellError(said) from error
    return state
