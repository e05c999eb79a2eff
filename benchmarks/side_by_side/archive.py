"""`benchmarks.json`: every number of the page, and the measurements of each round."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from side_by_side.goal import Goal
from side_by_side.page import page
from side_by_side.section import Entry, Table
from side_by_side.spread import Found, Spread

PAGE, NUMBERS = "benchmarks.md", "benchmarks.json"
_ENTRIES = TypeAdapter(tuple[Entry, ...])


def write(folder: Path, entries: Sequence[Entry], names: Sequence[str] = ()) -> None:
    """Write both files, atomically. `names`: all sections, including those that are not in `entries`."""
    missing = [name for name in names if name not in {entry.section.name for entry in entries}]
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([as_tree(entry) for entry in entries], indent=1, ensure_ascii=False) + "\n"
    for name, content in ((NUMBERS, text), (PAGE, page(entries, missing))):
        partial = folder / f".{name}.partial"
        partial.write_text(content, encoding="utf-8")
        partial.replace(folder / name)


def read(folder: Path) -> tuple[Entry, ...]:
    """Return the entries written by `write`; empty without a file."""
    path = folder / NUMBERS
    return _ENTRIES.validate_json(path.read_bytes()) if path.exists() else ()


def merge(before: Iterable[Entry], now: Iterable[Entry], order: Sequence[str]) -> list[Entry]:
    """Return the latest entry of each section, in `order`; a section is always measured as a whole."""
    latest = {entry.section.name: entry for entry in (*before, *now)}
    return [latest[name] for name in order if name in latest]


def as_tree(entry: Entry) -> dict[str, Any]:
    """Return the fields with derived values: medians, ratios, verdicts. `read` ignores the latter."""
    section = entry.section
    tree = {**asdict(section), "tables": [_table(table) for table in section.tables]}
    tree["goals"] = [_goal(goal) for goal in section.goals]
    return {"made": asdict(entry.made), "section": tree}


def _table(table: Table) -> dict[str, Any]:
    ratios = table.ratios() or (None,) * len(table.rows)
    rows = []
    for row, ratio in zip(table.rows, ratios, strict=True):
        compared = {} if ratio is None else {"ratio": _found(ratio)}
        rows.append({"name": row.name, "measured": _found(row.measured), **compared})
    return {**asdict(table), "rows": rows}


def _goal(goal: Goal) -> dict[str, Any]:
    said = {"is_reached": goal.is_reached, "verdict": goal.verdict}
    return {**asdict(goal), "measured": _found(goal.measured), **said}


def _found(found: Found) -> dict[str, Any]:
    tree = asdict(found)
    if isinstance(found, Spread):
        tree |= {"median": found.median, "lowest": found.lowest, "highest": found.highest}
    return tree
