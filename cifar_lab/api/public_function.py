"""Checks that all public functions share: the names of their arguments, and single precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from cifar_lab.errors import UsageError, nearest
from cifar_lab.models.single_precision import single_precision

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, which refuses unknown arguments with the nearest name, and computes in float32."""
    known = list(signature(function).parameters)

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        for name in named:
            if name not in known:
                raise UsageError(f"{function.__name__} has no argument '{name}'{nearest(name, known)}")
        with single_precision():
            return function(*arguments, **named)

    return call
