"""The tree of errors, its exit codes, and the nearest name."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from cifar_lab import errors
from cifar_lab.errors import CifarLabError, UsageError, described, first_line, nearest, plain_rule

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
DRAWN = re.compile(r"^(?P<lines>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: {2,}(?P<meaning>.*))?$", re.MULTILINE)


def drawn() -> dict[str, str | None]:
    """Class and parent, as the docstring's tree has them."""
    assert errors.__doc__ is not None
    above: list[tuple[int, str]] = []
    tree: dict[str, str | None] = {}
    for match in DRAWN.finditer(errors.__doc__):
        if match["lines"].strip(" ") == "" and above:
            continue  # prose
        depth = len(match["lines"])
        above = [(d, name) for d, name in above if d < depth]
        tree[match["name"]] = above[-1][1] if above else None
        above.append((depth, match["name"]))
    return tree


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    parents = {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}
    assert drawn() == parents | {"CifarLabError": None}


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_is_a_cifar_lab_error_with_a_docstring(name: str) -> None:
    assert issubclass(CLASSES[name], CifarLabError)
    assert CLASSES[name].__doc__
    assert str(CLASSES[name]("one line")) == "one line"


@pytest.mark.parametrize("name", CLASSES)
def test_exit_codes_are_2_for_what_was_asked_1_for_what_ran_and_130_for_a_stop(name: str) -> None:
    kind = CLASSES[name]
    by_name = {"Interrupted": 130, "TimeOver": 0}  # the latter was asked for
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else by_name.get(name, 1))


@pytest.mark.parametrize(
    ("name", "valid", "said"),
    [
        ("smal", ["smoke", "small", "writeup"], "; did you mean 'small'?"),
        ("SMALL", ["smoke", "small", "writeup"], "; did you mean 'small'?"),
        ("upper", ["UPPER", "lower"], "; did you mean 'UPPER'?"),
        ("small", ["small"], "; did you mean 'small'?"),
        ("zzz", ["smoke", "small"], "; one of: smoke, small"),
        ("", ["smoke", "small"], "; one of: smoke, small"),
        ("smal", [], ""),
    ],
)
def test_the_nearest_name_or_all_of_them(name: str, valid: list[str], said: str) -> None:
    assert nearest(name, valid) == said
    assert nearest(name, iter(valid)) == said


@given(st.text(), st.lists(st.text(alphabet="abcXYZ_.", min_size=1, max_size=8), max_size=6))
def test_a_hint_names_valid_names_only(name: str, valid: list[str]) -> None:
    hint = nearest(name, valid)
    close = re.fullmatch(r"; did you mean '(.*)'\?", hint)
    assert (close[1] in valid) if close else hint == (f"; one of: {', '.join(valid)}" if valid else "")


class Point(BaseModel, extra="forbid"):
    x: int


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "many", "should be an integer"),
        (int, 1.5, "should be an integer"),
        (float, "wide", "should be a number"),
        (Annotated[int, Field(ge=1)], 0, "should be at least 1"),
        (Annotated[float, Field(le=0.5)], 0.7, "should be at most 0.5"),
        (Annotated[float, Field(gt=0)], 0, "should be greater than 0"),
        (Literal["sgd", "adam"], "sdg", "should be 'sgd' or 'adam'"),
        (str, 3, "should be text"),
        (list[int], 3, "should be a list"),
        (Point, {}, "is missing"),
        (Point, {"x": 1, "y": 2}, "is not known"),
    ],
)
def test_rules_of_pydantic_are_in_plain_words(kind: Any, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert plain_rule(caught.value.errors()[0]["msg"]) == words


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), ("\n \n", ""), ("\n    Some tensors share memory\n  more", "Some tensors share memory"), ("a\nb", "a")],
)
def test_the_first_line_is_the_first_that_is_not_blank(text: str, line: str) -> None:
    assert first_line(RuntimeError(text)) == first_line(text) == line
    assert described(RuntimeError(text)) == (f"RuntimeError: {line}" if line else "RuntimeError")
