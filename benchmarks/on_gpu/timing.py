"""Time steps on the device: with events on CUDA, with a clock elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(device: torch.device, step: Callable[[], object], steps: int) -> float:
    """Return the mean milliseconds of `steps` calls; the device begins and ends idle."""
    synchronise(device)
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(steps):
            step()
        return 1000 * (time.perf_counter() - began) / steps
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    for _ in range(steps):
        step()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / steps


def host_milliseconds(device: torch.device, step: Callable[[], object], repeats: int) -> list[float]:
    """Return, for each of `repeats` calls, the milliseconds in which the host hands a step to an idle device."""
    times = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - began))
    synchronise(device)
    return times
