"""Query the driver about this machine's GPUs through NVML, which needs no CUDA context."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

LIBRARY = "libnvidia-ml.so.1"
DRIVER_FILE = Path("/proc/driver/nvidia/version")
_LONGEST = 96
"""Maximum length in bytes of a name returned by NVML."""


class NvmlDevice(NamedTuple):
    """One GPU."""

    name: str
    capability: tuple[int, int]
    """Compute capability, (9, 0) for an H100."""
    uuid: str
    memory: int
    """Total memory in bytes."""
    used: int
    """Memory in use by all processes, in bytes."""
    busy: int | None = None
    """Per cent of the time in which it computed, over the driver's last sample; None if the driver does not tell."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def cards() -> list[NvmlDevice] | None:
    """Return the GPUs that this process may use, in the driver's order; None if NVML is missing or fails.

    `CUDA_VISIBLE_DEVICES` selects as it does for CUDA, by number or UUID. CUDA's own numbers are the driver's unless
    models are mixed and `CUDA_DEVICE_ORDER` is not `PCI_BUS_ID`.
    """
    library = _library()
    if library is None or library.nvmlInit_v2() != 0:
        return None
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return None
        found = [_card(library, number) for number in range(count.value)]
    finally:
        library.nvmlShutdown()
    known = [card for card in found if card is not None]
    return visible(known, os.environ.get("CUDA_VISIBLE_DEVICES")) if len(known) == len(found) else None


def visible(known: list[NvmlDevice], selection: str | None) -> list[NvmlDevice] | None:
    """Return those of `known` that `CUDA_VISIBLE_DEVICES` selects; None for other forms, such as MIG's."""
    if selection is None:
        return known
    chosen: list[NvmlDevice] = []
    for word in selection.split(",") if selection else []:
        name = word.strip()
        if name.isdecimal():
            matching = known[int(name) : int(name) + 1]
        elif name.startswith("GPU-"):
            matching = [card for card in known if card.uuid.startswith(name)]
        elif name == "-1":
            matching = []
        else:
            return None
        if len(matching) != 1:
            break  # CUDA ignores everything after an index that does not exist
        chosen += matching
    return chosen


def driver() -> str | None:
    """Return the version of NVIDIA's driver; None without one."""
    library = _library()
    if library is not None and library.nvmlInit_v2() == 0:
        try:
            text = ctypes.create_string_buffer(_LONGEST)
            if library.nvmlSystemGetDriverVersion(text, _LONGEST) == 0:
                return text.value.decode()
        finally:
            library.nvmlShutdown()
    if not DRIVER_FILE.exists():
        return None
    version = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", DRIVER_FILE.read_text())
    return version[0] if version else None


def _card(library: Any, number: int) -> NvmlDevice | None:
    handle, memory, major, minor = ctypes.c_void_p(), _Memory(), ctypes.c_int(), ctypes.c_int()
    name, uuid = (ctypes.create_string_buffer(_LONGEST) for _ in range(2))
    codes = (
        library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)),
        library.nvmlDeviceGetName(handle, name, _LONGEST),
        library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)),
        library.nvmlDeviceGetUUID(handle, uuid, _LONGEST),
        library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)),
    )
    if any(codes) or _is_divided(library, handle):
        return None
    return NvmlDevice(
        name=name.value.decode(), capability=(major.value, minor.value), uuid=uuid.value.decode(),
        memory=int(memory.total), used=int(memory.used), busy=_busy(library, handle),
    )  # fmt: skip


def _busy(library: Any, handle: ctypes.c_void_p) -> int | None:
    rates = _Utilization()
    if not hasattr(library, "nvmlDeviceGetUtilizationRates"):
        return None
    return int(rates.gpu) if library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)) == 0 else None


def _is_divided(library: Any, handle: ctypes.c_void_p) -> bool:
    """Tell whether a GPU is divided by MIG; a process then has a part of it, with another name and less memory."""
    current, pending = ctypes.c_uint(), ctypes.c_uint()
    if not hasattr(library, "nvmlDeviceGetMigMode"):  # a driver before MIG
        return False
    return library.nvmlDeviceGetMigMode(handle, ctypes.byref(current), ctypes.byref(pending)) == 0 and current.value > 0


def _library() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None
