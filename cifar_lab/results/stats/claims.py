"""Judge a claim from measurements: supported, refuted or inconclusive.

`d` is how far the variant named `better` is ahead of the one named `worse`, paired by seed, with a Student interval.
The margin is the largest difference that does not matter.

    relation     supported                            refuted
    better       the interval lies above 0            below 0, or within ± margin
    alike        within ± margin                      above + margin, or below - margin
    not better   not below - margin                   below - margin
    reaches      one run's within the number ± its    beside that
                 tolerance

What is neither is inconclusive. `not better` reads "`worse` is equivalent to `better`, or worse". The interval of
`reaches` is a prediction interval for one run more, as the published number is one run's.

An interval above 0 and within the margin shows a difference that is real and does not matter: `better` is negligible.

With a size, `better` asks for the size, too: of intervals above 0, one within size ± tolerance supports it, one beside
that refutes it, and with any other its size is open. A difference within the margin does not
refute a claim of one within the margin.

Where all seeds of a variant diverged, and the other one was finished in two of these at least, that is a result: the
other one is better. Where some did, a status stands only if every seed in which one of the two diverged says the same
with the accuracy of guessing in its place. A gap or an oscillation of a diverged training has nothing like it: no
status stands then, and none follows from a variant that diverged in every seed. Nor does one stand where a metric is
not a finite number.

A claim holds for the scale, protocol and data at which it was made. Measured elsewhere, the same rules, without the
size, say whether its direction agrees or disagrees, and an accuracy is not judged at all. For `better` only the sign
counts as a direction: a difference within the other scale's margin, which may exceed the claimed size, is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from cifar_lab.results.stats.decision import CHANCE
from cifar_lab.results.stats.paired import Interval, PairedDifference, Values, paired_difference, prediction_interval
from cifar_lab.text import many

Relation = Literal["better", "alike", "not better"]
Status = Literal[
    "supported", "refuted", "size open", "negligible", "direction agrees", "direction disagrees", "inconclusive",
    "not measured",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)

_ELSEWHERE: dict[Status, Status] = {"supported": "direction agrees", "refuted": "direction disagrees"}
ONE_SEED = "one seed: no interval"
SAME = "the same in every seed: no variance to build an interval on"
LOST_NUMBER = "not a number"
"""State of a finished cell whose metric is NaN or infinite."""
NO_NUMBER = "a metric is not a number: without it nothing is concluded"
AS_CLAIMED_ONLY = "an accuracy is judged only at the scale, protocol and data that it was claimed at"


@dataclass(frozen=True, kw_only=True)
class ClaimSide:
    """Measurements of one variant."""

    name: str
    values: Values
    """Metric by seed, of the finished cells."""
    states: Mapping[str, int] = field(default_factory=dict)
    """How many of its cells are finished, diverged, missing, …; none: it was not asked for."""
    diverged: frozenset[int] = frozenset()
    """Seeds that diverged."""

    @property
    def cells(self) -> int:
        return sum(self.states.values())

    @property
    def has_diverged(self) -> bool:
        """Tell whether every seed diverged and there are at least two."""
        return self.states.get("diverged", 0) == self.cells >= 2

    @property
    def is_finite(self) -> bool:
        """Tell whether every value is a finite number."""
        return all(map(math.isfinite, self.values.values()))

    def without_lost_numbers(self) -> ClaimSide:
        """Return the side without the values that are not finite; their seeds count as `not a number`."""
        kept = {seed: value for seed, value in self.values.items() if math.isfinite(value)}
        lost = len(self.values) - len(kept)
        if not lost:
            return self
        states = {**self.states, "finished": self.states.get("finished", lost) - lost, LOST_NUMBER: lost}
        return replace(self, values=kept, states=states)

    def lacks(self) -> str:
        """Describe the seeds without a value: `off diverged in 1 of 3 seeds, 1 missing`; empty if all are finished."""
        if not self.cells:
            return f"{self.name} was not run"
        diverged, of = self.states.get("diverged", 0), f"of {many(self.cells, 'seed')}"
        others = [f"{n} {state}" for state, n in self.states.items() if n and state not in {"finished", "diverged"}]
        if diverged:
            return ", ".join([f"{self.name} diverged in {diverged} {of}", *others])
        return f"{self.name}: {', '.join(others)} {of}" if others else ""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Status of a claim, with the reason and the numbers behind it."""

    status: Status
    why: str = ""
    """Reason for the status; empty if the numbers explain it."""
    difference: PairedDifference | None = None
    """Paired difference of two variants; positive if `better` is ahead."""
    mean: float | None = None
    """Of one variant that is said to reach a number, with the prediction interval for one run more."""
    interval: Interval | None = None
    level: float | None = None
    """Confidence level of `interval`."""
    seeds: int = 0

    @property
    def numbers(self) -> str:
        """`+0.42 [+0.10, +0.74] points over 5 pairs` or `97.02 [96.80, 97.24] % over 3 seeds`; empty if none."""
        if self.mean is not None:
            return f"{100 * self.mean:.2f}{_bracket(self.interval, '.2f')} % over {many(self.seeds, 'seed')}"
        found = self.difference
        if found is None or found.mean is None:
            return ""
        return f"{100 * found.mean:+z.2f}{_bracket(found.interval, '+.2f')} points over {many(found.pairs, 'pair')}"

    @property
    def words(self) -> str:
        """Return the numbers and the reason in one line."""
        return joined(self.numbers, self.why)


