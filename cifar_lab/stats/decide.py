"""The decision rule: a verdict from the position of a difference's simultaneous interval."""

from __future__ import annotations

from typing import Literal

from cifar_lab.stats.paired import Interval

Verdict = Literal["better", "worse", "equivalent", "undecided"]

RULE = "equivalent: interval within ± margin; else better or worse: it excludes 0; else undecided; p decides nothing"


def decide(interval: Interval | None, margin: float) -> Verdict | None:
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
