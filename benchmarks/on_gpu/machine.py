"""Describe the machine, and measure its peak performance."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch

from on_gpu.pack import Pack
from on_gpu.timing import milliseconds

SIDE = 8192
"""Size of the square matrices whose product gives the peak."""


def machine(pack: Pack) -> None:
    """Record the GPU, driver, versions and clocks, and whether torch has kernels for this GPU."""
    pack.note(
        "machine",
        python=sys.version.split()[0], torch=torch.__version__, cuda=str(torch.version.cuda),
        cudnn=torch.backends.cudnn.version(), cores=os.cpu_count(),
        versions={name: _version(name) for name in ("torchvision", "triton", "numpy", "lightning")},
    )  # fmt: skip
    if pack.is_cuda:
        properties = torch.cuda.get_device_properties(0)
        capability, kernels = torch.cuda.get_device_capability(0), torch.cuda.get_arch_list()
        pack.note(
            "machine",
            card=properties.name, multiprocessors=properties.multi_processor_count,
            memory_gib=round(properties.total_memory / 2**30, 1),
            driver=smi("driver_version"), power_limit=smi("power.limit"), clock_idle=smi("clocks.sm"),
            clock_most=smi("clocks.max.sm"), clock_memory=smi("clocks.max.mem"),
            capability="sm_{}{}".format(*capability), kernels=kernels,
            has_kernels="sm_{}{}".format(*capability) in kernels,
        )  # fmt: skip
    ceilings(pack)


def ceilings(pack: Pack) -> None:
    """Measure products of random matrices in four precisions, and the bandwidth of a copy."""
    tf32 = torch.backends.cuda.matmul.allow_tf32
    try:
        for name, dtype, is_tf32 in (
            ("bf16", torch.bfloat16, False), ("fp16", torch.float16, False),
            ("tf32", torch.float32, True), ("fp32", torch.float32, False),
        ):  # fmt: skip
            torch.backends.cuda.matmul.allow_tf32 = is_tf32
            pack.note("ceilings", **{name: _product(pack, dtype)})
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    source = torch.randn(pack.size(2**30, 2**20), device=pack.device)
    target = torch.empty_like(source)
    target.copy_(source)
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

    def __call__(self) -> Any:
        return torch.mm(self.a, self.b, out=self.out)

    def tflops(self, milliseconds: float) -> float:
        return 2 * self.side**3 / milliseconds / 1e9


def _product(pack: Pack, dtype: torch.dtype) -> float:
    product = Product(pack, dtype)
    steps = pack.size(10, 1)
    milliseconds(pack.device, product, pack.size(5, 1))
    return product.tflops(median(milliseconds(pack.device, product, steps) for _ in range(3)))


def smi(field: str) -> str:
    """Return one field of the driver's report, or an empty string."""
    try:
        command = ["nvidia-smi", "-i", "0", f"--query-gpu={field}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
