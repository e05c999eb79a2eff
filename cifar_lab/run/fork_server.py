"""The process that the workers are forked from: it has torch loaded, so that a worker starts at once."""

from __future__ import annotations

import multiprocessing as mp
import os
import platform
import signal
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from typing import Any

PRELOADED = ["cifar_lab.run.cell", "cifar_lab.run.engine", "torch._dynamo"]
"""What it has loaded before it makes a worker. Every optimizer asks for the last, which takes seconds."""
LARGEST_BEFORE, UNLIMITED_FROM = 32 * 2**20, (2, 35)
"""Older glibc takes no higher threshold: told one, it would keep its lowest, and map every activation anew."""


def allocator(libc: tuple[str, str]) -> dict[str, str]:
    """Settings for glibc's allocator, of `platform.libc_ver()`, with which it keeps its memory; for another libc none.

    By default each training step returns its activations to the kernel and faults them in again. Read when a process
    starts, so the runner sets them before it starts the server.
    """
    name, version = libc
    if name != "glibc":
        return {}
    is_new = tuple(int(part) for part in version.split(".")[:2]) >= UNLIMITED_FROM
    return {
        "MALLOC_MMAP_THRESHOLD_": str(4 * 2**30 if is_new else LARGEST_BEFORE),
        "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
        "MALLOC_TOP_PAD_": str(256 * 2**20),
    }


ALLOCATOR = allocator(platform.libc_ver())
CUDA = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Has torch ask the driver whether there is CUDA: asking CUDA itself would spoil it for every process forked later."""


def start() -> ForkServerContext:
    """Start the server, if it is not there, without waiting for it to be ready; what makes processes from it.

    Called before torch is imported, it loads torch beside this process instead of after it.
    """
    os.environ.update({name: value for name, value in (ALLOCATOR | CUDA).items() if name not in os.environ})
    context: ForkServerContext = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # The server outlives every signal that reaches the whole group: without it nobody learns how workers end.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return context


def wait() -> None:
    """Return once the server can make processes: it has loaded what it preloads, and leaves the processor alone."""
    process = start().Process(target=_nothing, daemon=True)
    process.start()
    process.join()


def stop() -> None:
    """End the server, if there is one, in the middle of what it loads: it holds what this process prints to open."""
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
        server._stop()


def _nothing() -> None:
    """What a process does that is only to show that it can be made."""