def judge_difference(
    relation: Relation, better: ClaimSide, worse: ClaimSide, *, margin: float, level: float, size: float | None = None,
    tolerance: float = 0.0, as_claimed: bool = True, lower_is_better: bool = False,
    interval: Interval | None = None, chance: float | None = CHANCE,
) -> Judgement:  # fmt: skip
    """Judge a claim by the shared seeds of two variants; all numbers are fractions.

    Args:
        relation: what the claim says of the two.
        better: the variant that is said to be ahead.
        worse: the other one.
        margin: the difference that does not matter.
        level: confidence of Student's interval.
        size: the difference that is claimed, if one is.
        tolerance: how far the size may be off.
        as_claimed: measured at the claim's scale, protocol and data.
        lower_is_better: the metric is better where it is lower.
        interval: the simultaneous interval of the variant that is ahead less the other, in place of Student's.
        chance: the metric of a network that guesses; None where a diverged one has nothing like it.
    """
    lost_numbers = not (better.is_finite and worse.is_finite)
    better, worse = better.without_lost_numbers(), worse.without_lost_numbers()
    lacks = joined(better.lacks(), worse.lacks())
    ahead, behind = (worse, better) if lower_is_better else (better, worse)
    found = paired_difference(ahead.values, behind.values, level=level)
    if interval is not None:
        found = replace(found, interval=interval, reason=None)
    size = size if as_claimed else None
    if chance is not None and (gone := _after_divergence(relation, better, worse, size)) is not None:
        status, why = gone
    elif not better.values or not worse.values:
        return Judgement(status="not measured", why=lacks or "no finished cell has the metric")
    elif found.interval is None:
        status, why = "inconclusive", found.reason or ""
    elif lost_numbers or not all(map(math.isfinite, found.interval)):
        status, why = "inconclusive", NO_NUMBER
    else:

        def rule(where: Interval) -> tuple[Status, str]:
            if relation == "better" and not as_claimed:
                return _direction(where, margin, worse.name)
            return _decide(relation, where, margin, (better.name, worse.name), size, tolerance)

        status, why = rule(found.interval)
        at_chance = _at_chance(ahead, behind, chance)
        if status != "inconclusive" and (at_chance is None or any(rule((d, d))[0] != status for d in at_chance)):
            status, why = "inconclusive", f"{status} without the seeds that diverged"
    status = status if as_claimed else _ELSEWHERE.get(status, status)
    return Judgement(status=status, why=joined(why, lacks), difference=found)


def judge_accuracy(
    side: ClaimSide, *, accuracy: float, tolerance: float, level: float = 0.95, as_claimed: bool = True
) -> Judgement:
    """Judge an accuracy that one variant is said to reach by its seeds; all numbers are fractions.

    The number of a source is that of one run: it is compared with the prediction interval for one run more.
    """
    if not as_claimed:
        return Judgement(status="not measured", why=AS_CLAIMED_ONLY)
    lost_numbers, side = not side.is_finite, side.without_lost_numbers()
    lacks, claimed = side.lacks(), f"{100 * accuracy:.2f} ± {100 * tolerance:.2f} %"
    if not side.values:
        return Judgement(status="refuted" if side.has_diverged else "not measured", why=lacks)
    found, n = prediction_interval(side.values, level=level), len(side.values)
    mean = sum(side.values.values()) / n
    if found is None:
        unknown = joined(ONE_SEED if n == 1 else SAME, lacks)
        return Judgement(status="inconclusive", why=unknown, mean=mean, seeds=n)
    status, why = _place(found, accuracy - tolerance, accuracy + tolerance, claimed)
    if lost_numbers:
        status, why = "inconclusive", NO_NUMBER
    if side.diverged and status != "inconclusive" and "below" not in why:
        status, why = "inconclusive", f"{status} without the seeds that diverged"
    return Judgement(status=status, why=joined(why, lacks), mean=mean, interval=found, level=level, seeds=n)


