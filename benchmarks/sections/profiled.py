"""Where the time of a step goes."""

from __future__ import annotations

from side_by_side.asked import Asked
from side_by_side.section import Row, Section, Table
from side_by_side.spread import Spread
from side_by_side.turns import Measured, take_turns

from sections.lab import steps

NAME = "profile"
ROUNDS = 1
STEP = "a step"
PROFILED = "profiled steps"
TOLD = """torch's profiler around training steps of the lab at width 16, batch 128: milliseconds of a step by what
they go to, each operation's own time. Groups are by operation, and input, clipping, Lookahead and the optimizer by
the part of the step that calls them. Profiled steps take longer than others, those of many small operations most:
read it for shares."""


def measure(asked: Asked, rounds: int) -> Section:
    contender = steps(asked, PROFILED, "profiled_steps", 16, asked.size((5, 20), (1, 1)))
    found = take_turns([contender], rounds, asked.say)
    return Section(name=NAME, title="Where a step's time goes", told=TOLD, tables=(_table(found),))


def _table(found: Measured) -> Table:
    """Groups, the costliest first; one that was not seen in a round took nothing in it."""
    if PROFILED in found.absent:
        return Table(title="group", unit="ms", rows=(Row(name=STEP, measured=found.absent[PROFILED]),))
    results = [{k: v for k, v in one.items() if k != "wall_seconds"} for one in found.results[PROFILED]]
    groups = {name: Spread(tuple(one.get(name, 0.0) for one in results)) for one in results for name in one}
    rows = sorted(groups.items(), key=lambda item: -item[1].median)
    whole = Spread(tuple(sum(one.values()) for one in results))
    made = (Row(name=STEP, measured=whole), *(Row(name=name, measured=spread) for name, spread in rows))
    return Table(title="group", unit="ms", rows=made, against=STEP)
