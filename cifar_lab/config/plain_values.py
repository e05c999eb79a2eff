"""Plain Python values of what notebooks pass: numbers and arrays of numpy, tensors."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

PLAIN = (bool, int, float, str, type(None))


def plain(value: Any) -> Any:
    """Return a value as plain Python, and what lists and mappings hold, too; values of other kinds as they are.

    Numbers of numpy become `int`, `float` or `bool`, its arrays and tensors lists.
    """
    if type(value) in PLAIN or isinstance(value, type):
        return value
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return value.tolist() if callable(getattr(value, "tolist", None)) else value


def find_code(value: Any) -> Callable[..., Any] | None:
    """Return the first function or class in a value, a list or a mapping; None without any."""
    if callable(value):
        return value  # type: ignore[no-any-return]
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, map(find_code, inside)), None)
