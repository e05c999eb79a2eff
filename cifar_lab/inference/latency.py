"""Latency of functions on one processor core, measured in turns so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from cifar_lab.config.execution import Execution
from cifar_lab.execution.settings import prepare_process

WARM_UP, LEAST, MOST = 3, 20, 1000
"""Calls of each function that are not counted, and the limits of the number of those that are."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Percentiles of the duration of a call, in ms."""

    calls: int
    p50: float
    p95: float


def measure_latencies(functions: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Latency]:
    """Return the latency of each function, called in turns; `seconds`: time for the calls of one function."""
    for function in functions.values():
        for _ in range(WARM_UP):
            function()
    taken: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds * len(functions)
    for call in range(MOST):
        if call >= LEAST and time.perf_counter() > end:
            break
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            taken[name].append(1000 * (time.perf_counter() - began))
    return {name: _summarised(times) for name, times in taken.items()}


def _summarised(times: list[float]) -> Latency:
    low, high = np.percentile(times, [50, 95])
    return Latency(calls=len(times), p50=float(low), p95=float(high))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one core inside the block."""
    before = torch.get_num_threads()
    prepare_process(Execution(device="cpu", threads=1, precision="auto"))
    try:
        yield
    finally:
        prepare_process(Execution(device="cpu", threads=before, precision="auto"))
