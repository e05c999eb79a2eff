"""Report damage beside the data that could be read."""

from __future__ import annotations

from collections.abc import Iterable

from cifar_lab.cli import console


def say_damage(lines: Iterable[str]) -> int:
    """Print each damage once, on standard error; return the exit code: 1 if there is any."""
    found = list(dict.fromkeys(lines))
    for line in found:
        console.say(f"damaged, and not used: {line}")
    return 1 if found else 0
