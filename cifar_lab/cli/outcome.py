"""How a run ended."""

from __future__ import annotations

from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """How a run ended: its exit code, and the plan after it as JSON has it; none where it could not be begun."""

    code: int
    tree: dict[str, Any] | None
    interrupted: str = ""
    """Why the run was ended early, by the user or by a full disk; empty where it was not."""
