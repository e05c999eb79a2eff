"""Training steps in a steady state, compared with the plain loop, Lightning, and the processor's peak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from side_by_side.asked import Asked
from side_by_side.contender import Contender, program
from side_by_side.goal import Goal
from side_by_side.section import Row, Section, Table
from side_by_side.spread import Found, Spread, by_round, ratio
from side_by_side.turns import Measured, take_turns

from sections.lab import steps

NAME = "training"
ROUNDS = 1
WIDTHS = {64: "the writeup's network", 16: "width 16"}
PLAIN, LAB, CEILING = "plain loop", "cifar-lab", "ceilings"
LIGHTNING = {"Lightning": "32-true", "Lightning, bf16-mixed": "bf16-mixed"}
CEILINGS_APART = 4.0
"""Ratio of bf16 to fp32 products on the processor for which the goals were set."""
WANTED = {64: (3.6, 90.0), 16: (2.8, 55.0)}
"""Goals by width: speed relative to the plain loop, and % of the ceiling."""
BESIDES = 'what is no product of matrices takes its share of a step: see "Where a step\'s time goes"'
TOLD = """Images a second of training steps, batch 128, after the first steps. `cifar-lab`: its own loop with all that
a step of a cell does, in one process with all threads. Plain loop: the one that tutorials teach, in fp32 and NCHW,
with PIL images from a DataLoader of two workers, and the same clipping, SGD and Lookahead
(`benchmarks/programs/plain_loop.py`). Lightning: its `Trainer` on the plain loop's images, at its default precision
and at the one that it advises for speed. All train the same network from the same weights. FLOPs are torch's count,
two a multiply-accumulate, forward and backward. Ceilings: products of two square matrices, the best of some."""


def measure(asked: Asked, rounds: int) -> Section:
    found = take_turns(_contenders(asked), rounds, asked.say)
    return Section(
        name=NAME,
        title="Training",
        told=TOLD,
        tables=(*(_speed(found, width) for width in WIDTHS), _work(found)),
        goals=tuple(goal for width in WIDTHS for goal in _goals(found, width)),
        notes=tuple(_notes(found)),
    )


def _contenders(asked: Asked) -> list[Contender]:
    size, products = asked.size((4096, 5), (512, 1))
    line = program("ceilings", "--size", size, "--products", products)
    made = [Contender(name=CEILING, line=line, folder=asked.scratch / CEILING)]
    for width in WIDTHS:
        count = asked.size((3, 10) if width == 64 else (5, 40), (1, 1))
        made.append(steps(asked, _name(LAB, width), "lab_loop", width, count))
        made.append(steps(asked, _name(PLAIN, width), "plain_loop", width, count))
        for name, precision in LIGHTNING.items():
            peer = steps(asked, _name(name, width), "lightning_loop", width, count, "--precision", precision)
            made.append(replace(peer, needs="lightning"))
    return made


def _name(contender: str, width: int) -> str:
    return f"{contender}, {width}"


def _speed(found: Measured, width: int) -> Table:
    names = (PLAIN, *LIGHTNING, LAB)
    rows = tuple(Row(name=name, measured=found.of(_name(name, width), "images_per_second")) for name in names)
    return Table(title=WIDTHS[width], unit="images/s", rows=rows, against=PLAIN)


def _work(found: Measured) -> Table:
    """Return the throughput in FLOP/s: a peer's network equals the lab's, and so does its number of FLOPs."""
    rows = [
        Row(name=f"{precision} matrix product", measured=by_round(lambda x: x / 1e9, found.of(CEILING, precision)))
        for precision in ("bf16", "fp32")
    ]
    for width, words in WIDTHS.items():
        flops = found.of(_name(LAB, width), "flops_per_image")
        for name in (PLAIN, LAB):
            speed = found.of(_name(name, width), "images_per_second")
            work = by_round(lambda rate, each: rate * each / 1e9, speed, flops)
            rows.append(Row(name=f"{name}, {words}", measured=work))
    return Table(title="work", unit="GFLOP/s", rows=tuple(rows), against=rows[0].name)


def _notes(found: Measured) -> Iterator[str]:
    """Yield the conditions of the goals: the gain by bf16 on this processor, and the plain loop's share of its peak."""
    yield f"{_worth(found)}, and a loop in bf16 can win over one in fp32 in proportion"
    for width, words in WIDTHS.items():
        yield f"{words}: {_most(found, width)}"


def _worth(found: Measured) -> str:
    """Describe the gain by bf16 on this processor."""
    times = ratio(*(found.of(CEILING, precision) for precision in ("bf16", "fp32")))
    before = f"where the goals were set {CEILINGS_APART:g} times"
    return f"the bf16 product is {times} times as fast as the fp32 one, {before}"


def _most(found: Measured, width: int) -> str:
    return f"a loop at the bf16 ceiling would be {_bound(found, width)} times as fast as the plain one, and no more"


def _bound(found: Measured, width: int) -> Found:
    """Return the upper bound of the speed relative to the plain loop's on this processor."""
    flops = found.of(_name(LAB, width), "flops_per_image")
    speed = found.of(_name(PLAIN, width), "images_per_second")
    return by_round(lambda peak, rate, each: peak / (rate * each), found.of(CEILING, "bf16"), speed, flops)


def _why(found: Measured, width: int) -> str:
    """Explain a missed goal for the speed: the processor's bound, and if that is above the goal, other causes."""
    bound, rest = _bound(found, width), ""
    if isinstance(bound, Spread) and bound.median >= WANTED[width][0]:
        rest = f"; what is between: {BESIDES}"
    return f"{_most(found, width)}; {_worth(found)}{rest}"


def _goals(found: Measured, width: int) -> tuple[Goal, Goal]:
    times, share = WANTED[width]
    lab, plain = (found.of(_name(name, width), "images_per_second") for name in (LAB, PLAIN))
    used = by_round(
        lambda mine, most: 100 * mine / most, found.of(_name(LAB, width), "flops_per_second"),
        found.of(CEILING, "fastest"),
    )  # fmt: skip
    return (
        Goal(what=f"{WIDTHS[width]}: speed over the plain loop's", at="least", limit=times, unit="×",
             measured=ratio(lab, plain), why=_why(found, width)),
        Goal(what=f"{WIDTHS[width]}: share of the faster ceiling", at="least", limit=share, unit="%", measured=used,
             why=BESIDES),
    )  # fmt: skip
