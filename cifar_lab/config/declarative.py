"""Base model of the data in a search space's file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from cifar_lab.errors import SpaceError, nearest


class DeclarativeModel(BaseModel):
    """Frozen, keyword-only model; validation errors are raised as one line of a `SpaceError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    def __init__(self, **fields: object) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise SpaceError(_one_line(type(self), error)) from error


def _one_line(kind: type[DeclarativeModel], error: ValidationError) -> str:
    unknown = [other for other in error.errors() if other["type"] == "extra_forbidden"]
    first = (unknown or error.errors())[0]
    where = ".".join(str(part) for part in first["loc"])
    got = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
    hint = nearest(where, kind.model_fields) if unknown else ""
    return f"{kind.__name__}.{where}: {first['msg']}{got}{hint}"
