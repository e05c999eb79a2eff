"""Describe the machine, measure its peak performance, and time steps on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from side_by_side.machine import versions

from on_gpu.pack import Pack

SIDE = 8192
"""Size of the square matrices whose product gives the peak."""


def run(pack: Pack) -> None:
    """Record the GPU, driver, versions and clocks, and whether torch has kernels for this GPU; then its peaks."""
    pack.note(
        "machine", python=sys.version.split()[0], torch=torch.__version__, cuda=str(torch.version.cuda),
        cudnn=torch.backends.cudnn.version(), cores=os.cpu_count(),
        versions=versions("torchvision", "triton", "numpy"),
    )  # fmt: skip
    if pack.is_cuda:
        card, kernels = torch.cuda.get_device_properties(0), torch.cuda.get_arch_list()
        capability = f"sm_{card.major}{card.minor}"
        pack.note(
            "machine", card=card.name, multiprocessors=card.multi_processor_count, kernels=kernels,
            memory_gib=round(card.total_memory / 2**30, 1), driver=smi("driver_version"),
            power_limit=smi("power.limit"), clock_idle=smi("clocks.sm"), clock_most=smi("clocks.max.sm"),
            clock_memory=smi("clocks.max.mem"), capability=capability, has_kernels=capability in kernels,
        )  # fmt: skip
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32, "fp32": torch.float32}
    for name, dtype in kinds.items():
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        product = Product(pack, dtype)
        milliseconds(pack.device, product, pack.size(5, 1))
        ms = median(milliseconds(pack.device, product, pack.size(10, 1)) for _ in range(3))
        pack.note("ceilings", **{name: product.tflops(ms)})
    source = torch.randn(pack.size(2**30, 2**20), device=pack.device)
    target = source.clone()
    times = [milliseconds(pack.device, lambda: target.copy_(source), 5) for _ in range(3)]
    pack.note("ceilings", copy_tb_per_second=8 * source.numel() / median(times) / 1e9)
    if pack.is_cuda:
        pack.note("machine", clock_busy=smi("clocks.sm"), temperature=smi("temperature.gpu"))


class Product:
    """Product of two random square matrices; random, as a product of zeros is faster than any real one."""

    def __init__(self, pack: Pack, dtype: torch.dtype = torch.bfloat16) -> None:
        self.side = pack.size(SIDE, 128)
        self.a, self.b = (torch.randn(self.side, self.side, device=pack.device).to(dtype) for _ in range(2))
        self.out = torch.empty_like(self.a)

    def __call__(self) -> None:
        torch.mm(self.a, self.b, out=self.out)

    def tflops(self, milliseconds: float) -> float:
        return 2 * self.side**3 / milliseconds / 1e9


def smi(field: str) -> str:
    """Return one field of the driver's report, or an empty string."""
    try:
        command = ["nvidia-smi", "-i", "0", f"--query-gpu={field}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(device: torch.device, step: Callable[[], object], steps: int) -> float:
    """Return the mean milliseconds of `steps` calls, by the device's clock; the device begins and ends idle."""
    synchronise(device)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
    began = time.perf_counter()
    for event in events[:1]:
        event.record()
    for _ in range(steps):
        step()
    if not events:
        return 1000 * (time.perf_counter() - began) / steps
    events[1].record()
    events[1].synchronize()
    return events[0].elapsed_time(events[1]) / steps


def host_milliseconds(device: torch.device, step: Callable[[], object], repeats: int) -> float:
    """Return the median milliseconds in which the host hands a step to an idle device."""
    times = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - began))
    synchronise(device)
    return median(times)
