"""Load of the machine while a cell trains, under the names of MLflow's system metrics, and peaks of its memory."""

from __future__ import annotations

import sys

import psutil
import torch

from cifar_lab.execution import nvml

PREFIX = "system/"
MEGABYTE = 1e6


def peaks(device: str) -> dict[str, float]:
    """Return the memory peaks for an epoch's point: MiB allocated and reserved on CUDA, resident elsewhere."""
    if device.startswith("cuda"):
        reserved = torch.cuda.max_memory_reserved(device) / 2**20
        return {"memory/peak_mib": torch.cuda.max_memory_allocated(device) / 2**20, "memory/reserved_mib": reserved}
    if sys.platform == "win32":
        return {"memory/peak_mib": psutil.Process().memory_info().peak_wset / 2**20}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"memory/peak_mib": peak / (2**20 if sys.platform == "darwin" else 2**10)}


def system_metrics(device: str) -> dict[str, float]:
    """Return the load since the last call, for an epoch's point; that of the GPU where `device` is one.

    The first call of a process begins the measurement, and its processor load means nothing.
    """
    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
    }
    if device.startswith("cuda"):
        found |= _of_gpu(torch.device(device).index or 0)
    return {PREFIX + name: round(value, 1) for name, value in found.items()}


def _of_gpu(index: int) -> dict[str, float]:
    """Return the load of one visible GPU; empty if the driver does not tell."""
    cards = nvml.cards() or []
    if index >= len(cards):
        return {}
    card = cards[index]
    found = {
        f"gpu_{index}_memory_usage_megabytes": card.used / MEGABYTE,
        f"gpu_{index}_memory_usage_percentage": 100 * card.used / card.memory,
    }
    if card.busy is not None:
        found[f"gpu_{index}_utilization_percentage"] = float(card.busy)
    return found
