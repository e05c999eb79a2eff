"""Which code, versions and hardware a number comes from."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("cifar-lab", "torch", "torchvision", "numpy", "mlflow", "pydantic")
PACKAGE = Path(__file__).resolve().parents[1]


@cache
def provenance() -> dict[str, Any]:
    """Commit (and whether it was changed), versions and hardware of this process."""
    commit = _git("rev-parse", "HEAD") if _is_checkout() else None
    return {
        "git_commit": commit,
        "git_dirty": commit is not None and bool(_git("status", "--porcelain", "--", "cifar_lab", "ablations")),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": _hardware(),
    }


@cache
def code_diff() -> str:
    """What differs from the commit in the code that is running; empty outside a checkout."""
    return (_git("diff", "HEAD", "--", "cifar_lab", "ablations") or "") if _is_checkout() else ""


def _is_checkout() -> bool:
    # Installed into a virtual environment inside somebody's repository, the code is still not that repository's.
    return _git("ls-files", "--error-unmatch", "cifar_lab/__init__.py") is not None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    import torch

    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
