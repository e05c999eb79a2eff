"""The one rule that decides: where the simultaneous interval of a difference lies."""

from __future__ import annotations

from typing import Literal

from cifar_lab.stats.paired import Interval

Verdict = Literal["better", "worse", "equivalent", "undecided"]

RULE = "equivalent: interval within ± margin; else better or worse: it excludes 0; else undecided; p decides nothing"


def decide(interval: Interval | None, margin: float) -> Verdict | None:
    """What an interval of a difference says; None where there is none.

    The margin, in the unit of the interval, is the difference that does not matter. A difference may be real and still
    too small to matter: then it is equivalent.
    """
    if interval is None:
        return None
    low, high = interval
    if -margin <= low and high <= margin:
        return "equivalent"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "undecided"
