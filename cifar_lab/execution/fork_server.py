"""Fork server for the workers: a process that has loaded torch, so that workers start at once."""

from __future__ import annotations

import multiprocessing as mp
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import Any

from cifar_lab import openmp
from cifar_lab.errors import UsageError

PRELOADED = ("cifar_lab.execution.worker", "cifar_lab.execution.worker_process", "torch._dynamo")
"""Modules loaded before any worker is forked. Every optimizer needs the last, which takes seconds to load."""
WITHOUT_COMPILER = PRELOADED[:2]
"""Modules that suffice to time forward and backward passes."""
SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
"""Signals sent to the whole process group by a terminal, its end, or a scheduler."""
LARGEST_BEFORE, UNLIMITED_FROM = 32 * 2**20, (2, 35)
"""Older glibc limits the threshold: a higher value would be ignored, and every activation mapped anew."""


def allocator(libc: tuple[str, str]) -> dict[str, str]:
    """Return environment variables that make glibc's allocator keep freed memory; empty for another libc.

    `libc`: as `platform.libc_ver()` returns it. By default each training step returns its activations to the kernel and
    faults them in again. The variables are read when a process starts, so the runner sets them before starting the
    server.
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


LONGEST_FOLDER = 70
"""Maximum length in bytes of a folder's path that leaves room for a socket, `pymp-xxxxxxxx/listener-xxxxxxxx`."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
ALLOCATOR = allocator(platform.libc_ver())
CUDA = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Makes torch query the driver for CUDA: initialising CUDA here would break it for every process forked later."""


class _Process(ForkServerProcess):
    """Process that does not run the program of this one again, as multiprocessing does to unpickle what it defines.

    What is sent to workers is defined in this package; a script that calls it needs no `if __name__ == "__main__":`.
    """

    def start(self) -> None:
        program = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = program


class _Context(ForkServerContext):
    Process = _Process


def start_fork_server(modules: Sequence[str] = PRELOADED) -> ForkServerContext:
    """Start the server if necessary, without waiting for it; return the context that creates processes.

    Started before torch is imported, it loads torch in parallel with this process. A server that was started with fewer
    `modules` is replaced: no process of it may be running.
    """
    os.environ.update({name: value for name, value in (ALLOCATOR | CUDA).items() if name not in os.environ})
    openmp.spin_briefly()
    _move_out_of_a_long_folder()
    context = _Context()
    server: Any = forkserver._forkserver
    if server._forkserver_pid is None or not set(modules) <= set(server._preload_modules):
        stop()
        context.set_forkserver_preload(list(modules))
    # The server ignores signals sent to the whole process group: without it the ends of workers go unnoticed.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return context


def _move_out_of_a_long_folder() -> None:
    """Make multiprocessing put its socket in a shorter path: a socket's path is limited to 107 bytes.

    Raises:
        UsageError: no folder with a shorter path is writable.
    """
    config: Any = mp.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is not None or len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER:
        return
    for folder in SHORT_FOLDERS:
        with suppress(OSError):
            made = tempfile.mkdtemp(prefix="pymp-", dir=folder)
            util.Finalize(None, shutil.rmtree, args=[made, True], exitpriority=-100)
            config["tempdir"] = made
            return
    raise UsageError(
        f"TMPDIR {tempfile.gettempdir()} is too long for a socket, {LONGEST_FOLDER} bytes at most, and none of "
        f"{', '.join(SHORT_FOLDERS)} can be written to"
    )


def wait(modules: Sequence[str] = PRELOADED) -> None:
    """Wait until the server has loaded its modules and can create processes."""
    process = start_fork_server(modules).Process(target=_nothing, daemon=True)
    process.start()
    process.join()


def stop() -> None:
    """Stop the server, if there is one, even while it loads: it keeps this process's output streams open."""
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
        server._stop()


def _nothing() -> None:
    """Do nothing; the target of a process that only shows that processes can be created."""
