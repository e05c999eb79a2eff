"""Base class of stored JSON, the types of its fields, and one-line messages about a field that breaks its rule.

Records are written atomically; damage comes from editing, incomplete copies, or other programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AllowInfNan, BaseModel, ConfigDict, JsonValue, PlainValidator, Strict, ValidationError
from pydantic_core import PydanticCustomError

from cifar_lab.errors import DamageError
from cifar_lab.store import checksum

JsonObject = dict[str, JsonValue]
LATEST = 10**14
"""Latest valid time in ms since 1970: the year 5138, within the range of all calendars."""
LONGEST_VALUE = 40
"""Maximum characters of a value in a message."""
METRICS = "metrics"
"""Field whose entries a message calls metrics."""
RULE = "cifar_lab_rule"
"""Type of the errors whose message is a noun phrase that describes valid values."""
NUMBER = "a finite number"
WORDS = {
    "string_type": "text", "int_type": "a whole number", "int_from_float": "a whole number",
    "bool_type": "true or false", "float_type": NUMBER, "finite_number": NUMBER, "dict_type": "an object",
    "model_type": "an object", "tuple_type": "a list", "list_type": "a list",
}  # fmt: skip
"""Noun phrases that describe valid values, by the type of pydantic's error."""


def _require_time(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LATEST:
        raise PydanticCustomError(RULE, "a time in ms since 1970")
    return value


Text = Annotated[str, Strict()]
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Time = Annotated[int, PlainValidator(_require_time)]
"""Time in ms since 1970."""


class StoredJson(BaseModel):
    """JSON object on disk. Fields of later versions are kept, unread, so that they survive when it is written again."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def as_json(self) -> JsonObject:
        """Return the object as JSON, with the fields that its version wrote and no others."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


Stored = TypeVar("Stored", bound=StoredJson)


def read_stored(path: Path, model: type[Stored]) -> Stored | None:
    """Return the content of the file `path`; None if it does not exist.

    Raises:
        DamageError: it cannot be read, or is invalid; the message names the file and the rule.
    """
    tree = checksum.read_sealed(path)
    if tree is None and not path.exists():
        return None
    return parse_stored(tree, model, f"{path}: damaged")


def parse_stored(tree: object, model: type[Stored], where: str) -> Stored:
    """Return JSON as `model`.

    Raises:
        DamageError: it breaks a rule, which the message names after `where`.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise DamageError(f"{where}: {broken_rule(error)}") from error


def write_stored(path: Path, stored: StoredJson) -> None:
    """Write `stored` with its checksum as the file `path`, atomically."""
    checksum.write_sealed(path, stored.as_json())


def broken_rule(error: ValidationError) -> str:
    """Return the first broken rule of an object with the actual value: wrong values come before missing fields."""
    errors: list[Mapping[str, Any]] = [*error.errors(include_url=False)]
    first = min(errors, key=_order)
    place = ".".join(map(str, first["loc"]))
    if not place:
        return f"{_short(first['input'])} is not an object"
    if first["type"] == "missing":
        return f"'{place}' is missing"
    if first["loc"][0] == METRICS and len(first["loc"]) == 2:
        return f"metric '{first['loc'][1]}' is {_short(first['input'])}, not {NUMBER}"
    return f"'{place}' is {_short(first['input'])}, not {_words(first)}"


def _order(error: Mapping[str, Any]) -> tuple[bool, bool, str]:
    """Return the key by which errors are sorted; equal keys keep the order of the fields."""
    is_missing = error["type"] == "missing"
    return is_missing, error["loc"][:1] == (METRICS,), ".".join(map(str, error["loc"])) if is_missing else ""


def _words(error: Mapping[str, Any]) -> str:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace("'", "")
    if error["type"] == RULE:
        return str(error["msg"])
    return WORDS.get(error["type"], str(error["msg"]))


def _short(value: object) -> str:
    """Return a value in a short form for a message of one line."""
    text = "null" if value is None else str(value) if isinstance(value, float) else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
