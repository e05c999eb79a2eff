"""Schemas of a record's files, checked before anything is read from them: one rule per field, each with a description.

Records are written atomically; damage comes from editing, incomplete copies, or other programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """Constraint on a value: its description, and a test."""

    words: str
    holds: Callable[[Any], bool]


class Shape(NamedTuple):
    """Checked fields of a file, by dotted path."""

    kinds: Mapping[str, Kind]
    needed: frozenset[str]
    """Paths of the required fields."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Tell whether a value is a finite number; `NaN` and `Infinity`, which Python reads from JSON, are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and _fits(value)


def _fits(value: float) -> bool:
    """Tell whether a number is finite as a float; JSON integers may exceed the range of floats."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


TEXT = Kind("text", lambda value: isinstance(value, str))
WHOLE = Kind("a whole number", _is_whole)
LATEST = 10**14
"""Latest valid time in ms since 1970: the year 5138, within the range of all calendars."""
TIME = Kind("a time in ms since 1970", lambda value: _is_whole(value) and 0 <= value < LATEST)
TEXT_OR_NULL = Kind("text or null", lambda value: value is None or isinstance(value, str))
EXECUTION = Kind(
    "an object with device, threads and precision",
    lambda value: isinstance(value, dict) and (not value or {"device", "threads", "precision"} <= value.keys()),
)
STEP = Kind("a whole number or null", lambda value: value is None or _is_whole(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
NUMBERS = Kind(
    "an object of finite numbers", lambda value: isinstance(value, dict) and all(map(is_finite, value.values()))
)
ENDED = Kind("finished or diverged", lambda value: isinstance(value, str) and value in {"finished", "diverged"})

CELL = Shape(
    {
        "seed": WHOLE, "recipe": OBJECT, "recipe.train": OBJECT, "recipe.train.protocol": TEXT, "data": OBJECT,
        "data.hash": TEXT, "execution": OBJECT, "provenance": OBJECT, "provenance.git_commit": TEXT_OR_NULL,
        "provenance.versions": OBJECT,
        "provenance.hardware": OBJECT,
    },
    frozenset(),  # each reader needs other fields, and names them
)  # fmt: skip
RESULT = Shape(
    {"status": ENDED, "epoch": WHOLE, "step": STEP, "time": TIME, "metrics": OBJECT, "files": OBJECT},
    frozenset({"status", "epoch", "step", "time", "metrics"}),
)
FAILURE = Shape({"error": TEXT, "trace": TEXT, "time": TIME, "out_of_memory": FLAG}, frozenset({"error", "trace"}))
OWNER = Shape(
    {"host": TEXT, "machine": TEXT, "pid": WHOLE, "beat": WHOLE, "time": TIME}, frozenset({"host", "pid", "time"})
)
EVENT = Shape({"event": TEXT, "time": TIME}, frozenset({"event", "time"}))
EVENTS = {
    "points": Shape({**EVENT.kinds, "epoch": WHOLE, "values": NUMBERS}, EVENT.needed | {"epoch", "values"}),
    "checkpoint": Shape({**EVENT.kinds, "epoch": WHOLE, "step": WHOLE}, EVENT.needed | {"epoch"}),
    "start": Shape({**EVENT.kinds, "execution": EXECUTION}, EVENT.needed),
    "resume": Shape(
        {**EVENT.kinds, "epoch": WHOLE, "step": WHOLE, "execution": EXECUTION}, EVENT.needed | {"epoch", "step"}
    ),
    "failed": Shape({**EVENT.kinds, "trace": TEXT}, EVENT.needed | {"trace"}),
    "eager": Shape({**EVENT.kinds, "why": TEXT}, EVENT.needed | {"why"}),
    "damaged": Shape({**EVENT.kinds, "file": TEXT, "why": TEXT, "kept": TEXT_OR_NULL}, EVENT.needed | {"file", "why"}),
    "end": Shape({**EVENT.kinds, "status": TEXT}, EVENT.needed | {"status"}),
}
"""Shapes of a journal's lines, by event; other events need only the common fields."""


def broken(tree: Any, shape: Shape, needed: Iterable[str] = ()) -> str | None:
    """Return the first rule that `tree` violates, with the actual value; None if it is valid.

    `needed`: required paths in addition to those of the shape. Every metric must be a finite number; no metric is
    required, since a diverged training has no accuracy.
    """
    if not isinstance(tree, dict):
        return f"{_short(tree)} is not an object"
    known = {path: _find(tree, path) for path in shape.kinds}
    for path, kind in shape.kinds.items():
        if known[path] is not _ABSENT and not kind.holds(known[path]):
            return f"'{path}' is {_short(known[path])}, not {kind.words}"
    missing = [path for path in (*sorted(shape.needed), *needed) if _find(tree, path) is _ABSENT]
    if missing:
        return f"'{missing[0]}' is missing"
    metrics = tree.get("metrics", {}) if "metrics" in shape.kinds else {}
    bad = next((name for name, value in metrics.items() if not is_finite(value)), None)
    return None if bad is None else f"metric '{bad}' is {_short(metrics[bad])}, not a finite number"


_ABSENT = object()


def _find(tree: Any, path: str) -> Any:
    """Return the value at a dotted path; `_ABSENT` if there is none."""
    for name in path.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return _ABSENT
        tree = tree[name]
    return tree


def _short(value: Any) -> str:
    """Return a value in a short form for a message of one line."""
    text = "null" if value is None else str(value) if isinstance(value, float) else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
