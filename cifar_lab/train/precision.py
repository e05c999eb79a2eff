"""Selection of the precision that a device computes fast in, and its autocast context."""

from __future__ import annotations

import re
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
Requested = Literal["auto", "fp32", "bf16", "fp16"]
"""Precision as requested by a recipe."""
FIRST_WITH_TENSOR_CORES, FIRST_WITH_BF16 = (7, 0), (8, 0)
"""Compute capabilities of Volta (V100) and Ampere (A100)."""
TURING_WITHOUT_TENSOR_CORES = re.compile(r"\bGTX 16\d\d|\bMX[45]50\b|\bT(?:400|500|550|600|1000|1200|2000)\b")
"""Names of GPUs of capability 7.5 without tensor cores; only the name distinguishes them."""


def resolve_precision(requested: Requested, device: torch.device) -> Precision:
    """Return `requested`, or for `auto` the fastest precision that `device` supports in hardware.

    On CUDA that is bf16 from Ampere on, fp16 on older GPUs with tensor cores (V100, T4, RTX 20), and fp32 on the
    others. On a CPU it is bf16 if it has units for it, else fp32: emulated bf16 is ten times slower than fp32 on an
    AVX2 processor.
    """
    if requested != "auto":
        return requested
    if device.type == "cuda":
        if has_bf16(device):
            return "bf16"
        return "fp16" if has_tensor_cores(device) else "fp32"
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    return "fp32"


def is_emulated(precision: Precision, device: torch.device) -> bool:
    """Tell whether `device` has no units for products in `precision`, so that they are slower than in fp32."""
    if precision == "fp32" or device.type not in ("cpu", "cuda"):
        return False
    if device.type == "cpu":
        return not (cpu_has_bf16() if precision == "bf16" else _cpu_has("avx512_fp16", "amx_fp16"))
    return not (has_bf16(device) if precision == "bf16" else has_tensor_cores(device))


def has_bf16(device: torch.device) -> bool:
    """Tell whether this GPU multiplies bf16 matrices in hardware.

    `torch.cuda.is_bf16_supported` considers only the current device, and counts emulation unless told not to.
    """
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= FIRST_WITH_BF16


def has_tensor_cores(device: torch.device) -> bool:
    """Tell whether this CUDA GPU has units for products of fp16 matrices."""
    if torch.cuda.get_device_capability(device) < FIRST_WITH_TENSOR_CORES:
        return False
    return TURING_WITHOUT_TENSOR_CORES.search(torch.cuda.get_device_name(device)) is None


def cpu_has_bf16() -> bool:
    """Tell whether this CPU multiplies bf16 matrices in hardware (AVX512-BF16 or AMX)."""
    return _cpu_has("avx512_bf16", "amx_bf16")


def _cpu_has(*units: str) -> bool:
    """Tell whether this CPU has one of `units`, as torch names them; False for a torch that does not tell."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(unit) for unit in units)


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context in which a forward pass runs in `precision`."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler | None:
    """Return a gradient scaler for training in fp16; None for other precisions.

    fp16 has 5 exponent bits, so small gradients would become 0; bf16 and fp32 have 8 (Micikevicius et al., 2018,
    arXiv:1710.03740). Its state is part of the checkpoint, so that a resumed training continues with the same scale.
    """
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None
