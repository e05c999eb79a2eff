"""Out-of-memory errors of a device: detect them, and advise in one line what would fit."""

from __future__ import annotations

import errno
import re

import torch

from cifar_lab.config.recipe import Recipe

GIB = 2**30
SIGNS = (
    "out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator",
    "could not create a primitive", "could not create a memory", "std::bad_alloc",
    "Storage size calculation overflowed",
)  # fmt: skip
"""Messages that occur only in out-of-memory errors of torch, cuDNN, cuBLAS, torch's CPU allocator and oneDNN."""
ASKED_FOR = re.compile(r"[Tt]ried to allocate (\d+(?:\.\d+)?) ?(bytes|[KMG]iB)?")
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation on a device, or on the machine, ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def advice(error: BaseException, recipe: Recipe, device: torch.device, sharing: int, *, graph: bool = False) -> str:
    """Return one line of advice on an out-of-memory `error`: the memory in use, and what to try.

    `sharing`: number of cells that this runner trains on `device` at the same time. `graph`: steps are replayed as a
    CUDA graph, which keeps memory of its own.
    """
    on_gpu = device.type == "cuda"
    where = f"cuda:{device.index or 0}" if on_gpu else "the processor" if device.type == "cpu" else device.type
    state = [*_in_use(device), f"{sharing} cells share {where}" if sharing > 1 else f"one cell on {where}"]
    tries = []
    if sharing > 1:
        tries.append("--cells-per-gpu 1" if on_gpu else "--workers 1 (in Python workers=1)")
    batch = recipe.train.batch_size
    if batch > 1:
        tries.append(f"train.batch_size={_smaller(batch)}{_a_batch_takes(error, batch, device)}")
    if graph and on_gpu:
        tries.append("--no-graph (in Python graph=False)")
    line = f"out of {'GPU ' if on_gpu else ''}memory: {', '.join(state)}"
    return f"{line}; try {', or '.join(tries)}" if tries else line


def _in_use(device: torch.device) -> list[str]:
    """Describe the GPU's memory in use by all processes; empty for other devices."""
    if device.type != "cuda":
        return []
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the driver is out of memory too, or the error has broken the context
        return []
    return [f"{(total - free) / GIB:.1f} of {total / GIB:.1f} GiB in use"]


def _a_batch_takes(error: BaseException, batch: int, device: torch.device) -> str:
    """Describe the peak memory of this cell including its last request; most of it is proportional to the batch."""
    if device.type != "cuda":
        return ""
    try:
        peak = torch.cuda.max_memory_allocated(device)
    except RuntimeError:
        return ""
    needed = peak + _asked_for(str(error))
    return f" (with batches of {batch} a cell takes at least {needed / GIB:.1f} GiB)" if needed else ""


def _asked_for(message: str) -> int:
    """Return the bytes of the failed allocation, from torch's message; 0 if it has none."""
    amount = ASKED_FOR.search(message)
    return round(float(amount[1]) * UNITS[amount[2] or "bytes"]) if amount else 0


def _smaller(batch: int) -> int:
    """Return the largest power of two that is at most half of `batch`."""
    return int(2 ** ((batch // 2).bit_length() - 1))
