"""Checks that all public functions share: the names of their arguments, and single precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from cifar_lab.errors import CifarLabError, UsageError, nearest
from cifar_lab.models.single_precision import single_precision
from cifar_lab.object_store import with_addresses

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, which refuses unknown arguments with the nearest name, and computes in float32.

    Its errors name an object store's address or a packed study, not this machine's copy of it.
    """
    known = list(signature(function).parameters)

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        for name in named:
            if name not in known:
                raise UsageError(f"{function.__name__} has no argument '{name}'{nearest(name, known)}")
        try:
            with single_precision():
                return function(*arguments, **named)
        except CifarLabError as error:
            error.args = (with_addresses(str(error)), *error.args[1:])
            raise

    return call
