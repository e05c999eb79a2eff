"""Single cells, trained in this process: what a worker does, without the seconds in which a command starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from faults.table.lab import Material, differences, numbers

from cifar_lab.ablation import registry
from cifar_lab.config.scale import SCALES
from cifar_lab.data import load
from cifar_lab.errors import Interrupted
from cifar_lab.execution.plan import make_plan
from cifar_lab.execution.runner import job_of
from cifar_lab.execution.settings import choose_execution
from cifar_lab.execution.worker import CellJob, train_cell


@contextmanager
def cache_at(folder: Path) -> Iterator[None]:
    """Take images from the cache in `folder`."""
    before = os.environ.get("CIFAR_LAB_CACHE")
    os.environ["CIFAR_LAB_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CIFAR_LAB_CACHE"]
        else:
            os.environ["CIFAR_LAB_CACHE"] = before


def jobs(material: Material, runs: Path, study: str = "tiny", **overrides: Any) -> list[CellJob]:
    """Return the cells of a study as jobs that one worker of two would get."""
    ablation = registry.discover(material.ablations).find(study)
    with cache_at(material.cache):
        dataset = load(str(material.images))
    plan = make_plan(
        ablation, scale=SCALES["writeup"], source=str(material.images), dataset=dataset, runs=runs, overrides=overrides
    )
    execution, _ = choose_execution("cpu", "2", len(plan.cells))
    return [job_of(cell, plan, runs, execution) for cell in plan.cells]


def moved(job: CellJob, runs: Path) -> CellJob:
    """Return the same cell in another folder."""
    return replace(job, runs=runs)


def reference(job: CellJob, runs: Path) -> dict[str, Any]:
    """Train a cell that nothing disturbs; return its numbers."""
    own = moved(job, runs)
    train_cell(own)
    return numbers(own.record)


def train_until(job: CellJob, epoch: int) -> None:
    """Train a cell to the end of an epoch, and stop it there: its folder then holds a checkpoint."""
    seen: list[int] = []

    def progress(now: int, step: int, steps: int) -> None:
        seen[:] = [now if step == steps else now - 1]

    try:
        train_cell(job, progress, lambda: bool(seen) and seen[0] >= epoch)
    except Interrupted:
        return
    raise AssertionError("the cell came to its end before it was to be stopped")


def trained_on(job: CellJob, expected: Mapping[str, Any]) -> list[str]:
    """Train a cell from where it stands; return what is wrong with its end."""
    try:
        train_cell(job)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is counted)
        return [f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"]
    return differences([job.record], {job.fingerprint: expected})
