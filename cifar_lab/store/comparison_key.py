"""Key of the invocations whose cells may be compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass

DIGITS = 8
"""Number of hexadecimal digits of a key's digest."""


@dataclass(frozen=True, kw_only=True)
class ComparisonKey:
    """Properties that two invocations have in common if their cells may be compared."""

    ablation: str
    baseline: str
    """Digest of the common baseline recipe and of the numerics version."""
    scale: str
    data_hash: str
    """Hash of the images, whatever the path that they were loaded from."""
    overrides: str
    """Overrides as JSON with sorted keys."""

    @property
    def digest(self) -> str:
        """Return a short digest; MLflow's tags of cells and views contain it, so it never changes."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:DIGITS]
