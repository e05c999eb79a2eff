"""Base of the parts of an ablation, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from cifar_lab.config.declarative import DeclarativeModel
from cifar_lab.errors import AblationError, CifarLabError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+-]*$", max_length=60)]


class Declaration(DeclarativeModel):
    """Part of an ablation."""

    error: ClassVar[type[CifarLabError]] = AblationError


def as_json(diff: Mapping[str, Any]) -> dict[str, Any]:
    """Convert tuples to lists, as in a recipe on disk."""
    return {path: list(value) if isinstance(value, tuple) else value for path, value in diff.items()}
