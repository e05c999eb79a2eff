"""Outcome of a run."""

from __future__ import annotations

from typing import Any, NamedTuple


class CommandOutcome(NamedTuple):
    """Outcome of a run: its exit code, and the final plan as JSON; None if it could not begin."""

    code: int
    tree: dict[str, Any] | None
    interrupted: str = ""
    """Reason for an early end, by the user or by a full disk; empty otherwise."""
