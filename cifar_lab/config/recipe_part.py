"""Base of the parts of a recipe, and what several of them share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RecipePart(BaseModel):
    """Base of the parts of a recipe: the first line of a field's docstring is its line in `describe recipe`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def with_name(value: object) -> object:
    """Return the object of an entry of a list that is given by its name alone."""
    return {"name": value} if isinstance(value, str) else value
