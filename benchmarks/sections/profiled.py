"""Profile of a training step, and the cost of ways to speed it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from side_by_side.asked import Asked
from side_by_side.contender import Contender, program
from side_by_side.section import Row, Section, Table
from side_by_side.spread import Absent, Found, Spread, by_round, shown
from side_by_side.turns import Measured, take_turns

from sections.lab import steps

NAME = "profile"
ROUNDS = 1
WIDTH, BATCH, EPOCH = 16, 128, 352
"""Width of the network, batch size, and steps of an epoch of CIFAR-10 with a tenth held out."""
STEP = "a step"
PROFILED, PLAIN, COMPILED, CEILING = "profiled steps", "steps", "compiled steps", "ceilings"
PRODUCTS = ("convolutions, backward", "convolutions, forward", "classifier")
TOLD = f"""torch's profiler around training steps of the lab at width {WIDTH}, batch {BATCH}: milliseconds of a step by
what they go to, each operation's own time. Groups are by operation, and input, clipping, Lookahead and the optimizer by
the part of the step that calls them. Profiled steps take longer than others, those of many small operations most:
read it for shares. Below, what could be had back: steps as they are and compiled, without the profiler, and the time
that their products alone would take at the bf16 ceiling."""


def measure(asked: Asked, rounds: int) -> Section:
    found = take_turns(_contenders(asked), rounds, asked.say)
    return Section(
        name=NAME, title="Where a step's time goes", told=TOLD, tables=(_table(found), _left(found)),
        notes=tuple(_notes(found)),
    )  # fmt: skip


def _contenders(asked: Asked) -> list[Contender]:
    count = asked.size((5, 40), (1, 1))
    compiled = steps(asked, COMPILED, "lab_loop", WIDTH, count, "--compile")
    anew = {**compiled.environment, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    size, products = asked.size((4096, 5), (512, 1))
    line = program("ceilings", "--size", size, "--products", products)
    return [
        steps(asked, PROFILED, "profiled_steps", WIDTH, asked.size((5, 20), (1, 1))),
        steps(asked, PLAIN, "lab_loop", WIDTH, count),
        replace(compiled, environment=anew),
        Contender(name=CEILING, line=line, folder=asked.scratch / CEILING),
    ]


def _table(found: Measured) -> Table:
    """Return the groups, the most expensive first; a group missing in a round counts 0."""
    groups = _groups(found)
    if isinstance(groups, Absent):
        return Table(title="group", unit="ms", rows=(Row(name=STEP, measured=groups),))
    rows = sorted(groups.items(), key=lambda item: -item[1].median)
    whole = Spread(tuple(map(sum, zip(*(spread.values for spread in groups.values()), strict=True))))
    made = (Row(name=STEP, measured=whole), *(Row(name=name, measured=spread) for name, spread in rows))
    return Table(title="group", unit="ms", rows=made, against=STEP)


def _groups(found: Measured) -> dict[str, Spread] | Absent:
    if PROFILED in found.absent:
        return found.absent[PROFILED]
    results = [{k: v for k, v in one.items() if k != "wall_seconds"} for one in found.results[PROFILED]]
    return {name: Spread(tuple(one.get(name, 0.0) for one in results)) for one in results for name in one}


def _left(found: Measured) -> Table:
    rows = {
        STEP: by_round(lambda seconds: 1000 * seconds, found.of(PLAIN, "step_seconds")),
        f"{STEP}, compiled": by_round(lambda seconds: 1000 * seconds, found.of(COMPILED, "step_seconds")),
        "its products at the bf16 ceiling": _at_the_ceiling(found),
    }
    made = tuple(Row(name=name, measured=value) for name, value in rows.items())
    return Table(title="what could be had back", unit="ms", rows=made, against=STEP)


def _at_the_ceiling(found: Measured) -> Found:
    each = found.of(PLAIN, "flops_per_image")
    return by_round(lambda flops, peak: 1000 * BATCH * flops / peak, each, found.of(CEILING, "bf16"))


def _notes(found: Measured) -> Iterator[str]:
    groups = _groups(found)
    if not isinstance(groups, Absent):
        products = by_round(lambda *parts: sum(parts), *(groups[name] for name in PRODUCTS if name in groups))
        yield (
            f"products: {products} ms in the profile, {_at_the_ceiling(found)} ms at the ceiling; other kernels than "
            "the library's could win the difference, and no more"
        )
    plain, compiled = (found.of(name, "step_seconds") for name in (PLAIN, COMPILED))
    yield paying(plain, compiled, found.of(COMPILED, "first_seconds"))
    yield (
        "norms, sums, ReLU and casts move memory: what they take is to be had back by fusing them, as compiling does"
    )


def paying(plain: Found, compiled: Found, first: Found) -> str:
    """Describe the cost and the gain of compiling, and the number of steps to break even; by the medians."""
    for one in (plain, compiled, first):
        if isinstance(one, Absent):
            return f"compiling: {one}"
    before, after, whole = (one.median for one in (plain, compiled, first) if isinstance(one, Spread))
    cost, won = whole - after, before - after
    if won <= 0:
        return f"compiling takes {shown(cost)} s and wins nothing: it never pays"
    count, share = cost / won, 100 * won / before
    return (
        f"compiling takes {shown(cost)} s and wins {shown(1000 * won)} ms a step ({shown(share)} %): it has paid after "
        f"{shown(count)} steps, which are {shown(count / EPOCH)} epochs of CIFAR-10"
    )
