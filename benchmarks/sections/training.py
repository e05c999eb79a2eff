"""Training steps and evaluation, compared with the plain loop, Lightning, and the processor's peak."""

from __future__ import annotations

from side_by_side.contender import Asked, Contender, Measured, program, take_turns, timed_steps
from side_by_side.results import Found, Goal, Section, Spread, Table, by_round, ratio

WIDTHS = {64: "the writeup's network", 16: "width 16"}
PLAIN, LAB, CEILING = "plain loop", "cifar-lab", "ceilings"
LIGHTNING = {"Lightning": "32-true", "Lightning, bf16-mixed": "bf16-mixed"}
CEILINGS_APART = 4.0
"""Ratio of bf16 to fp32 products on the processor for which the goals were set."""
WANTED = {64: (3.6, 90.0), 16: (2.8, 55.0)}
"""Goals by width: speed relative to the plain loop, and % of the ceiling."""
BESIDES = "what is no product of matrices takes its share of a step"
TOLD = """Images a second of training steps, batch 128, after the first steps. `cifar-lab`: its own loop with all that
a step of a cell does, in one process with all threads. Plain loop: the one that tutorials teach, in fp32 and NCHW,
with PIL images from a DataLoader of two workers, and the same clipping, SGD and Lookahead
(`benchmarks/programs/plain_loop.py`). Lightning: its `Trainer` on the plain loop's images, at its default precision
and at the one that it advises for speed. All train the same network from the same weights. FLOPs are torch's count,
two a multiply-accumulate, forward and backward. Ceilings: products of two square matrices, the best of some."""


def measure(asked: Asked, rounds: int) -> Section:
    found = take_turns(_contenders(asked), rounds)
    tables = []
    for width, words in WIDTHS.items():
        rates = {name: _rate(found, name, width) for name in (PLAIN, *LIGHTNING, LAB)}
        tables.append(Table(words, "images/s", rates, against=PLAIN))
    return Section(
        name="training", title="Training", told=TOLD, tables=(*tables, _work(found)),
        goals=tuple(goal for width in WIDTHS for goal in goals(found, width)), notes=tuple(notes(found)),
    )  # fmt: skip


def _contenders(asked: Asked) -> list[Contender]:
    size, products = asked.size((4096, 5), (512, 1))
    line = program("matrix_products", "--size", size, "--products", products)
    made = [Contender(name=CEILING, line=line, folder=asked.scratch / CEILING)]
    for width in WIDTHS:
        count = asked.size((3, 10) if width == 64 else (5, 40), (1, 1))
        for name, file in ((LAB, "lab_loop"), (PLAIN, "plain_loop")):
            made.append(timed_steps(asked, f"{name}, {width}", file, width, count))
        for name, precision in LIGHTNING.items():
            words = ("--precision", precision)
            made.append(
                timed_steps(asked, f"{name}, {width}", "lightning_loop", width, count, *words, needs="lightning")
            )
    return made


def _rate(found: Measured, name: str, width: int) -> Found:
    return found.of(f"{name}, {width}", "images_per_second")


def _work(found: Measured) -> Table:
    """Return the throughput in FLOP/s: a peer's network equals the lab's, and so does its number of FLOPs."""
    rows = {f"{each} matrix product": by_round(lambda x: x / 1e9, found.of(CEILING, each)) for each in ("bf16", "fp32")}
    for width, words in WIDTHS.items():
        flops = found.of(f"{LAB}, {width}", "flops_per_image")
        for name in (PLAIN, LAB):
            rows[f"{name}, {words}"] = by_round(lambda a, b: a * b / 1e9, _rate(found, name, width), flops)
    return Table("work", "GFLOP/s", rows, against="bf16 matrix product")


def notes(found: Measured) -> list[str]:
    """Return the conditions of the goals: the gain by bf16 here, and the plain loop's share of the processor's peak."""
    worth = f"{_worth(found)}, and a loop in bf16 can win over one in fp32 in proportion"
    return [worth, *(f"{words}: {_most(found, width)}" for width, words in WIDTHS.items())]


def _worth(found: Measured) -> str:
    times = ratio(found.of(CEILING, "bf16"), found.of(CEILING, "fp32"))
    before = f"where the goals were set {CEILINGS_APART:g} times"
    return f"the bf16 product is {times} times as fast as the fp32 one, {before}"


def _most(found: Measured, width: int) -> str:
    return f"a loop at the bf16 ceiling would be {_bound(found, width)} times as fast as the plain one, and no more"


def _bound(found: Measured, width: int) -> Found:
    """Return the upper bound of the speed relative to the plain loop's on this processor."""
    flops = found.of(f"{LAB}, {width}", "flops_per_image")
    peak = found.of(CEILING, "bf16")
    return by_round(lambda peak, rate, each: peak / (rate * each), peak, _rate(found, PLAIN, width), flops)


def goals(found: Measured, width: int) -> tuple[Goal, Goal]:
    """Return the goals for a width; a miss that the processor's bound does not explain is put down to the rest."""
    (times, share), words, bound = WANTED[width], WIDTHS[width], _bound(found, width)
    rest = f"; what is between: {BESIDES}" if isinstance(bound, Spread) and bound.median >= times else ""
    used = ratio(found.of(f"{LAB}, {width}", "flops_per_second"), found.of(CEILING, "fastest"))
    speed = ratio(_rate(found, LAB, width), _rate(found, PLAIN, width))
    return (
        Goal(what=f"{words}: speed over the plain loop's", at="least", limit=times, unit="×", measured=speed,
             why=f"{_most(found, width)}; {_worth(found)}{rest}"),
        Goal(what=f"{words}: share of the faster ceiling", at="least", limit=share, unit="%",
             measured=by_round(lambda x: 100 * x, used), why=BESIDES),
    )  # fmt: skip


STEPS, LOOKS, PLAIN_LOOKS = "cifar-lab, training", "cifar-lab, evaluation", "plain loop, evaluation"
TOLD_OF_EVALUATION = """Images a second: loss, accuracy and predictions of images that are not augmented, with the
first batch not counted. The plain loop's evaluation takes its images from the PIL DataLoader, whose start counts."""


def measure_evaluation(asked: Asked, rounds: int) -> Section:
    contenders = []
    for width in WIDTHS:
        count = asked.size((3, 6) if width == 64 else (5, 20), (1, 1))
        images = asked.size(2_000 if width == 64 else 10_000, 150)
        contenders.append(timed_steps(asked, f"{STEPS}, {width}", "lab_loop", width, count))
        for name, file in ((LOOKS, "lab_loop"), (PLAIN_LOOKS, "plain_loop")):
            contenders.append(timed_steps(asked, f"{name}, {width}", file, width, count, "--evaluate", images))
    found, tables, goals = take_turns(contenders, rounds), [], []
    for width, words in WIDTHS.items():
        speed = {name: found.of(f"{name}, {width}", "images_per_second") for name in (STEPS, PLAIN_LOOKS, LOOKS)}
        tables.append(Table(words, "images/s", speed, against=STEPS))
        goals += [
            Goal(what=f"{words}: evaluation over training", at="least", limit=2.5, unit="×",
                 measured=ratio(speed[LOOKS], speed[STEPS])),
            Goal(what=f"{words}: passes over the images", at="most", limit=1.0, unit="passes",
                 measured=found.of(f"{LOOKS}, {width}", "passes")),
        ]  # fmt: skip
    return Section(
        name="evaluation", title="Evaluation", told=TOLD_OF_EVALUATION, tables=tuple(tables), goals=tuple(goals)
    )
