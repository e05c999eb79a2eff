"""Small file systems in memory, filled and emptied by page."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PAGE = 4096
"""Bytes that a file on a tmpfs takes at least."""


def mount(place: Path, size: int) -> Path:
    """Mount a file system in memory of `size` bytes at `place`."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True, capture_output=True)
    return place


def read_only(place: Path) -> None:
    """Mount what is at `place` anew, for reading only."""
    for options in ("bind", "remount,ro,bind"):
        subprocess.run(["mount", "-o", options, str(place), str(place)], check=True, capture_output=True)


def unmount_below(place: Path) -> None:
    """Unmount whatever is mounted below `place`, the last one first."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in reversed([path for path in mounted if path.startswith(f"{place}/")]):
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)


def fill(place: Path, pages: int) -> None:
    """Take all room of the file system at `place` but that for `pages` pages."""
    ballast = place / "ballast"
    room = os.statvfs(place)
    taken = room.f_bavail * room.f_frsize - pages * PAGE
    with ballast.open("ab") as file:
        try:
            for _ in range(max(0, taken) // PAGE):
                file.write(b"\0" * PAGE)
                file.flush()
        except OSError:  # somebody else was quicker to take the last pages
            return


def empty(place: Path) -> None:
    """Give the room back."""
    (place / "ballast").unlink(missing_ok=True)
