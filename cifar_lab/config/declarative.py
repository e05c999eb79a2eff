"""Base model of the data that a user's file declares: an ablation, or a search space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cifar_lab.errors import CifarLabError, first_problem, nearest, plain_rule, shortened


class DeclarativeModel(BaseModel):
    """Frozen model; validation errors are raised as one line of `error`.

    Fields are given by keyword; a first field that is the name may stand alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    error: ClassVar[type[CifarLabError]]
    """Exception that a subclass raises for invalid fields."""

    def __init__(self, *name: object, **fields: object) -> None:
        first = next(iter(type(self).model_fields))
        if name and (len(name) > 1 or first != "name" or "name" in fields):
            got = shortened(repr(name[-1]), 80)
            raise self.error(f"{type(self).__name__} takes its fields by name, as in {first}=…, got {got}")
        if name:
            fields["name"] = name[0]
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise self.error(_one_line(type(self), error)) from error

    @classmethod
    def require_distinct(cls, what: str, values: Iterable[str | int]) -> None:
        """Check that no value occurs twice; `what`: name of their kind in the message.

        Raises:
            CifarLabError: one does; of the type `error`.
        """
        seen: set[str | int] = set()
        for value in values:
            if value in seen:
                raise cls.error(f"{what} '{value}' is named twice")
            seen.add(value)


def _one_line(kind: type[DeclarativeModel], error: ValidationError) -> str:
    """Return the first problem: an unknown field with the nearest valid name, else the first invalid value."""
    first = first_problem(error.errors())
    where = ".".join(str(part) for part in first["loc"])
    got = "" if first["type"] == "missing" else f", got {shortened(repr(first['input']), 80)}"
    hint = nearest(where, kind.model_fields) if first["type"] == "extra_forbidden" else ""
    return f"{kind.__name__}.{where}: {plain_rule(first['msg'])}{got}{hint}"
