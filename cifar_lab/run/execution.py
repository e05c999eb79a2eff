"""How cells are run: chosen once an invocation, journalled, kept when a cell is resumed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import psutil

from cifar_lab.errors import UsageError
from cifar_lab.overrides import parse_number
from cifar_lab.recipe import Recipe
from cifar_lab.run import limits
from cifar_lab.run.device import find_device, places

if TYPE_CHECKING:
    from torch import nn

MEMORY_PER_WORKER = 2 * 2**30
"""Bytes of the machine's memory that `--workers auto` counts for each worker on the CPU."""
CONTEXT = 2**29
"""Bytes of a GPU's memory that each process takes for its CUDA context, about."""
MEMORY_SHARE = 0.9
"""Share of a GPU's memory that cells may fill together."""
MOST_CELLS_PER_GPU = 8


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How cells are run: it may change the last digits of a result and is no part of what is asked.

    One thing it changes altogether: dropout draws its masks on the device, so cells with dropout share every other
    draw of a seed between a CPU and a GPU, and not these.
    """

    device: str
    threads: int
    precision: str
    """As the recipe asks for it, until `resolved`."""
    compile: bool = False
    graph: bool = False
    """Replay a whole training step as one CUDA graph, where it can be captured and equals the eager step."""
    gpu: str | None = None
    """Model of the GPU, as the driver names it; none on other devices and in records of older versions.

    In `cell.json`, a cell that was resumed on other models names them all, in their order, with `THEN` between them.
    """

    def resolved(self, recipe: Recipe, place: str = "") -> Execution:
        """Return this execution with the precision that its device gives to `recipe`.

        `place`: the GPU of several, `cuda:1`; without it the current one.
        """
        import torch

        from cifar_lab.train.precision import resolve

        return replace(self, precision=resolve(recipe.train.precision, torch.device(place or self.device)))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_record(cls, tree: Mapping[str, Any]) -> Execution:
        """Return the execution that a record holds, of this version or another."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in normalised(tree).items() if name in known})


THEN = " then "
"""Text between two models of GPUs that trained one cell after each other."""


def normalised(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the execution of a record with defaults for the fields that its version did not write."""
    defaults = {field.name: field.default for field in fields(Execution) if field.default is not MISSING}
    return {**defaults, **tree}


def what_rounds(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what in the execution of a record may change the digits of a result.

    Steps that are replayed as a CUDA graph are bit-equal to eager ones, and on a GPU the processor's threads compute
    nothing: neither counts.
    """
    found = normalised(tree)
    del found["graph"]
    if str(found.get("device", "")).startswith("cuda"):
        found.pop("threads", None)
    return found


def choose(
    device: str, workers: str, cells: int, *, compile: bool = False, graph: bool | None = None, cells_per_gpu: int = 1
) -> tuple[Execution, int]:
    """Return the execution for an invocation of `cells` cells, and its number of worker processes.

    `workers` is a number or `auto`: on CUDA `cells_per_gpu` a GPU, on the CPU one a core while memory lasts. Threads
    are divided between the workers. The number of all cells counts, not of the missing ones, so that a resumed study
    goes on with the threads that it began with. On CUDA, where `cells_per_gpu` may be measured, each worker has the
    threads that it would have among the most that may share a GPU. `graph`: none means that it is on wherever there is
    CUDA.

    Raises:
        UsageError: an unknown device, one that is not there or has no kernels, or a number of workers below 1.
    """
    found = find_device(device)
    usable = places(found)
    cores = usable_cores()
    if workers == "auto":
        at_once = {"cuda": len(usable) * cells_per_gpu, "cpu": _cpu_workers(cores)}
        count = min(cells, at_once.get(found.kind, 1))
    else:
        count = parse_workers(workers)
    count = max(1, count)
    most = max(count, len(usable) * MOST_CELLS_PER_GPU) if found.kind == "cuda" else count
    threads = max(1, cores // most)
    if graph and found.kind != "cuda":
        raise UsageError(f"--graph: only CUDA has graphs, and this trains on {found.kind}")
    graph = found.kind == "cuda" and graph is not False
    return Execution(device=found.kind, threads=threads, precision="auto", compile=compile, graph=graph), count


def parse_workers(text: str) -> int:
    """Return the number of worker processes that `text` names; 0 for `auto`.

    Raises:
        UsageError: something else.
    """
    count = 0 if text == "auto" else parse_number(text, least=1)
    if count is None:
        raise UsageError(f"--workers takes 'auto' or a number from 1 up, got '{text}'")
    return count


def cells_per_gpu(busy: float, reserved: int, total_memory: int, cores: int) -> int:
    """Return how many cells should share one GPU, from 1 to `MOST_CELLS_PER_GPU`.

    As many as keep it busy together, as its memory holds, and as the processor can feed: one core each.

    Args:
        busy: share of a training step's time in which the GPU computes, above 0 and at most about 1.
        reserved: bytes of the GPU's memory that one cell takes, without its CUDA context.
        total_memory: bytes of the GPU's memory.
        cores: processor cores for the cells of this GPU.
    """
    if busy <= 0:
        return 1
    room = int(MEMORY_SHARE * total_memory) // (reserved + CONTEXT)
    return max(1, min(int(1 / busy + 1e-6), room, cores, MOST_CELLS_PER_GPU))


def usable_cores() -> int:
    """Return how many of the machine's cores this process may use: its affinity and its container decide."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = limits.processors()
    return cores if quota is None else max(1, min(cores, int(quota)))


def usable_memory() -> int:
    """Return how many bytes of the machine's memory this process may use: its container decides."""
    total, limit = int(psutil.virtual_memory().total), limits.memory()
    return total if limit is None else min(total, limit)


def _cpu_workers(cores: int) -> int:
    return max(1, min(cores, usable_memory() // MEMORY_PER_WORKER))


def compiled(net: nn.Module) -> nn.Module:
    """Return `net` with its forward pass, and the one backward, compiled at the first call.

    On CUDA the compiler chooses no kernel by timing it: a cell that is resumed where nothing is cached must round as
    it did before.
    """
    import torch

    if any(parameter.device.type == "cuda" for parameter in net.parameters()):
        from torch._inductor import config

        if hasattr(config, "deterministic"):
            config.deterministic = True
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
