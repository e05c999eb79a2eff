"""Exceptions of cifar-lab, and helpers for their messages.

The exceptions and the exit codes of commands that end with them::

    CifarLabError
    ├── UsageError             the command line or a configuration is wrong: exit code 2
    │   ├── RecipeError        unknown path, ill-typed or out-of-range value
    │   ├── AblationError      an ablation file that cannot be right
    │   ├── SpaceError         a search space that cannot be right, or is not there
    │   ├── RegistryError      no ablation of that name, or a folder that cannot be read
    │   ├── BudgetError        more parameters than the budget, before anything is trained
    │   ├── DataError          images that are missing, damaged or of another form
    │   └── TrackingError      a store or a runs folder that cannot be used
    │       ├── DamageError    a file of a runs folder that is not as it was written
    │       └── ObjectStoreError   an object store that does not answer, or refuses
    ├── CellError              a cell could not be trained: exit code 1
    ├── ExportError            a network could not be exported, or not to an equal one: exit code 1
    └── Interrupted            Ctrl-C, after the state was saved: exit code 130
        ├── OutOfSpace         no room for what was to be saved: exit code 1
        └── TimeOver           the hours given are over, after the state was saved: exit code 0

A message is one line: the rule, the value that broke it, and the nearest valid name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CLOSE, CLOSE_IF_SHORT, SHORT = 0.5, 0.6, 3
"""Similarity above which a name counts as a misspelling (`difflib`); a higher one for up to `SHORT` characters."""
LONGEST_NAME = 200
"""Maximum characters of a name that are compared: the time grows with the square of the length."""
PLAIN = {
    "Input should": "should",
    "a valid integer, unable to parse string as an integer": "an integer",
    "a valid number, unable to parse string as a number": "a number",
    "a valid integer, got a number with a fractional part": "an integer",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid array": "a list",
    "a valid list": "a list",
    "a valid dictionary": "an object",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "Field required": "is missing",
    "Extra inputs are not permitted": "is not known",
}
"""Shorter words for those of pydantic's rules."""


class CifarLabError(Exception):
    """Base class; `str(error)` can be shown to a user."""

    exit_code = 1


class UsageError(CifarLabError):
    """The request cannot be fulfilled as given."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe, or an override of one, is not valid."""


class AblationError(UsageError):
    """An ablation breaks one of its own rules."""


class SpaceError(UsageError):
    """A search space breaks one of its own rules, or none has that name."""


class RegistryError(UsageError):
    """An ablation, variant or scale is unknown."""


class BudgetError(UsageError):
    """A network has more trainable parameters than the budget allows."""


class DataError(UsageError):
    """A data source cannot be read as square images in classes."""


class TrackingError(UsageError):
    """A place to write results to cannot be used."""


class DamageError(TrackingError):
    """A file of a runs folder is unreadable, or has changed since it was written; the message names file and rule."""


class ObjectStoreError(TrackingError):
    """An object store cannot be reached, or refuses what was asked; the message names its address."""


class CellError(CifarLabError):
    """A cell could not be completed."""


class ExportError(CifarLabError):
    """A network cannot be exported, or what was exported gives other answers; no file was written."""


class Interrupted(CifarLabError):
    """The user stopped the work; completed work is saved. `cifar_lab.run` raises `KeyboardInterrupt` in its place."""

    exit_code = 130


class OutOfSpace(Interrupted):
    """The disk is full: the work stopped as if interrupted, and can be resumed from the last saved state."""

    exit_code = 1


class TimeOver(Interrupted):
    """The hours that the user gave are over: running cells saved and stopped, as was wanted."""

    exit_code = 0


def shortened(text: str, length: int = 200) -> str:
    """Return `text`, or its beginning and end around `…` if it is longer than `length` characters."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def first_line(text: object) -> str:
    """Return the first line that is not blank of a text, such as an error's, without the spaces around it; else ''."""
    return next((line.strip() for line in str(text).splitlines() if line.strip()), "")


def described(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message: `OSError: no such file`."""
    first = first_line(error)
    return f"{type(error).__name__}: {shortened(first)}" if first else type(error).__name__


def first_problem(problems: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the first of pydantic's problems; an unknown name is before a missing one, which it may stand for."""
    return next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])


def plain_rule(message: str) -> str:
    """Return pydantic's message about a value in shorter words: `should be at least 1`, `should be an integer`."""
    rule = message.removeprefix("Value error, ")
    for longer, shorter in PLAIN.items():
        rule = rule.replace(longer, shorter)
    return rule


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for a close name, ignoring case, else `; one of: a, b, c`; '' without names.

    Two-character names that differ in one, such as `r3` and `r8`, are not close.
    """
    names = list(valid)
    folded = {known.lower(): known for known in names}
    cutoff = CLOSE if len(name) > SHORT else CLOSE_IF_SHORT
    close = difflib.get_close_matches(name[:LONGEST_NAME].lower(), folded, n=1, cutoff=cutoff)
    if close:
        return f"; did you mean '{folded[close[0]]}'?"
    return f"; one of: {', '.join(names)}" if names else ""
