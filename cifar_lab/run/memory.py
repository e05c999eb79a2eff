"""The most memory that a training has held."""

from __future__ import annotations

import sys

import psutil
import torch


def peak_mib(device: str) -> float:
    """Peak so far, in MiB: allocated on the GPU for CUDA, resident memory of this process elsewhere."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
