"""Which precision a device computes fast in, and the context that makes it so."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def resolve(requested: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """`requested`, or for `auto` bf16 where the device has units for it and fp32 elsewhere.

    Without such units bf16 is emulated, which on an AVX2 processor is ten times slower than fp32.
    """
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    return "fp32"


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices itself (AVX512-BF16 or AMX)."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a forward pass runs in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """Return what scales losses so that fp16 gradients do not vanish; None in other precisions."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None
