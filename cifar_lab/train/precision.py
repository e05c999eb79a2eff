"""Selection of the precision that a device computes fast in, and its autocast context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

PRODUCTS = frozenset({
    torch.conv1d, torch.conv2d, torch.conv3d, F.linear,
    torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm,
})  # fmt: skip
"""Functions that autocast computes in fewer bits and that take nearly all arithmetic of a network."""
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
    others. On a CPU it is bf16 if it has units for it, else fp32, as rounding saves no time.
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
    """Tell whether `device` has no units for products in `precision`, so that they are no faster than in fp32."""
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


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs in `precision`.

    A processor without units for it computes convolutions and products in fp32, as `RoundedProducts` says.
    """
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    if device.type == "cpu" and is_emulated(precision, device):
        return rounding(dtype)
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


@contextmanager
def rounding(dtype: torch.dtype) -> Iterator[None]:
    """Run a forward pass on the CPU in `dtype`, bfloat16 or float16, without units for it."""
    with torch.autocast("cpu", dtype=dtype), RoundedProducts(dtype):
        yield


class RoundedProducts(TorchFunctionMode):
    """Compute the convolutions and products of autocast on a CPU in fp32 from rounded operands, and round the result.

    That is what hardware units do, which multiply bf16 or fp16 exactly and add in fp32; gradients are rounded at the
    same places, as autograd casts them back. torch's own kernels for a processor without units differ from it in the
    order of additions alone, and take about ten times as long (`benchmarks/rounded_products.py`).
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func not in PRODUCTS or "out" in named or not torch.is_autocast_enabled("cpu"):
            return func(*args, **named)
        with torch.autocast("cpu", enabled=False):
            exact = func(*map(self._rounded, args), **{name: self._rounded(value) for name, value in named.items()})
        return exact.to(self.dtype) if exact.dtype == torch.float32 else exact

    def _rounded(self, value: Any) -> Any:
        """Return a tensor of 16 or 32 bits rounded, in fp32; autocast leaves others as they are, too."""
        cast = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
        return value.to(self.dtype).float() if cast else value


def scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler | None:
    """Return a gradient scaler for training in fp16; None for other precisions.

    fp16 has 5 exponent bits, so small gradients would become 0; bf16 and fp32 have 8 (Micikevicius et al., 2018,
    arXiv:1710.03740). Its state is part of the checkpoint, so that a resumed training continues with the same scale.
    """
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None
