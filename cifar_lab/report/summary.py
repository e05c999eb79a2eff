"""Summaries of a comparison in plain words: one sentence, verdicts by variant, setting, claims, and noise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from cifar_lab.config.overrides import format_overrides
from cifar_lab.report.table_content import count_requested, is_interaction, points, span, without_metric
from cifar_lab.results.comparison import UNFINISHED, Comparison, ComparisonRow
from cifar_lab.results.stats.claims import STATUSES
from cifar_lab.results.stats.group_sequential import last_look_widening
from cifar_lab.results.stats.moderated import family_of, moderated_seeds_needed
from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.stats.power import MOST, seeds_needed
from cifar_lab.text import in_points, many

PARTLY = " where it trains"
"""Suffix of a verdict over the seeds in which the variant did not diverge."""
VERDICTS = ("better", f"better{PARTLY}", "worse", f"worse{PARTLY}", "equivalent", f"equivalent{PARTLY}", "undecided",
            "diverged", "not compared")  # fmt: skip
"""Possible outcomes of a row, in order of mention."""
SHOWN = 3
"""Number of differences, or of names, that a sentence spells out."""


def comparison_headline(comparison: Comparison) -> str:
    """Return the sentence, or the accuracies where nothing is compared, followed by the setting."""
    lead = comparison_sentence(comparison) or f"{_accuracies_in_words(comparison)}."
    return f"{lead} {comparison_setting(comparison)}."


def comparison_sentence(comparison: Comparison) -> str:
    """Return what the comparison shows, in one sentence; empty where nothing is compared.

    `r4 is better than r16 by 1.20 points (interval +0.30 to +2.10); none cannot be told apart from r16 with 5 seeds.`
    or `With 2 seeds nothing can be told apart here; about 14 would show 2 points.`
    """
    rows = [row for row in comparison.rows if row.against is not None]
    if not rows:
        return ""
    equivalent, diverged, undecided, unjudged = (
        [row for row in rows if row.verdict == kind] for kind in ("equivalent", "diverged", "undecided", None)
    )
    parts = [*_differences(rows), *_equivalent(equivalent, comparison.margin)]
    parts += [f"{_names(diverged)} diverged in every seed"] if diverged else []
    if not parts and not any(row.pairs for row in rows):
        return _interaction(comparison) + _nothing_yet(rows)
    if undecided:
        parts.append(_undecided(undecided, comparison, is_all=not parts and not unjudged))
    if unjudged:
        parts.append(f"{_names(unjudged)} cannot be compared yet")
    return f"{_interaction(comparison)}{'; '.join(parts)}."


def _interaction(comparison: Comparison) -> str:
    """Return `Interaction of a and b: absent (within ± 0.50), +0.10 [-0.20, +0.40] points. `; empty without one."""
    effect = next((each for each in comparison.effects if is_interaction(each)), None)
    if effect is None:
        return ""
    word = effect.verdict or "undecided"
    why = f"within ± {points(comparison.margin)}" if word == "absent" else effect.reason or ""
    numbers = f", {points(effect.difference, sign=True)} {span(effect.interval)}".rstrip() + " points"
    shown = word + (f" ({why})" if why else "") + (numbers if effect.difference is not None else "")
    return f"Interaction of {effect.name.replace(' × ', ' and ')}: {shown}. "


def _differences(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the largest differences, one a part, and the names of the others."""
    decided = [row for row in rows if row.verdict in {"better", "worse"}]
    decided.sort(key=lambda row: -abs(row.difference or 0.0))
    parts = [_difference(row, is_first=i == 0) for i, row in enumerate(decided[:SHOWN])]
    for verdict in ("better", "worse"):
        if more := [row for row in decided[SHOWN:] if row.verdict == verdict]:
            parts.append(f"{_names(more)} {'is' if len(more) == 1 else 'are'} {verdict} too")
    return parts


def _difference(row: ComparisonRow, *, is_first: bool) -> str:
    """Return `r4 is better than r16 by 1.20 points (interval +0.30 to +2.10)`; of a later one, the short form."""
    assert row.difference is not None, "a verdict without a difference"
    ends = span(row.interval)[1:-1].replace(", ", " to ")
    partly = f" where it trains ({row.diverged} diverged)" if row.diverged else ""
    by = points(abs(row.difference))
    if is_first:
        return f"{row.variant} is {row.verdict} than {row.against} by {by} points (interval {ends}){partly}"
    return f"{row.variant} is {row.verdict} by {by} ({ends}){partly}"


def _equivalent(rows: Sequence[ComparisonRow], margin: float) -> list[str]:
    if not rows:
        return []
    verb = "is" if len(rows) == 1 else "are"
    return [f"{_names(rows)} {verb} equivalent to {_other(rows)} within {in_points(margin)}"]


def _undecided(rows: Sequence[ComparisonRow], comparison: Comparison, *, is_all: bool) -> str:
    """Return what cannot be told apart with so many seeds, and how many seeds would show the margin."""
    low, high = min(row.pairs for row in rows), max(row.pairs for row in rows)
    seeds = f"{low} to {high} seeds" if low != high else many(high, "seed")
    if is_all:
        what = f"With {seeds} nothing can be told apart here"
    else:
        what = f"{_names(rows)} cannot be told apart from {_other(rows)} with {seeds}"
    return f"{what}; {more}" if (more := _more_seeds(comparison, high)) else what


def _more_seeds(comparison: Comparison, pairs: int) -> str:
    if pairs < 2:
        return "2 or more are needed"
    if (deviation := pooled_deviation(comparison)) is None:
        return "3 or more would tell how many are needed" if pairs < 3 else "no difference varies with the seed"
    needed, amount = _needed(comparison, deviation), in_points(comparison.margin)
    if needed is None:
        return f"more than {MOST:,} would be needed to show {amount}"
    if needed <= pairs:
        return f"a difference of {amount} would probably have shown"
    return f"about {needed:,} would show {amount}"


