"""Page of results in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from side_by_side.goal import Goal
from side_by_side.section import Entry, Made, Section, Table
from side_by_side.spread import Absent, Found, Spread, shown

BUSY = 0.2
"""Number of busy cores before a section above which other load is assumed."""
GOALS_ARE_FOR = (2, True)
"""Cores, and availability of bf16 units, of the machine for which the goals were set."""
HEAD = """# Benchmarks

`make bench` measures this page, and writes the numbers of every round to [benchmarks.json](benchmarks.json) beside it.
Contenders take turns, each in a fresh process of its own a round (A, B, C, A, B, C, …). A number is the median of the
rounds, with the lowest and the highest. A ratio is taken in each round, between neighbours, before the median is."""


def page(entries: Sequence[Entry], missing: Sequence[str] = ()) -> str:
    """Return the page; sections in the order of `entries`. `missing`: sections that were never measured."""
    blocks = [HEAD, *_warnings(entries), "\n".join(_summary(entries))]
    if missing:
        blocks.append(f"**Sections that were not measured, with all their goals: {', '.join(missing)}.**")
    blocks += [block for entry in entries for block in _section(entry)]
    return "\n\n".join(blocks) + "\n"


def _warnings(entries: Sequence[Entry]) -> Iterator[str]:
    if quick := [entry.section.name for entry in entries if entry.made.is_quick]:
        yield f"**Made with `--quick`, to see that it works: the numbers mean nothing** ({', '.join(quick)})."
    if busy := [entry.section.name for entry in entries if entry.section.is_timed and entry.made.busy > BUSY]:
        yield f"**Something else was running when these began: {', '.join(busy)}.** Read their numbers with care."
    others = [each.section.name for each in entries if (each.made.cores, each.made.has_bf16) != GOALS_ARE_FOR]
    if others:
        yield (
            "The goals were set for two cores with units for bf16 (AVX512-BF16). "
            f"Measured on other ones: {', '.join(others)}."
        )
    machines: dict[str, list[str]] = {}
    for each in entries:
        machines.setdefault(each.made.hardware, []).append(each.section.name)
    if len(machines) > 1:
        said = "; ".join(f"{', '.join(names)}: {hardware}" for hardware, names in machines.items())
        yield f"**Sections are of different machines**, whose numbers are not to be set against each other: {said}."


def _summary(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the number of reached goals, and each goal that is not reached, on a line of its own."""
    goals = [(entry.section.title, goal) for entry in entries for goal in entry.section.goals]
    counts = {state: sum(goal.is_reached is state for _, goal in goals) for state in (True, False, None)}
    yield f"**{counts[True]} of {len(goals)} goals reached, {counts[False]} missed, {counts[None]} not measured.**"
    for word, state in (("Missed", False), ("Not measured", None)):
        chosen = [(title, goal) for title, goal in goals if goal.is_reached is state]
        if chosen:
            yield f"\n{word}:\n"
            yield from (f"- {title}: {_line(goal)}" for title, goal in chosen)


def _line(goal: Goal) -> str:
    if isinstance(goal.measured, Absent):
        return f"{goal.what} ({goal.wanted} wanted): {goal.measured.reason}"
    line = f"{goal.what} is {shown(goal.measured.median)} {goal.unit} where {goal.wanted} was wanted; {goal.verdict}"
    return f"{line}: {goal.why}" if goal.why and goal.is_reached is False else line


def _section(entry: Entry) -> Iterator[str]:
    section = entry.section
    yield f"## {section.title}"
    yield section.told
    yield f"    {entry.made.command}"
    yield from ("\n".join(_table(table)) for table in section.tables)
    if section.goals:
        yield "\n".join(_goals(section))
    if section.notes:
        yield "\n".join(f"- {note}" for note in section.notes)
    yield _made(entry.made)


def _table(table: Table) -> Iterator[str]:
    ratios = table.ratios()
    heading = [table.title, table.unit, "lowest", "highest", *([f"× {table.against}"] if ratios else [])]
    yield _row(heading)
    yield _row(["---", *["---:"] * (len(heading) - 1)])
    for at, row in enumerate(table.rows):
        yield _row([row.name, *_numbers(row.measured), *([_median(ratios[at])] if ratios else [])])


def _numbers(found: Found) -> list[str]:
    if isinstance(found, Absent):
        return [str(found), "", ""]
    return [shown(found.median), shown(found.lowest), shown(found.highest)]


def _median(found: Found) -> str:
    return shown(found.median) if isinstance(found, Spread) else ""


def _goals(section: Section) -> Iterator[str]:
    yield _row(["goal", "wanted", "measured", "lowest", "highest", "verdict"])
    yield _row(["---", "---:", "---:", "---:", "---:", "---"])
    for goal in section.goals:
        numbers = _numbers(goal.measured) if isinstance(goal.measured, Spread) else ["", "", ""]
        if numbers[0]:
            numbers[0] += f" {goal.unit}"
        yield _row([goal.what, goal.wanted, *numbers, goal.verdict if goal.is_reached else f"**{goal.verdict}**"])


def _made(made: Made) -> str:
    took = f"{made.date}, {made.rounds} rounds, {shown(made.minutes)} minutes, {made.busy:.2f} cores busy before it"
    return "\n".join(f"- {line}" for line in (took, made.data, made.hardware, made.versions, f"code: {made.commit}"))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
