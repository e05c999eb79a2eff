"""Load of the machine while a cell trains: processor, memory, GPU; under the names of MLflow's system metrics."""

from __future__ import annotations

import psutil
import torch

from cifar_lab.execution import nvml

PREFIX = "system/"
MEGABYTE = 1e6


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