def _needed(comparison: Comparison, deviation: float) -> int | None:
    """Return the pairs that would show the margin with the intervals that the comparison has."""
    moderated = [row for row in comparison.rows if row.critical is not None]
    rule = comparison.stopping if comparison.stopping is not None and not comparison.stopping.dropped else None
    if len(moderated) < 2:  # one difference has Student's interval from four pairs on
        fixed = per_comparison(comparison.confidence, comparison.comparisons)
        level = rule.levels[-1] if rule is not None else fixed
        return seeds_needed(comparison.margin, deviation, level)
    family = family_of(row.against for row in moderated)
    wider = last_look_widening(rule.looks, rule.critical, len(moderated), family) if rule is not None else 1.0
    return moderated_seeds_needed(comparison.margin, deviation, len(moderated), family, wider=wider)


def pooled_deviation(comparison: Comparison) -> float | None:
    """Return the deviation of a difference, pooled over all rows by their degrees of freedom.

    None with fewer than two degrees of freedom: the deviation of two numbers says next to nothing.
    """
    deviations = [(row.pairs - 1, row.difference_std) for row in comparison.rows if row.pairs > 1]
    squares = [(degrees, std**2) for degrees, std in deviations if std is not None]
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


# Verdicts, setting and claims


def verdict_names(comparison: Comparison) -> list[tuple[str, str]]:
    """Return pairs (verdict, names of its rows) for a table; the interaction of a 2 × 2 study comes first."""
    rows = [row for row in comparison.rows if row.against is not None]
    if not rows:
        return [("", _accuracies_in_words(comparison))]
    pairs = [(f"interaction {each.verdict or 'undecided'}", "") for each in comparison.effects if is_interaction(each)]
    for verdict in VERDICTS:
        names = [_name_with_losses(row) for row in rows if _outcome(row) == verdict]
        pairs += [(verdict, ", ".join(names))] if names else []
    return pairs


def _outcome(row: ComparisonRow) -> str:
    verdict = row.verdict or "not compared"
    return f"{verdict}{PARTLY}" if row.diverged and f"{verdict}{PARTLY}" in VERDICTS else verdict


def _name_with_losses(row: ComparisonRow) -> str:
    """Return a variant's name, with the cells that its verdict excludes: `k3313 (2 of 5 diverged)`."""
    lost = f" ({row.diverged} of {count_requested(row)} diverged)"
    return f"{row.variant}{lost}" if _outcome(row).endswith(PARTLY) else row.variant


def comparison_setting(comparison: Comparison) -> str:
    """Return `5 seeds, scale small/5, CIFAR-10`."""
    rows = [row for row in comparison.rows if row.against is not None] or list(comparison.rows)
    counted = [(row.pairs if row.against is not None else row.n, row) for row in rows]
    seeds = [n for n, row in counted if n or row.verdict != "diverged"] or [0]
    low, high = min(seeds), max(seeds)
    shown = many(high, "seed") if low == high else f"{low} to {high} seeds"
    overrides = format_overrides(comparison.overrides)
    return ", ".join(filter(None, [shown, f"scale {comparison.scale}", comparison.data, overrides]))


def count_unfinished(comparison: Comparison) -> str:
    """Return `Of 25 cells, 2 missing, 1 failed.`; empty if every cell is finished."""
    counts = Counter[str]()
    for row in comparison.rows:
        counts.update({state: getattr(row, state) for state in UNFINISHED})
        counts[f"finished without {comparison.metric}"] += without_metric(row)
    words = [f"{n} {state}" for state, n in counts.items() if n]
    total = sum(row.n for row in comparison.rows) + counts.total()
    return f"Of {many(total, 'cell')}, {', '.join(words)}." if words else ""


def claim_counts(statuses: Iterable[str]) -> str:
    """Return `2 claims: 1 supported, 1 not measured`; empty without claims."""
    counts = status_counts(statuses)
    words = ", ".join(counted_status(n, status) for status, n in counts)
    return f"{many(sum(n for _, n in counts), 'claim')}: {words}" if counts else ""


def status_counts(statuses: Iterable[str]) -> list[tuple[str, int]]:
    """Return the number of claims by status, the most informative first."""
    counts = Counter[str](statuses)
    return [(status, counts[status]) for status in dict.fromkeys([*STATUSES, *counts]) if counts[status]]


def counted_status(n: int, status: str) -> str:
    """Return `2 supported`; `1 direction agrees`, `3 directions agree`."""
    noun, _, verb = status.partition(" ")
    return f"{n} {noun}s {verb.removesuffix('s')}" if noun == "direction" and n != 1 else f"{n} {status}"


def describe_noise(comparison: Comparison) -> str:
    """Describe the variation of the control over seeds."""
    row = next((row for row in comparison.rows if row.variant == comparison.control), None)
    if row is None or row.std is None:
        return "One seed, or none, of the control: how far chance alone moves it is not known."
    values = sorted(row.values.values())
    return (
        f"With nothing but the seed changed, {row.variant} moves by ± {points(row.std)} points (deviation over "
        f"{row.n} seeds; from {points(values[0])} to {points(values[-1])} %)."
    )


def _accuracies_in_words(comparison: Comparison) -> str:
    """Return the accuracies of rows that are compared with nothing."""
    words = [
        f"{row.variant}: {points(row.mean)} %" + (f" ± {points(row.std)}" if row.std is not None else "")
        for row in comparison.rows
        if row.mean is not None
    ]
    return ", ".join(words) or "No cell is finished"
