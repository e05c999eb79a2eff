"""Measure the most memory that a training has held."""

from __future__ import annotations

import sys

import psutil
import torch


def peaks(device: str) -> dict[str, float]:
    """Return the peaks that an epoch's point names: on CUDA also what the process took from the GPU and kept."""
    found = {"memory/peak_mib": peak_mib(device)}
    if device.startswith("cuda"):
        found["memory/reserved_mib"] = torch.cuda.max_memory_reserved(device) / 2**20
    return found


def peak_mib(device: str) -> float:
    """Peak so far, in MiB: allocated on the GPU for CUDA, resident memory of this process elsewhere."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
