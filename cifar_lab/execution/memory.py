"""Measure the peak memory of a training process."""

from __future__ import annotations

import sys

import psutil
import torch


def peaks(device: str) -> dict[str, float]:
    """Return the memory peaks for an epoch's point; on CUDA also the memory reserved by the process."""
    found = {"memory/peak_mib": peak_mib(device)}
    if device.startswith("cuda"):
        found["memory/reserved_mib"] = torch.cuda.max_memory_reserved(device) / 2**20
    return found


def peak_mib(device: str) -> float:
    """Return the peak so far in MiB: allocated GPU memory on CUDA, resident memory of this process elsewhere."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
