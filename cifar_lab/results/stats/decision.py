"""The decision rule: a verdict from the position of a difference's simultaneous interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from cifar_lab.results.stats.paired import Interval

Verdict = Literal["better", "worse", "equivalent", "undecided"]

CHANCE = 0.1
"""Accuracy of guessing among ten classes; a diverged network knows no more."""
RULE = "equivalent: interval within ± margin; else better or worse: it excludes 0; else undecided; p decides nothing"


def decide_verdict(interval: Interval | None, margin: float) -> Verdict | None:
    """Return the verdict on the interval of a difference; None without an interval.

    The margin, in the unit of the interval, is the largest difference that does not matter. A difference may be
    different from 0 and still too small to matter: the verdict is then "equivalent".
    """
    if interval is None:
        return None
    low, high = interval
    if -margin <= low and high <= margin:
        return "equivalent"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "undecided"


def decide_with_diverged(
    interval: Interval | None, at_chance: Iterable[float], margin: float, words: Mapping[str, str] | None = None
) -> tuple[str | None, str | None]:
    """Return the verdict on an interval of finished seeds, and why it is `undecided` if a diverged seed says otherwise.

    Args:
        interval: of the difference over the seeds that were finished in both variants.
        at_chance: differences of the seeds in which one of the two diverged, which counts as guessing.
        margin: the difference that does not matter.
        words: other words for verdicts; two verdicts with one word agree.

    Seeds that diverge are not left out at random: a verdict on the survivors alone would be one about luck.
    """

    def said(where: Interval | None) -> str | None:
        verdict = decide_verdict(where, margin)
        return (words or {}).get(verdict, verdict) if verdict is not None else None

    verdict = said(interval)
    if verdict in {None, "undecided"} or all(said((each, each)) == verdict for each in at_chance):
        return verdict, None
    return "undecided", f"{verdict} without the seeds that diverged"
