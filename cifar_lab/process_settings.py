"""Environment variables and levels of loggers that libraries need, taken back where the process is a user's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

_variables: dict[str, tuple[str | None, str]] = {}
"""For each variable that was set: its value before, and the one that it was given."""
_levels: dict[str, tuple[int, int]] = {}
"""The same for the levels of loggers."""
_lock = Lock()
_depth = 0
"""Number of calls of `restored` that have not ended, in all threads."""


def set_variables(values: Mapping[str, str]) -> None:
    """Set environment variables, by name."""
    for name, value in values.items():
        before = _variables[name][0] if name in _variables else os.environ.get(name)
        _variables[name] = before, value
        os.environ[name] = value


def set_default_variables(values: Mapping[str, str]) -> None:
    """Set those environment variables that the user has not set."""
    set_variables({name: value for name, value in values.items() if name not in os.environ})


def set_log_levels(levels: Mapping[str, int]) -> None:
    """Set the lowest level that each logger, by name, passes on."""
    for name, level in levels.items():
        logger = logging.getLogger(name)
        before = _levels[name][0] if name in _levels else logger.level
        _levels[name] = before, level
        logger.setLevel(level)


@contextmanager
def restored() -> Iterator[None]:
    """Take back in the end what was set in the body; what the user has changed since stays.

    Of calls that overlap in several threads, the last to end takes it back.
    """
    global _depth
    with _lock:
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _restore()


def _restore() -> None:
    for name, (before, given) in _variables.items():
        if os.environ.get(name) == given:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
    for name, (level, given_level) in _levels.items():
        logger = logging.getLogger(name)
        if logger.level == given_level:
            logger.setLevel(level)
    _variables.clear()
    _levels.clear()
