"""Number of random examples of the tests that take long for each."""

from __future__ import annotations

from hypothesis import settings

FEWER = 3
"""Divisor of the quick tier."""


def examples(number: int) -> int:
    """Return `number` in the profile `thorough`, which `make test-all` loads, and a third of it otherwise."""
    return number if settings.get_current_profile_name() == "thorough" else number // FEWER
