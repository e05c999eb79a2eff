"""The devices of this machine, and whether torch can compute on each GPU."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from typing import NamedTuple

from cifar_lab.errors import UsageError, nearest
from cifar_lab.execution import nvml

KINDS = ("auto", "cpu", "cuda", "mps")
CUDA_INDEX = re.compile(r"cuda:(\d{1,9})", re.ASCII)
ALIASES = {
    **dict.fromkeys(("gpu", "nvidia", "rocm", "hip", "amd"), "cuda"),
    **dict.fromkeys(("metal", "apple"), "mps"),
    **dict.fromkeys(("processor", "x86"), "cpu"),
}
"""Device names used by other tools."""
OLDEST_WITH_WHEELS = (5, 0)
"""Oldest compute capability for which wheels of torch 2 were built: Maxwell."""
FOR_OLDER_CARDS = '`pip install "torch<2.15" --index-url https://download.pytorch.org/whl/cu126`'
"""Last wheels for CUDA 12: kernels from sm_50 to sm_90. CUDA 13 can build none before sm_75, Turing
(pytorch/pytorch issues 172352 and 190385)."""


@dataclass(frozen=True)
class Device:
    """Kind of device, and the index of a GPU if `--device` named a single one."""

    kind: str
    index: int | None = None


def find_device(name: str) -> Device:
    """Return the device of this name; for `auto`, the best kind that this machine has.

    Raises:
        UsageError: the name is unknown, or this machine does not have the device.
    """
    if name == "auto":
        return Device(next(kind for kind in ("cuda", "mps", "cpu") if is_there(kind)))
    require_device_name(name)
    numbered = CUDA_INDEX.fullmatch(name)
    kind = "cuda" if numbered else name
    if not is_there(kind):
        raise UsageError(f"device {name}: this machine has none that torch can use; device auto uses what it has")
    if numbered is None:
        return Device(kind)
    index, last = int(numbered[1]), gpus() - 1
    if index > last:
        have = "only cuda:0" if last == 0 else f"cuda:0 to cuda:{last}"
        raise UsageError(f"device {name}: this machine has {have}; did you mean 'cuda:{last}'?")
    return Device(kind, index)


def require_device_name(name: str) -> None:
    """Check the name of a device without loading torch, so without checking that this machine has it.

    Raises:
        UsageError: no device has this name.
    """
    if name in KINDS or CUDA_INDEX.fullmatch(name):
        return
    if name.startswith("cuda:"):
        raise UsageError(f"device {name}: a GPU is named by its number, cuda:0")
    kind, colon, index = name.lower().partition(":")
    meant = ALIASES.get(kind)
    if meant == "cuda" and CUDA_INDEX.fullmatch(f"{meant}{colon}{index}"):
        meant = f"{meant}{colon}{index}"
    hint = f"; did you mean '{meant}'?" if meant else nearest(name, KINDS)
    raise UsageError(f"no device named '{name}'{hint}")


def is_there(kind: str) -> bool:
    """Tell whether torch can use a `cuda`, `mps` or `cpu` device here."""
    import torch

    if kind == "cuda":
        return torch.cuda.is_available()
    return kind == "cpu" or torch.backends.mps.is_available()


def gpus() -> int:
    """Count the CUDA devices that torch can see."""
    import torch

    return torch.cuda.device_count()


def places(device: Device) -> tuple[str, ...]:
    """Return the GPUs that cells may be trained on, `("cuda:0", "cuda:1")`; empty for other kinds of device.

    A GPU for which torch has no kernels is left out, unless it is the only one or was named explicitly.

    Raises:
        UsageError: torch has no kernels for the GPU that was named, or for any.
    """
    if device.kind != "cuda":
        return ()
    indices = range(gpus()) if device.index is None else (device.index,)
    missing = {index: missing_kernels(index) for index in indices}
    usable = tuple(f"cuda:{index}" for index, line in missing.items() if line is None)
    if not usable:
        first = next(line for line in missing.values() if line is not None)
        raise UsageError(f"{first}; or train on the processor by --device cpu (in Python device='cpu')")
    return usable


class GPUModel(NamedTuple):
    """Model of a GPU: name, compute capability and memory."""

    name: str
    capability: tuple[int, int]
    """Compute capability, (9, 0) for an H100."""
    memory: int
    """Total memory in bytes."""


def gpu_models() -> list[GPUModel]:
    """Return the GPUs that torch can see, in its order; from the driver if it answers.

    Asking torch initialises CUDA, which takes half a GiB of a GPU; the process that only starts workers avoids that.
    CUDA's order is the driver's unless models are mixed: without `CUDA_DEVICE_ORDER=PCI_BUS_ID` the fastest is first.
    """
    import torch

    known, count = nvml.cards(), gpus()
    is_in_order = known is not None and (
        len({card.name for card in known}) <= 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    )
    if known is not None and len(known) == count and is_in_order:
        return [GPUModel(card.name, card.capability, card.memory) for card in known]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns at length about a GPU for which it has no kernels
        found = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [GPUModel(each.name, (each.major, each.minor), each.total_memory) for each in found]


def missing_kernels(index: int) -> str | None:
    """Return one line on why this torch cannot compute on the GPU and what to install; None if it can."""
    import torch

    architectures = torch.cuda.get_arch_list()
    if torch.version.hip is not None or not architectures:  # ROCm has other names; some builds list none
        return None
    gpu = gpu_models()[index]
    capability = gpu.capability
    if has_kernels(capability, architectures):
        return None
    return (
        f"cuda:{index} is a {gpu.name} of compute capability {capability[0]}.{capability[1]}, for which torch "
        f"{torch.__version__} has no kernels (it was built for {', '.join(architectures)}); "
        f"{_what_to_install(capability, architectures)}"
    )


def has_kernels(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Tell whether a GPU of `capability` runs code built for `architectures`, as `torch.cuda.get_arch_list` lists them.

    Machine code (`sm_80`) runs on GPUs of the same major version and at least the same minor one; PTX (`compute_80`)
    is compiled by the driver for every later GPU. With the suffix `a` (`sm_90a`) both run on exactly that version, with
    `f` (`sm_100f`) on later ones of the same major version (CUDA C++ Programming Guide, "Compute Capabilities").
    """
    return any(_runs_on(capability, architecture) for architecture in architectures)


def _runs_on(capability: tuple[int, int], architecture: str) -> bool:
    built = _parse(architecture)
    if built is None:
        return False
    kind, version, suffix = built
    if suffix == "a":
        return capability == version
    if kind == "sm" or suffix == "f":
        return capability[0] == version[0] and capability[1] >= version[1]
    return capability >= version


def _parse(architecture: str) -> tuple[str, tuple[int, int], str] | None:
    """Parse `sm_90a` to `("sm", (9, 0), "a")`; None for a name of another form."""
    parts = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
    return (parts[1], (int(parts[2]), int(parts[3])), parts[4]) if parts else None


def _what_to_install(capability: tuple[int, int], architectures: list[str]) -> str:
    versions = [built[1] for each in architectures if (built := _parse(each)) is not None]
    if versions and capability > max(versions):
        return "install a newer torch: `pip install --upgrade torch`"
    if capability < OLDEST_WITH_WHEELS:
        return "no wheel of torch 2 has any for a GPU that old"
    if versions and capability < min(versions) and capability < (7, 5):
        return f"install a torch build for CUDA 12.6: {FOR_OLDER_CARDS}"
    return "install another torch build, as https://pytorch.org/get-started/locally/ lists them"
