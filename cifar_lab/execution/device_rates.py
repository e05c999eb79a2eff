"""Measure matrix-product throughput and memory bandwidth of a device, within about a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from cifar_lab.train.precision import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIDE, CPU_SIDE = 8192, 1024
"""Sides of the square matrices that are multiplied: large enough to keep every unit busy."""
COPIED = 2**30
"""Bytes copied on a GPU to measure its bandwidth."""
PATIENCE = 0.15
"""Seconds for the measurement of one rate."""


def product(device: torch.device, precision: Precision, side: int | None = None) -> float:
    """Return the FLOP/s of a product of two square matrices; fp32 is IEEE fp32, without TF32.

    `side`: their size; by default the largest usual one whose three matrices fit into a quarter of the free memory.
    """
    dtype = DTYPES[precision]
    if side is None:
        side = _fitting(device, dtype.itemsize)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    with _ieee():
        return 2 * side**3 / _fastest(lambda: torch.mm(a, b, out=out), device)


def bandwidth(device: torch.device, size: int | None = None) -> float:
    """Return the bytes per second, read plus written, when a GPU copies `size` bytes of its memory."""
    size = size or min(COPIED, torch.cuda.mem_get_info(device)[0] // 4)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _fastest(lambda: target.copy_(source), device)


def _fitting(device: torch.device, itemsize: int) -> int:
    if device.type != "cuda":
        return CPU_SIDE
    free = torch.cuda.mem_get_info(device)[0]
    side = SIDE
    while side > CPU_SIDE and 3 * side**2 * max(itemsize, 4) > free // 4:
        side //= 2
    return side


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of several repetitions, after a warm-up."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - began

    once()
    until = time.perf_counter() + PATIENCE
    times = [once()]
    while time.perf_counter() < until:
        times.append(once())
    return min(times)


@contextmanager
def _ieee() -> Iterator[None]:
    """Disable TF32 for matrix products, and restore the flag afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
