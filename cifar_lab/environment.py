"""Numbers that users set by environment variables."""

from __future__ import annotations

import math
import os

from cifar_lab.errors import UsageError, shortened


def environment_number(variable: str, usual: float, *, low: float, high: float, unit: str) -> float:
    """Return the number that an environment variable holds; `usual` where it is empty or not set.

    Raises:
        UsageError: it is no number of `unit` from `low` to `high`, both whole.
    """
    text = os.environ.get(variable)
    if not text:
        return usual
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise UsageError(
            f"{variable} is a number of {unit} from {low:,.0f} to {high:,.0f}, got {shortened(text, 80)!r}"
        )
    return number
