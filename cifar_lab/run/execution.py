"""How cells are run: chosen once an invocation, journalled, kept when a cell is resumed."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import psutil

from cifar_lab.errors import UsageError
from cifar_lab.recipe import Recipe
from cifar_lab.run.device import find_device, places

if TYPE_CHECKING:
    from torch import nn

MEMORY_PER_WORKER = 2 * 2**30
"""Bytes of the machine's memory that `--workers auto` counts for each worker on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What may change the last digits of a result without being part of what is asked."""

    device: str
    threads: int
    precision: str
    """As the recipe asks for it, until `resolved`."""
    compile: bool = False
    graph: bool = False
    """Replay a whole training step as one CUDA graph, where it can be captured and equals the eager step."""
    gpu: str | None = None
    """Model of the GPU, as the driver names it; none on other devices and in records of older versions."""

    def resolved(self, recipe: Recipe, place: str = "") -> Execution:
        """Return this execution with the precision that its device gives to `recipe`.

        `place`: the GPU of several, `cuda:1`; without it the current one.
        """
        import torch

        from cifar_lab.train.precision import resolve

        return replace(self, precision=resolve(recipe.train.precision, torch.device(place or self.device)))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def choose(
    device: str, workers: str, cells: int, *, compile: bool = False, graph: bool | None = None, cells_per_gpu: int = 1
) -> tuple[Execution, int]:
    """The execution for an invocation of `cells` cells, and its number of worker processes.

    `workers` is a number or `auto`: on CUDA `cells_per_gpu` a GPU, on the CPU one a core while memory lasts. Threads
    are divided between the workers. The number of all cells counts, not of the missing ones, so that a resumed study
    goes on with the threads that it began with. `graph`: none means that it is on wherever there is CUDA.

    Raises:
        UsageError: an unknown device, one that is not there or has no kernels, or a number of workers below 1.
    """
    found = find_device(device)
    usable = places(found)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers == "auto":
        at_once = {"cuda": len(usable) * cells_per_gpu, "cpu": _cpu_workers(cores)}
        count = min(cells, at_once.get(found.kind, 1))
    elif workers.isascii() and workers.isdecimal() and int(workers) >= 1:
        count = int(workers)
    else:
        raise UsageError(f"--workers takes 'auto' or a number from 1 up, got '{workers}'")
    count = max(1, count)
    threads = max(1, cores // count)
    graph = found.kind == "cuda" if graph is None else graph
    return Execution(device=found.kind, threads=threads, precision="auto", compile=compile, graph=graph), count


def _cpu_workers(cores: int) -> int:
    return max(1, min(cores, int(psutil.virtual_memory().total) // MEMORY_PER_WORKER))


def compiled(net: nn.Module) -> nn.Module:
    """`net` with its forward pass, and the one backward, compiled at the first call."""
    import torch

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns where there is no CUDA
    return torch.compile(net, dynamic=False)  # type: ignore[return-value]


def prepare_process(execution: Execution) -> None:
    """Set this process's threads and device flags; the only place that touches torch's global state."""
    import torch

    torch.set_num_threads(execution.threads)
    if execution.device == "cuda":
        # The fastest of cuDNN's algorithms is chosen by timing where `benchmark` is on: a cell that is resumed, or
        # trained again, may then get another one and other last digits. For the same reason only deterministic ones.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False  # fp32 means fp32; who wants speed takes bf16 or fp16
        torch.backends.cudnn.allow_tf32 = False
        # Sums of products stay in fp32 in every precision; in fp16 a partial sum above 65,504 would be infinite. Only
        # the classifier and the gates of SE are such products: convolutions sum in fp32 anyway.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
