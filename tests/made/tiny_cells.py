"""Cells that are trained in a second, by the code that trains every cell."""

from __future__ import annotations

from pathlib import Path

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.errors import Interrupted
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.worker import CellJob, train_cell

TINY = Recipe().override(
    {"model.blocks": [1], "model.width": 8, "train.epochs": 2, "train.batch_size": 10, "data.val_fraction": 0.2}
)


def tiny_job(runs: Path, images: Path, seed: int = 0) -> CellJob:
    """Return the job of one cell: a network of one block, two epochs."""
    dataset = load(str(images))
    return CellJob(
        fingerprint=TINY.fingerprint(seed=seed, data_hash=dataset.hash), recipe=TINY, seed=seed, data=str(images),
        data_hash=dataset.hash, runs=runs, execution=Execution(device="cpu", threads=1, precision="auto"),
        provenance=provenance(),
    )  # fmt: skip


def stop_in_first_epoch(job: CellJob) -> None:
    """Begin to train a cell, and stop in its first epoch, with a checkpoint."""
    steps = iter(range(100))
    try:
        train_cell(job, stop=lambda: next(steps) == 2)
    except Interrupted:
        return
    raise AssertionError("it was not stopped")
