"""Cells that were stopped before their end and go on from a checkpoint: how far they are, and words for them."""

from __future__ import annotations

from collections.abc import Mapping

from cifar_lab.store.cell_record import CellRecord, State
from cifar_lab.store.journal import JournalReader


def standing(record: CellRecord, state: State) -> str:
    """Return the state of a cell, or `stopped after epoch 1 of 2` of a missing one that goes on from a checkpoint.

    Raises:
        DamageError: the journal cannot be read.
    """
    if state != "missing" or not record.has_checkpoint:
        return state
    points, cell = JournalReader(record.folder).poll(), record.cell()
    return stopped_after(points[-1].epoch if points else 0, cell.recipe.train.epochs if cell is not None else None)


def stopped_after(epoch: int, epochs: int | None) -> str:
    """Return `stopped after epoch 1 of 2`; `epochs`: number of all, None for unknown."""
    if not epoch:
        return "stopped in its first epoch"
    return f"stopped after epoch {epoch}{f' of {epochs}' if epochs is not None else ''}"


def count_states(counts: Mapping[State, int], stopped: int) -> str:
    """Return `12 finished, 2 running, 3 missing (1 stopped)`; `stopped`: number of missing cells with a checkpoint."""
    words = {"missing": f" ({stopped} stopped)" if stopped else ""}
    return ", ".join(f"{count} {state}{words.get(state, '')}" for state, count in counts.items() if count)
