"""Damage of files on disks: a flipped bit, a page of zeros, a lost end."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

PAGE = 4096
TIMED = {
    "seconds", "epoch_seconds", "images_per_second", "memory/peak_mib", "memory/reserved_mib",
    "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
}  # fmt: skip
"""Metrics that tell of the machine."""


def _flip(content: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(content))
    return content[:position] + bytes([content[position] ^ 1 << chance.randrange(8)]) + content[position + 1 :]


def _zero(content: bytes, chance: random.Random) -> bytes:
    first = PAGE * chance.randrange(len(content) // PAGE + 1)
    first = min(first, len(content) - 1)
    return content[:first] + bytes(min(PAGE, len(content) - first)) + content[first + PAGE :]


def _truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


FLIPS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a flipped bit": _flip, "a page of zeros": _zero, "truncated": _truncate,
}  # fmt: skip


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file in one of these ways until its content is another; return how, for a message."""
    before = path.read_bytes()
    while True:
        kind = chance.choice([*FLIPS, "a flipped bit"])
        after = FLIPS[kind](before, chance)
        if after != before:
            path.write_bytes(after)
            return f"{path.name}: {kind}, {len(before)} bytes to {len(after)}"
