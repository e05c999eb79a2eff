"""Provenance of a result: commit, versions and hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from cifar_lab.execution import nvml
from cifar_lab.execution.code_diff import cleaned
from cifar_lab.execution.device import gpu_models
from cifar_lab.store.record_files import Hardware, Provenance
from cifar_lab.text import printable

PACKAGES = ("cifar-lab", "torch", "torchvision", "numpy", "mlflow", "pydantic")
COMMIT = "CIFAR_LAB_COMMIT"
"""Environment variable that names the commit if the code is not a checkout."""
CODE = ("cifar_lab", "ablations")
"""Folders whose changes may affect a result."""
PACKAGE = Path(__file__).resolve().parents[1]


@cache
def provenance() -> Provenance:
    """Return the commit (and whether the code was changed), versions and hardware of this process.

    A copy of a checkout, whose commit the environment names, counts as unchanged.
    """
    is_checkout = _is_checkout()
    commit = _git("rev-parse", "HEAD") if is_checkout else os.environ.get(COMMIT) or None
    hardware = _hardware()
    return Provenance(
        git_commit=commit,
        git_dirty=is_checkout and bool(_git("status", "--porcelain", "--", *CODE)),
        versions={
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
            **(_cuda() if hardware.gpus else {}),
        },
        hardware=hardware,
    )


@cache
def code_diff() -> str:
    """Return the uncommitted changes of the running code, without secrets; empty outside a checkout.

    Bytes that are not UTF-8 are replaced, so that no file raises an error.
    """
    return cleaned(_git("diff", "--no-ext-diff", "--no-textconv", "HEAD", "--", *CODE) or "") if _is_checkout() else ""


@cache
def warning() -> str | None:
    """Return one line on why a checkout's commit is not recorded; None if it is, or outside a checkout."""
    if not (PACKAGE.parent / ".git").exists() or _git("rev-parse", "HEAD") is not None:
        return None
    return f"{PACKAGE.parent}: the commit of the code is not recorded: {_why('rev-parse', 'HEAD')}"


def _is_checkout() -> bool:
    # A package in a virtual environment inside another repository is not part of that repository.
    return _git("ls-files", "--error-unmatch", "cifar_lab/__init__.py") is not None


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in the folder of the code, also if it belongs to another user: its code runs anyway, git only reads it.

    Versions of git before 2.38 do not take `safe.directory` from a command line; `warning` then shows git's message.
    """
    line = ["git", "-c", f"safe.directory={PACKAGE.parent}", "-c", "core.fsmonitor=false", *arguments]
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(line, cwd=PACKAGE.parent, env=environment, capture_output=True, timeout=10, check=True)


def _git(*arguments: str) -> str | None:
    """Return git's output, with a replacement character for bytes that are not UTF-8; None if it fails."""
    try:
        return _run(*arguments).stdout.decode(errors="replace").strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _why(*arguments: str) -> str | None:
    """Return the first line of git's error message."""
    try:
        _run(*arguments)
    except subprocess.CalledProcessError as error:
        return printable(next(iter(error.stderr.decode(errors="replace").strip().splitlines()), "git says nothing"))
    except FileNotFoundError:
        return "git is not installed"
    except (OSError, subprocess.SubprocessError) as error:
        return f"git does not answer ({type(error).__name__})"
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda() -> dict[str, str | None]:
    """Return the versions that may change digits on a GPU."""
    import torch

    # torch.backends.cudnn.version() queries every GPU's capability, which initialises CUDA in the runner.
    library = getattr(torch._C, "_cudnn", None)
    cudnn = str(library.getVersionInt()) if library is not None else None
    return {"cuda": torch.version.cuda, "cudnn": cudnn, "driver": nvml.driver()}


def _hardware() -> Hardware:
    import torch

    gpus = gpu_models()
    memory = {"gpu_memory_gib": tuple(round(gpu.memory / 2**30, 1) for gpu in gpus)} if gpus else {}
    return Hardware(
        platform=platform.platform(),
        processor=_processor(),
        cores=psutil.cpu_count(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpus=tuple(gpu.name for gpu in gpus),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        **memory,
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
