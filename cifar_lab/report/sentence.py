"""A comparison in one plain sentence: which variants differ, or how many seeds would show a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cifar_lab.report.headline import interaction
from cifar_lab.report.table_content import points
from cifar_lab.results.comparison import Comparison, ComparisonRow
from cifar_lab.results.stats.moderated import family_of, moderated_seeds_needed
from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.stats.power import MOST, seeds_needed

SHOWN = 3
"""Number of differences, or of names, that the sentence spells out."""


def sentence(comparison: Comparison) -> str:
    """Return what the comparison shows, in one sentence; empty where nothing is compared.

    `r4 is better than r16 by 1.20 points (interval +0.30 to +2.10); none cannot be told apart from r16 with 5 seeds.`
    or `With 2 seeds nothing can be told apart here; about 14 would show 2 points.`
    """
    rows = [row for row in comparison.rows if row.against is not None]
    if not rows:
        return ""
    of = {kind: [row for row in rows if row.verdict == kind] for kind in ("equivalent", "diverged", "undecided", None)}
    parts = [*_differences(rows), *_equivalent(of["equivalent"], comparison.margin), *_diverged(of["diverged"])]
    if not parts and not any(row.pairs for row in rows):
        return interaction(comparison) + _nothing_yet(rows)
    if of["undecided"]:
        parts.append(_undecided(of["undecided"], comparison, is_all=not parts and not of[None]))
    if of[None]:
        parts.append(f"{_names(of[None])} cannot be compared yet")
    text = "; ".join(parts)
    return f"{interaction(comparison)}{text}."


def _differences(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the largest differences, one a part, and the names of the others."""
    found = [row for row in rows if row.verdict in {"better", "worse"}]
    found.sort(key=lambda row: -abs(row.difference or 0.0))
    parts = [_difference(row, is_first=i == 0) for i, row in enumerate(found[:SHOWN])]
    for verdict in ("better", "worse"):
        if more := [row for row in found[SHOWN:] if row.verdict == verdict]:
            parts.append(f"{_names(more)} {'is' if len(more) == 1 else 'are'} {verdict} too")
    return parts


def _difference(row: ComparisonRow, *, is_first: bool) -> str:
    """Return `r4 is better than r16 by 1.20 points (interval +0.30 to +2.10)`; of a later one, the short form."""
    assert row.difference is not None, "a verdict without a difference"
    low, high = (points(end, sign=True) for end in row.interval or (None, None))
    partly = f" where it trains ({row.diverged} diverged)" if row.diverged else ""
    by, span = points(abs(row.difference)), f"{low} to {high}"
    if is_first:
        return f"{row.variant} is {row.verdict} than {row.against} by {by} points (interval {span}){partly}"
    return f"{row.variant} is {row.verdict} by {by} ({span}){partly}"


def _equivalent(rows: Sequence[ComparisonRow], margin: float) -> list[str]:
    if not rows:
        return []
    verb = "is" if len(rows) == 1 else "are"
    return [f"{_names(rows)} {verb} equivalent to {_other(rows)} within {_amount(margin)}"]


def _diverged(rows: Sequence[ComparisonRow]) -> list[str]:
    return [f"{_names(rows)} diverged in every seed"] if rows else []


def _undecided(rows: Sequence[ComparisonRow], comparison: Comparison, *, is_all: bool) -> str:
    """Return what cannot be told apart with so many seeds, and how many seeds would show the margin."""
    low, high = min(row.pairs for row in rows), max(row.pairs for row in rows)
    seeds = f"{low} to {high} seeds" if low != high else "1 seed" if high == 1 else f"{high} seeds"
    if is_all:
        what = f"With {seeds} nothing can be told apart here"
    else:
        what = f"{_names(rows)} cannot be told apart from {_other(rows)} with {seeds}"
    return f"{what}; {more}" if (more := _more_seeds(comparison, high)) else what


def _more_seeds(comparison: Comparison, pairs: int) -> str:
    if pairs < 2:
        return "2 or more are needed"
    if (deviation := pooled_deviation(comparison)) is None:
        return "3 or more would tell how many are needed"
    needed, amount = _needed(comparison, deviation), _amount(comparison.margin)
    if needed is None:
        return f"more than {MOST:,} would be needed to show {amount}"
    if needed <= pairs:
        return f"a difference of {amount} would probably have shown"
    return f"about {needed:,} would show {amount}"


def _needed(comparison: Comparison, deviation: float) -> int | None:
    """Return the pairs that would show the margin with the intervals that the comparison has."""
    moderated = [row for row in comparison.rows if row.critical is not None]
    if not moderated:
        level = per_comparison(comparison.confidence, comparison.comparisons)
        return seeds_needed(comparison.margin, deviation, level)
    family = family_of(row.against for row in moderated)
    return moderated_seeds_needed(comparison.margin, deviation, len(moderated), family)


def pooled_deviation(comparison: Comparison) -> float | None:
    """Return the deviation of a difference, pooled over all rows by their degrees of freedom.

    None with fewer than two degrees of freedom: the deviation of two numbers says next to nothing.
    """
    found = [(row.pairs - 1, row.difference_std) for row in comparison.rows if row.pairs > 1]
    squares = [(degrees, std**2) for degrees, std in found if std is not None]
    degrees = sum(each for each, _ in squares)
    variance = sum(each * square for each, square in squares) / degrees if degrees else 0.0
    return math.sqrt(variance) if degrees > 1 and variance > 0 else None


def _nothing_yet(rows: Sequence[ComparisonRow]) -> str:
    reasons = {row.reason for row in rows}
    reason = reasons.pop() if len(reasons) == 1 else None
    return f"Nothing can be compared yet: {reason}." if reason else "Nothing can be compared yet."


def _other(rows: Sequence[ComparisonRow]) -> str:
    """Return what the rows are compared with; in a chain, each has another stage."""
    others = {row.against for row in rows}
    return str(others.pop()) if len(others) == 1 else "the stage before"


def _names(rows: Sequence[ComparisonRow]) -> str:
    """Return `r8`, `r8 and r2`, `r8, r2 and 3 more`."""
    names = [row.variant for row in rows]
    if len(names) > SHOWN + 1:
        names = [*names[:SHOWN], f"{len(names) - SHOWN} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _amount(fraction: float) -> str:
    value = f"{100 * fraction:g}"
    return f"{value} point" + ("" if value == "1" else "s")
