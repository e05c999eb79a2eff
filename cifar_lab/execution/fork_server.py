"""Fork server for the workers: a process that has loaded torch, so that workers start at once."""

from __future__ import annotations

import io
import multiprocessing as mp
import os
import platform
import shutil
import signal
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver, popen_forkserver, reduction, spawn, util
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from typing import Any

from cifar_lab import openmp, process_settings
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


SERVER: Any = forkserver.ForkServer()
"""The server of this package: that of multiprocessing belongs to the program that calls this one."""


class _Popen(popen_forkserver.Popen):
    """Start of a process by `SERVER`, without running the program of this one again as multiprocessing does.

    What is sent to workers is defined in this package; a script that calls it needs no `if __name__ == "__main__":`.
    """

    def _launch(self, process_obj: Any) -> None:
        prepared = spawn.get_preparation_data(process_obj.name)
        message = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump({name: prepared[name] for name in prepared if not name.startswith("init_main_")}, message)
            reduction.dump(process_obj, message)
        finally:
            set_spawning_popen(None)
        self.sentinel, channel = SERVER.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # The process sees by the end of this second descriptor that its parent is gone.
        held = os.dup(channel), self.sentinel
        self.finalizer = util.Finalize(self, util.close_fds, held)  # type: ignore[attr-defined]
        with os.fdopen(channel, "wb") as stream:
            stream.write(message.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _Process(ForkServerProcess):
    def run(self) -> None:
        """Do the work; what a user's code prints goes to standard error: the other is for the results of commands."""
        with suppress(OSError):  # standard error may be closed
            os.dup2(2, 1)
        super().run()

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 (multiprocessing's name)
        return _Popen(process_obj)


class _Context(ForkServerContext):
    Process = _Process


def start_fork_server(modules: Sequence[str] = PRELOADED) -> ForkServerContext:
    """Start the server if necessary, without waiting for it; return the context that creates processes.

    Started before torch is imported, it loads torch in parallel with this process. A server that was started with fewer
    `modules` is replaced: no process of it may be running.
    """
    process_settings.set_default_variables(ALLOCATOR | CUDA)
    openmp.spin_briefly()
    _move_out_of_a_long_folder()
    context = _Context()
    if SERVER._forkserver_pid is None or not set(modules) <= set(SERVER._preload_modules):
        stop()
        SERVER.set_forkserver_preload(list(modules))
    # The server ignores signals sent to the whole process group: without it the ends of workers go unnoticed. Only the
    # main thread may change handlers; a server that is started in another one has the usual ones.
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS if is_main}
    try:
        SERVER.ensure_running()
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
    if SERVER._forkserver_pid is not None:
        os.kill(SERVER._forkserver_pid, signal.SIGKILL)
        SERVER._stop()


def _nothing() -> None:
    """Do nothing; the target of a process that only shows that processes can be created."""
