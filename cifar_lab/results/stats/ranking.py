"""Ranks of several variants over the same seeds, with simultaneous intervals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from cifar_lab.results.stats.moderated import moderated_intervals
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.results.stats.paired import Interval, Values, interval, paired_difference


def rank_intervals(values: Mapping[str, Values], *, confidence: float = CONFIDENCE) -> dict[str, tuple[int, int]]:
    """Return the best and the worst rank that each variant may have; together they hold with `confidence`.

    All pairs of variants are compared by Student's intervals of their paired differences, at Šidák's level for so many
    pairs. A variant that is above i others has at best the rank that these leave, as in Mogstad, Romano, Shaikh and
    Wilhelm (2024), "Inference for ranks with applications to mobility across neighbourhoods". Two variants that share
    fewer than two seeds are not told apart.

    Args:
        values: by variant and seed; the higher the better.
        confidence: that all true ranks are within their intervals.

    Returns:
        For each variant the lowest and the highest rank, from 1.
    """
    pairs = list(itertools.combinations(values, 2))
    level = per_comparison(confidence, len(pairs))
    above, below = dict.fromkeys(values, 0), dict.fromkeys(values, 0)
    for one, other in pairs:
        found = paired_difference(values[one], values[other], level=level).interval
        if found is None or found[0] <= 0 <= found[1]:
            continue
        better, worse = (one, other) if found[0] > 0 else (other, one)
        above[worse] += 1
        below[better] += 1
    return {name: (1 + above[name], len(values) - below[name]) for name in values}


def simultaneous_means(values: Mapping[str, Values]) -> dict[str, Interval | None]:
    """Return an interval of the mean of each variant; together they hold at 95 %. None where there is none.

    Variances are moderated where two variants or more have two values; otherwise the interval is Student's at Šidák's
    level. The values of different variants need not be independent.
    """
    moderated = moderated_intervals({name: list(own.values()) for name, own in values.items()}, "any")
    level = per_comparison(CONFIDENCE, len(values))
    return {
        name: moderated[name].interval if name in moderated else interval(own, level=level)
        for name, own in values.items()
    }
