"""Machine and software on which a section is measured."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from cifar_lab.data import load
from cifar_lab.execution.provenance import provenance
from cifar_lab.train.precision import cpu_has_bf16
from side_by_side.contender import Asked


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores() -> float:
    """Return the mean number of busy cores in two seconds, including those that a host takes from a virtual machine."""
    return psutil.cpu_percent(interval=2.0) / 100 * (psutil.cpu_count() or 1)


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions; `not installed` where there is none."""

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    return {package: installed(package) for package in packages}


def made(name: str, words: Sequence[str], asked: Asked, **more: Any) -> dict[str, Any]:
    """Return the provenance of the section `name`, made by a command with `words` beside its name."""
    origin, dataset, has_bf16 = provenance(), load(asked.data), cpu_has_bf16()
    hardware = origin.hardware
    every = {**origin.versions, **versions("torchvision", "lightning", "typer", "rich")}
    dirty = " with changes that were not committed" if origin.git_dirty else ""
    return {
        "command": shlex.join(["python", "benchmarks/bench.py", "--only", name, *words]),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "is_quick": asked.is_quick,
        "data": f"images: {dataset.name}, {len(dataset.train_labels):,} to train on, sha256 {dataset.hash[:12]}",
        "hardware": f"{hardware.processor}, {cores()} cores, {hardware.memory_gib} GiB, "
        f"{hardware.cpu_capability}, {'with' if has_bf16 else 'without'} units for bf16; only the processor is used",
        "versions": ", ".join(f"{name} {number}" for name, number in every.items() if number is not None),
        "commit": (origin.git_commit or "not a checkout")[:12] + dirty,
        "cores": cores(),
        "has_bf16": has_bf16,
        **more,
    }
