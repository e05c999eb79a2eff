"""`benchmarks.json`, the measurements of each round, and `benchmarks.md`, the page made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from markdown_table import table
from pydantic import TypeAdapter

from side_by_side.results import Absent, Entry, Found, Goal, Spread, Table, shown

PAGE, NUMBERS = "benchmarks.md", "benchmarks.json"
BUSY = 0.2
"""Number of busy cores before a section above which other load is assumed."""
GOALS_ARE_FOR = (2, True)
"""Cores, and availability of bf16 units, of the machine for which the goals were set."""
HEAD = """# Benchmarks

`make bench` measures this page, and writes the numbers of every round to [benchmarks.json](benchmarks.json) beside it.
Contenders take turns, each in a fresh process of its own a round (A, B, C, A, B, C, …). A number is the median of the
rounds, with the lowest and the highest. A ratio is taken in each round, between neighbours, before the median is."""


def write(folder: Path, entries: Sequence[Entry], names: Sequence[str] = ()) -> None:
    """Write both files, atomically. `names`: all sections, including those that are not in `entries`."""
    missing = [name for name in names if name not in {entry.section.name for entry in entries}]
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False) + "\n"
    for name, content in ((NUMBERS, text), (PAGE, page(entries, missing))):
        partial = folder / f".{name}.partial"
        partial.write_text(content, encoding="utf-8")
        partial.replace(folder / name)


def read(folder: Path) -> tuple[Entry, ...]:
    """Return the entries written by `write`; empty without a file."""
    path = folder / NUMBERS
    return TypeAdapter(tuple[Entry, ...]).validate_json(path.read_bytes()) if path.exists() else ()


def page(entries: Sequence[Entry], missing: Sequence[str] = ()) -> str:
    """Return the page; sections in the order of `entries`. `missing`: sections that were never measured."""
    blocks = [HEAD, *_warnings(entries), "\n".join(_summary(entries))]
    if missing:
        blocks.append(f"**Sections that were not measured, with all their goals: {', '.join(missing)}.**")
    return "\n\n".join([*blocks, *(block for entry in entries for block in _section(entry))]) + "\n"


def _warnings(entries: Sequence[Entry]) -> Iterator[str]:
    if quick := [entry.section.name for entry in entries if entry.made["is_quick"]]:
        yield f"**Made with `--quick`, to see that it works: the numbers mean nothing** ({', '.join(quick)})."
    if busy := [entry.section.name for entry in entries if entry.section.is_timed and entry.made["busy"] > BUSY]:
        yield f"**Something else was running when these began: {', '.join(busy)}.** Read their numbers with care."
    if others := [
        each.section.name for each in entries if (each.made["cores"], each.made["has_bf16"]) != GOALS_ARE_FOR
    ]:
        told = "The goals were set for two cores with units for bf16 (AVX512-BF16)."
        yield f"{told} Measured on other ones: {', '.join(others)}."
    machines: dict[str, list[str]] = {}
    for each in entries:
        machines.setdefault(each.made["hardware"], []).append(each.section.name)
    if len(machines) > 1:
        said = "; ".join(f"{', '.join(names)}: {hardware}" for hardware, names in machines.items())
        yield f"**Sections are of different machines**, whose numbers are not to be set against each other: {said}."


def tally(goals: Sequence[Goal]) -> tuple[int, int, int]:
    """Return how many goals are reached, missed, and not measured."""
    reached, missed, unknown = (sum(goal.is_reached is state for goal in goals) for state in (True, False, None))
    return reached, missed, unknown


def _summary(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the number of reached goals, and each goal that is not reached, on a line of its own."""
    goals = [(entry.section.title, goal) for entry in entries for goal in entry.section.goals]
    reached, missed, unknown = tally([goal for _, goal in goals])
    yield f"**{reached} of {len(goals)} goals reached, {missed} missed, {unknown} not measured.**"
    for word, state in (("Missed", False), ("Not measured", None)):
        if chosen := [(title, goal) for title, goal in goals if goal.is_reached is state]:
            yield f"\n{word}:\n"
            yield from (f"- {title}: {_line(goal)}" for title, goal in chosen)


def _line(goal: Goal) -> str:
    if isinstance(goal.measured, Absent):
        return f"{goal.what} ({goal.wanted} wanted): {goal.measured.reason}"
    line = f"{goal.what} is {shown(goal.measured.median)} {goal.unit} where {goal.wanted} was wanted; {goal.verdict}"
    return f"{line}: {goal.why}" if goal.why and goal.is_reached is False else line


def _section(entry: Entry) -> Iterator[str]:
    section, made = entry.section, entry.made
    yield f"## {section.title}"
    yield section.told
    yield f"    {made['command']}"
    yield from ("\n".join(_table(each)) for each in section.tables)
    if section.goals:
        heading = ("goal", "wanted", "measured", "lowest", "highest", "verdict")
        yield "\n".join(table(heading, map(_goal, section.goals)))
    if section.notes:
        yield "\n".join(f"- {note}" for note in section.notes)
    took = "- {date}, {rounds} rounds, {minutes} minutes, {busy:.2f} cores busy before it"
    rest = "- {data}\n- {hardware}\n- {versions}\n- code: {commit}"
    yield f"{took}\n{rest}".format_map(made | {"minutes": shown(made["minutes"])})


def _goal(goal: Goal) -> list[str]:
    if isinstance(goal.measured, Absent):
        return [goal.what, goal.wanted, "", "", "", f"**{goal.verdict}**"]
    median, *extremes = _numbers(goal.measured)
    verdict = goal.verdict if goal.is_reached else f"**{goal.verdict}**"
    return [goal.what, goal.wanted, f"{median} {goal.unit}", *extremes, verdict]


def _table(of: Table) -> Iterator[str]:
    ratios = of.ratios()
    rows = [[name, *_numbers(found)] for name, found in of.rows.items()]
    for row, ratio in zip(rows, ratios, strict=bool(ratios)):
        row.append(shown(ratio.median) if isinstance(ratio, Spread) else "")
    heading = [of.title, of.unit, "lowest", "highest", *([f"× {of.against}"] if ratios else [])]
    return table(heading, rows)


def _numbers(found: Found) -> list[str]:
    return [str(found), "", ""] if isinstance(found, Absent) else [*map(shown, (found.median, *found.extremes))]
