"""Choose the execution settings of an invocation: device, threads and workers; prepare a process for them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from cifar_lab.config.execution import Execution
from cifar_lab.config.overrides import parse_number
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError
from cifar_lab.execution import container_limits
from cifar_lab.execution.device import find_device, places

if TYPE_CHECKING:
    from torch import nn

MEMORY_PER_WORKER = 2 * 2**30
"""Bytes of the machine's memory that `--workers auto` counts for each worker on the CPU."""
CONTEXT = 2**29
"""Approximate bytes of GPU memory for the CUDA context of each process."""
MEMORY_SHARE = 0.9
"""Share of a GPU's memory that cells may use together."""
MOST_CELLS_PER_GPU = 8


@dataclass(frozen=True, kw_only=True)
class Node:
    """Resources of a machine of a cluster."""

    cores: int
    gpus: int = 0
    memory: int = 0
    """Bytes."""


def resolved(execution: Execution, recipe: Recipe, place: str = "") -> Execution:
    """Return `execution` with the precision that `recipe` gets on its device.

    `place`: the GPU if there are several, `cuda:1`; without it the current one.
    """
    import torch

    from cifar_lab.train.precision import resolve_precision

    device = torch.device(place or execution.device)
    return replace(execution, precision=resolve_precision(recipe.train.precision, device))


def choose_execution(
    device: str, workers: str, cells: int, *, compile: bool = False, graph: bool | None = None, cells_per_gpu: int = 1
) -> tuple[Execution, int]:
    """Choose the execution for an invocation of `cells` cells, and its number of worker processes.

    `workers` is a number or `auto`: on CUDA `cells_per_gpu` per GPU, on the CPU one per core as far as memory allows.
    Threads are divided among the workers. The total number of cells counts, not the missing ones, so that a resumed
    study keeps its number of threads. On CUDA, where `cells_per_gpu` may be measured, each worker gets the threads that
    it would have with the most cells that may share a GPU. `graph`: None means on if there is CUDA.

    Raises:
        UsageError: the device is unknown, missing or has no kernels, or the number of workers is below 1.
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
        raise UsageError(f"graph: only CUDA has graphs, and this trains on {found.kind}")
    graph = found.kind == "cuda" and graph is not False
    return Execution(device=found.kind, threads=threads, precision="auto", compile=compile, graph=graph), count


def choose_on_cluster(
    nodes: Sequence[Node], device: str, workers: str, cells: int, *, compile: bool = False, graph: bool | None = None,
    cells_per_gpu: int = 1,
) -> tuple[Execution, int]:  # fmt: skip
    """Choose the execution for an invocation of `cells` cells on a cluster, and how many are trained at a time.

    Like `choose_execution`, from the cores, memory and GPUs of `nodes`: on the CPU each cell gets the most threads with
    which that many cells find room at once. More cells than find room wait, or have the cluster grow.

    Raises:
        UsageError: the cluster does not have the device, or the number of workers is below 1.
    """
    gpus = sum(node.gpus for node in nodes)
    kind = _kind_on_cluster(device, gpus)
    if graph and kind != "cuda":
        raise UsageError(f"graph: only CUDA has graphs, and this trains on {kind}")
    room = gpus * cells_per_gpu if kind == "cuda" else sum(_cells_on(node) for node in nodes)
    count = max(1, parse_workers(workers) or min(cells, room))
    if kind == "cuda":
        threads = min(node.cores // (node.gpus * MOST_CELLS_PER_GPU) for node in nodes if node.gpus)
    else:
        most = max((node.cores for node in nodes), default=1)
        fits = (each for each in range(most, 0, -1) if sum(node.cores // each for node in nodes) >= count)
        threads = next(fits, 1)
    graph = kind == "cuda" and graph is not False
    return Execution(device=kind, threads=max(1, threads), precision="auto", compile=compile, graph=graph), count


def _kind_on_cluster(device: str, gpus: int) -> str:
    if device == "auto":
        return "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise UsageError("device cuda: no node of the Ray cluster has a GPU; device auto uses what it has")
    if device not in {"cpu", "cuda"}:
        raise UsageError(f"device {device} does not go with --engine ray, which chooses the GPU: auto, cpu or cuda")
    return device


def _cells_on(node: Node) -> int:
    return min(node.cores, max(1, node.memory // MEMORY_PER_WORKER)) if node.memory else node.cores


def parse_workers(text: str) -> int:
    """Parse a number of worker processes; 0 for `auto`.

    Raises:
        UsageError: the text is neither.
    """
    count = 0 if text == "auto" else parse_number(text, least=1)
    if count is None:
        raise UsageError(f"workers takes 'auto' or a number from 1 up, got '{text}'")
    return count


def cells_per_gpu(busy: float, reserved: int, total_memory: int, cores: int) -> int:
    """Return how many cells should share one GPU, from 1 to `MOST_CELLS_PER_GPU`.

    Enough to keep it busy, within its memory, and with at least one processor core each.

    Args:
        busy: share of a training step during which the GPU computes, above 0 and at most about 1.
        reserved: bytes of GPU memory that one cell takes, without its CUDA context.
        total_memory: bytes of GPU memory.
        cores: processor cores for the cells of this GPU.
    """
    if busy <= 0:
        return 1
    room = int(MEMORY_SHARE * total_memory) // (reserved + CONTEXT)
    return max(1, min(int(1 / busy + 1e-6), room, cores, MOST_CELLS_PER_GPU))


def usable_cores() -> int:
    """Return the number of cores that this process may use, given its affinity, container and Slurm's allocation."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (allotted := os.environ.get("SLURM_CPUS_ON_NODE", "")).isdecimal():  # many clusters enforce nothing
        cores = max(1, min(cores, int(allotted)))
    quota = container_limits.processors()
    return cores if quota is None else max(1, min(cores, int(quota)))


def usable_memory() -> int:
    """Return the bytes of memory that this process may use, given its container limits."""
    total, limit = int(psutil.virtual_memory().total), container_limits.memory()
    return total if limit is None else min(total, limit)


def _cpu_workers(cores: int) -> int:
    return max(1, min(cores, usable_memory() // MEMORY_PER_WORKER))


def compiled(net: nn.Module) -> nn.Module:
    """Return `net` with its forward pass, and its backward pass, compiled at the first call.

    On CUDA the compiler does not choose kernels by timing: a cell that is resumed without a cache must round as before.
    """
    import torch

    if any(parameter.device.type == "cuda" for parameter in net.parameters()):
        from torch._inductor import config

        if hasattr(config, "deterministic"):
            config.deterministic = True
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns on machines without CUDA
    return torch.compile(net, dynamic=False)  # type: ignore[return-value]


def prepare_process(execution: Execution) -> None:
    """Set the threads and device flags of this process; the only place that changes torch's global state."""
    import torch

    torch.set_num_threads(execution.threads)
    if execution.device == "cuda":
        # With `benchmark`, cuDNN chooses algorithms by timing: a cell that is resumed or retrained might get another
        # one and other last digits. For the same reason only deterministic algorithms are used.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False  # fp32 means IEEE fp32; bf16 and fp16 are the fast precisions
        torch.backends.cudnn.allow_tf32 = False
        # Matrix products accumulate in fp32 in every precision; in fp16 a partial sum above 65,504 would be infinite.
        # This concerns only the classifier and the SE gates: convolutions accumulate in fp32 anyway.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
