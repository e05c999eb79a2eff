"""Machine and software on which a section is measured."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from cifar_lab.data import load
from cifar_lab.execution.provenance import provenance
from cifar_lab.store.record_files import Provenance
from cifar_lab.train.precision import cpu_has_bf16
from side_by_side.asked import Asked
from side_by_side.section import Made

PEERS = ("torchvision", "lightning", "typer", "rich")
LOOK = 2.0
"""Seconds for which the machine's load is measured before a section."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores() -> float:
    """Return the mean number of busy cores while we wait, including those that a host takes from a virtual machine."""
    return psutil.cpu_percent(interval=LOOK) / 100 * (psutil.cpu_count() or 1)


def made(name: str, words: Sequence[str], asked: Asked, *, rounds: int, busy: float, minutes: float) -> Made:
    """Return the provenance of the section `name`, made by a command with `words` beside its name."""
    found = provenance()
    hardware, dataset = found.hardware, load(asked.data)
    has_bf16 = cpu_has_bf16()
    return Made(
        command=shlex.join(["python", "benchmarks/bench.py", "--only", name, *words]),
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        rounds=rounds,
        is_quick=asked.is_quick,
        data=f"images: {dataset.name}, {len(dataset.train_labels):,} to train on, sha256 {dataset.hash[:12]}",
        hardware=f"{hardware.processor}, {cores()} cores, {hardware.memory_gib} GiB, "
        f"{hardware.cpu_capability}, {'with' if has_bf16 else 'without'} units for bf16; only the processor is used",
        versions=", ".join(f"{name} {number}" for name, number in _versions(found.versions).items()),
        commit=_commit(found),
        busy=busy,
        cores=cores(),
        has_bf16=has_bf16,
        minutes=minutes,
    )


def _commit(origin: Provenance) -> str:
    commit = (origin.git_commit or "not a checkout")[:12]
    return commit + (" with changes that were not committed" if origin.git_dirty else "")


def _versions(found: dict[str, str | None]) -> dict[str, str]:
    every = dict(found)
    for name in PEERS:
        try:
            every[name] = version(name)
        except PackageNotFoundError:
            every[name] = "not installed"
    return {name: number for name, number in every.items() if number is not None}


def data_of(source: str) -> str:
    """Return a source in a form that every contender can open from any folder."""
    return source if source in {"synthetic", "cifar10"} else str(Path(source).resolve())
