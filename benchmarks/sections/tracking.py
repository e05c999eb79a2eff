"""Cost of tracking for a training, and a check that no step waits for it."""

from __future__ import annotations

import os

from side_by_side.contender import Asked, Measured, take_turns, timed_steps
from side_by_side.results import Absent, Found, Goal, Section, Table, by_round, shown

SHARE = 1.0
CORES = os.cpu_count() or 1
DELAY = 2.0
"""Seconds after which the slow server answers."""
NONE, SQLITE, SLOW = "nothing written", "MLflow's own store", f"a server that answers after {DELAY:g} s"
STORES = {NONE: "none", SQLITE: "sqlite", SLOW: "slow"}
TOLD = """Training steps at width 16 with a metric every step, where the lab by itself writes its metrics once an
epoch. The worker appends each to the cell's journal; the runner beside it tails the journal and feeds MLflow, on the
same cores. Its imports and the making of its store, once a command, come before these steps and are told below. As many
steps as an epoch of CIFAR-10 has. The runner's share of the cores is its processor time (the slow server's, too, which
is in it), and is not moved by what moves the length of an epoch from round to round. A step that waited for an answer
of the slow server would last as long as that takes."""


def measure(asked: Asked, rounds: int) -> Section:
    count = asked.size((5, 347), (1, 3))
    found = take_turns(
        [timed_steps(asked, name, "tracked_loop", 16, count, "--store", store, "--delay", DELAY)
         for name, store in STORES.items()], rounds,
    )  # fmt: skip
    return Section(
        name="tracking",
        title="Tracking",
        told=TOLD,
        tables=(
            _table(found, "mean of all steps", "mean_step_seconds", against=NONE),
            _table(found, "longest step", "longest_step_seconds", against=NONE),
            _table(found, "in calls that track, a step", "tracking_seconds"),
        ),
        goals=tuple(_goals(found)),
        notes=(
            f"metrics that the stores had at the end: {found.of(SQLITE, 'metrics_stored')} in MLflow's own, "
            f"{found.of(SLOW, 'metrics_stored')} in the slow server",
            f"before the steps, until MLflow was loaded and its store was made: {found.of(SQLITE, 'store_seconds')} s",
            f"answers of the slow server while steps were taken: {found.of(SLOW, 'answers')}",
        ),
    )


def _table(found: Measured, title: str, number: str, against: str = "") -> Table:
    rows = {name: by_round(lambda seconds: 1000 * seconds, found.of(name, number)) for name in STORES}
    return Table(title, "ms", rows, against)


def _goals(found: Measured) -> list[Goal]:
    means, goals = {name: found.of(name, "mean_step_seconds") for name in STORES}, []
    for name in (SQLITE, SLOW):
        calls = by_round(lambda spent, step: 100 * spent / step, found.of(name, "tracking_seconds"), means[name])
        longer = by_round(lambda mine, alone: 100 * (mine / alone - 1), means[name], means[NONE])
        beside = by_round(lambda cores, mine: 100 * cores / CORES + mine, found.of(name, "cores_beside"), calls)
        goals += [
            Goal(what=f"{name}: {what}", at="most", limit=SHARE, unit="%", measured=measured, why=why)
            for what, measured, why in (
                ("share of a step spent in calls that track", calls, ""),
                ("that, and what the runner takes of all cores' time beside it", beside, ""),
                ("epoch longer than without, all that runs beside it included", longer, apart(means[NONE])),
            )
        ]
    what = "longest step with the slow server, against one answer of it"
    longest = found.of(SLOW, "longest_step_seconds")
    return [*goals, Goal(what=what, at="most", limit=DELAY, unit="s", measured=longest)]


def apart(alone: Found) -> str:
    """Describe the spread of one contender's epochs: smaller differences between contenders are noise."""
    if isinstance(alone, Absent):
        return ""
    lowest, highest = alone.extremes
    return f"epochs without it differ by up to {shown(100 * (highest / lowest - 1))} % among themselves"
