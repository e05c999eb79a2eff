"""How cells are run: chosen once an invocation, journalled, kept when a cell is resumed."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import psutil

from cifar_lab.errors import UsageError, nearest
from cifar_lab.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

DEVICES = ("auto", "cpu", "cuda", "mps")
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

    def resolved(self, recipe: Recipe) -> Execution:
        """With the precision that this device gives to `recipe`."""
        import torch

        from cifar_lab.train.precision import resolve

        return replace(self, precision=resolve(recipe.train.precision, torch.device(self.device)))

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
        UsageError: an unknown device, one that is not there, or a number of workers below 1.
    """
    found = find_device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers == "auto":
        count = min(cells, gpus() * cells_per_gpu if found == "cuda" else _cpu_workers(cores) if found == "cpu" else 1)
    elif workers.isascii() and workers.isdecimal() and int(workers) >= 1:
        count = int(workers)
    else:
        raise UsageError(f"--workers takes 'auto' or a number from 1 up, got '{workers}'")
    count = max(1, count)
    threads = max(1, cores // count)
    graph = found == "cuda" if graph is None else graph
    return Execution(device=found, threads=threads, precision="auto", compile=compile, graph=graph), count


def find_device(name: str) -> str:
    """`name`, or for `auto` the best device that this machine has."""
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if is_there(device))
    if name not in DEVICES:
        raise UsageError(f"no device named '{name}'{nearest(name, DEVICES)}")
    if not is_there(name):
        raise UsageError(f"--device {name}: this machine has none that torch can use")
    return name


def is_there(device: str) -> bool:
    """Whether torch can use a `cuda`, `mps` or `cpu` device here."""
    import torch

    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()


def gpus() -> int:
    import torch

    return torch.cuda.device_count()


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
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False  # fp32 means fp32; who wants speed takes bf16
        torch.backends.cudnn.allow_tf32 = False
