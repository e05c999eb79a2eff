"""The base of all parts of a recipe, and the types that they share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LARGEST, LONGEST, LARGEST_BATCH = 2**53, 10**7, 10**6
"""Upper limits of every count (integers are exact in JSON up to here), of epochs, and of the batch size."""

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Kernel = Annotated[int, Field(ge=1, le=11)]


class RecipePart(BaseModel):
    """Base of the parts of a recipe: the first line of a field's docstring is its line in `describe recipe`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def with_name(value: object) -> object:
    """Return the object of an entry of a list that is given by its name alone."""
    return {"name": value} if isinstance(value, str) else value