def _at_chance(ahead: ClaimSide, behind: ClaimSide, chance: float | None) -> list[float] | None:
    """Return the differences of seeds in which one of the two diverged, guessing in its place.

    None where such a seed has nothing that could stand in its place.
    """
    lost = [(seed, behind) for seed in ahead.diverged & behind.values.keys()]
    lost_there = [(seed, ahead) for seed in behind.diverged & ahead.values.keys()]
    if chance is None:
        return None if lost or lost_there else []
    return [chance - side.values[seed] for seed, side in lost] + [
        side.values[seed] - chance for seed, side in lost_there
    ]


def joined(*parts: str) -> str:
    """Join the parts that are not empty into one line."""
    return "; ".join(part for part in parts if part)


def _after_divergence(
    relation: Relation, better: ClaimSide, worse: ClaimSide, size: float | None
) -> tuple[Status, str] | None:
    """Return the status that follows if one variant diverged in every seed; None if neither did or one is missing."""
    if worse.has_diverged and len(worse.diverged & better.values.keys()) >= 2:
        if size is not None:
            return "inconclusive", "the direction holds, the size cannot be told"
        return ("refuted" if relation == "alike" else "supported"), ""
    is_refuted = better.has_diverged and len(better.diverged & worse.values.keys()) >= 2
    return ("refuted", "") if is_refuted else None


def _decide(
    relation: Relation, found: Interval, margin: float, names: tuple[str, str], size: float | None, tolerance: float
) -> tuple[Status, str]:
    (low, high), (better, worse), points = found, names, f"{100 * margin:.2f}"
    if relation == "better":
        return _decide_better(found, margin, worse, size, tolerance)
    if high < -margin:
        return "refuted", f"{worse} is ahead by more than {points}"
    if relation == "not better":
        return ("supported", "") if low >= -margin else ("inconclusive", f"{worse} may be ahead by more than {points}")
    if low > margin:
        return "refuted", f"{better} is ahead by more than {points}"
    if -margin <= low and high <= margin:
        return "supported", f"within ± {points}"
    return "inconclusive", f"neither within ± {points} nor beside it"


def _decide_better(
    found: Interval, margin: float, worse: str, size: float | None, tolerance: float
) -> tuple[Status, str]:
    low, high = found
    claims_more = size is None or size > margin
    if high < 0:
        return "refuted", f"{worse} is ahead"
    if -margin <= low and high <= margin and claims_more:
        within = f"within ± {100 * margin:.2f}"
        return ("refuted", f"equivalent: {within}") if low <= 0 else ("negligible", f"ahead, and {within}")
    if low <= 0:
        return "inconclusive", "either may be ahead"
    if size is None:
        return "supported", ""
    claimed = f"{100 * size:.2f} ± {100 * tolerance:.2f}"
    if high < size - tolerance or low > size + tolerance:
        return "refuted", f"the direction holds, the size does not: claimed {claimed}"
    if low < size - tolerance or high > size + tolerance:
        return "size open", f"the direction holds, the size may lie beside the claimed {claimed}"
    return "supported", f"within the claimed {claimed}"


def _direction(found: Interval, margin: float, worse: str) -> tuple[Status, str]:
    """Judge only the direction of a `better` claim, for measurements made elsewhere: which of the two is ahead."""
    low, high = found
    within = f"equivalent here: within ± {100 * margin:.2f}" if -margin <= low and high <= margin else ""
    if low > 0:
        return "supported", within
    if high < 0:
        return "refuted", joined(f"{worse} is ahead", within)
    return "inconclusive", within or "either may be ahead"


def _place(found: Interval, low: float, high: float, claimed: str) -> tuple[Status, str]:
    """Compare the interval of a mean with the claimed range."""
    if found[1] < low or found[0] > high:
        return "refuted", f"{'below' if found[1] < low else 'above'} the claimed {claimed}"
    if low <= found[0] and found[1] <= high:
        return "supported", f"within the claimed {claimed}"
    return "inconclusive", f"reaches out of the claimed {claimed}"


def _bracket(found: Interval | None, form: str) -> str:
    return f" [{100 * found[0]:{form}}, {100 * found[1]:{form}}]" if found is not None else ""
