"""Resource limits of this process's container: control groups, versions 1 and 2.

Docker, Kubernetes, systemd and Slurm set them. The machine's own numbers, which psutil and the kernel's other files
give, do not show them. Source: the Linux kernel's documentation, "Control Group v2" and "cgroup-v1/memory".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

UNLIMITED = 2**60
"""Bytes from which a version 1 limit means none: without a limit the file holds the largest number of pages."""


def processors(root: Path = Path("/")) -> float | None:
    """Return the processor time that this process may use, in cores (`1.5`); None without a limit.

    `root`: where `proc` and `sys` are, for tests.
    """
    return _least(root, "cpu", _quota)


def memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that this process may use; None without a limit."""
    limit = _least(root, "memory", _memory_limit)
    return None if limit is None else int(limit)


def _least(root: Path, controller: str, read: Callable[[Path], float | None]) -> float | None:
    """Return the lowest limit of the process's group and of the groups around it."""
    limits = [limit for folder in _folders(root, controller) if (limit := read(folder)) is not None]
    return min(limits, default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's group for `controller` and of those around it, up to the mount's own."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if not names:  # version 2 has one tree for all controllers
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif controller in names.split(","):
            mounts = [root / "sys/fs/cgroup" / each for each in dict.fromkeys([names, controller])]
        else:
            continue
        for mount in mounts:
            inside = Path(path.lstrip("/"))
            # Without a namespace of its own a container reads its path on the host, which is not in its mount.
            yield from (mount / part for part in [inside, *inside.parents] if ".." not in part.parts)


def _quota(folder: Path) -> float | None:
    quota, period = [*_text(folder / "cpu.max").split(), "", ""][:2]
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:  # else "max" or -1
        return int(quota) / int(period)
    return None


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name).strip()
        if text.isdecimal() and 0 < int(text) < UNLIMITED:
            return int(text)
    return None


def _text(path: Path) -> str:
    """Return the content of a kernel file; empty if it is missing or not readable for this process."""
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""
