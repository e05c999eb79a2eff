"""The lines around a comparison's table: what was compared, and what must be known before a number is believed."""

from __future__ import annotations

import math

from cifar_lab.config.overrides import format_overrides
from cifar_lab.results.comparison import MIXED, Comparison, ComparisonRow, StoppingSummary
from cifar_lab.results.final_metrics import PEAK
from cifar_lab.results.stats.convergence import one_tenth, still_rises
from cifar_lab.results.stats.decision import RULE
from cifar_lab.text import in_points, many

MIXED_EXECUTION = "* this row, or this row and the control, mix executions (device, threads, precision, compile)"
SHORT = 12
"""Digits of a fingerprint that a note shows."""
MOST_NAMED = 3
"""Rows that a note names one by one where it is about all of them."""


def header(comparison: Comparison) -> list[str]:
    """Return the lines that stand above a table: what was compared, on which data, and by what."""
    setting = format_overrides(comparison.overrides)
    parts = (comparison.ablation, f"scale {comparison.scale}", comparison.data, setting)
    lines = [" · ".join(filter(None, parts))]
    against = "the stage before" if comparison.chain else comparison.control
    compared = any(row.difference is not None for row in comparison.rows)
    lines.append(_metric(comparison) + (f" · Δ against {against}, paired by seed" if compared else ""))
    more = f", the latest of {comparison.invocations} in this setting" if comparison.invocations > 1 else ""
    lines.append(f"invocation {comparison.invocation}{more}")
    return lines


def _metric(comparison: Comparison) -> str:
    if comparison.metric == PEAK:
        return "peak accuracy on test over the epochs: selected on test"
    if comparison.metric == "val/acc":
        return "accuracy on val, of the last weights; a search does not look at test"
    if comparison.protocol == MIXED:
        return "accuracy on test, of the last weights; protocols differ: writeup looked at it in every epoch"
    return "accuracy on test, of the last weights, looked at once"


def footer(comparison: Comparison) -> list[str]:
    """Return what must be known before a number is believed."""
    lines = _caveats(comparison)
    if comparison.comparisons and any(row.differences for row in comparison.rows):
        lines += _statistics(comparison)
    if any(row.continues and row.epochs_to for row in comparison.rows):
        lines.append("a stage that goes on from another begins warm: its speed is compared with nothing")
    return lines + _last(comparison)


def notes(comparison: Comparison) -> list[str]:
    """Return the part of `footer` that may change how the result is read; nothing of the method."""
    differs = comparison.comparisons and any(row.differences for row in comparison.rows)
    return _caveats(comparison) + (_rules(comparison) if differs else []) + _last(comparison)


def intervals(comparison: Comparison) -> list[str]:
    """Return what the intervals hold for, in a line; none without intervals."""
    together = f", together for {comparison.comparisons} comparisons" if comparison.comparisons > 1 else ""
    has_some = any(row.interval is not None for row in comparison.rows)
    return [f"interval: {100 * comparison.confidence:.0f} % confidence{together}"] if has_some else []


def _caveats(comparison: Comparison) -> list[str]:
    lines = [f"damaged, and not used: {line}" for line in comparison.damage]
    if any(row.mixed_execution for row in comparison.rows):
        lines.append(MIXED_EXECUTION)
    return lines + [comparison.redeclared] * bool(comparison.redeclared)


def _last(comparison: Comparison) -> list[str]:
    """Return which curves still rise, and the other settings."""
    lines = []
    if rising := [row for row in comparison.rows if still_rises(row.rises)]:
        words = _rises(rising) if len(rising) == len(comparison.rows) > MOST_NAMED else ", ".join(map(_rise, rising))
        order = ": a longer training may change the order" if len(comparison.rows) > 1 else ""
        lines.append(f"still rising: {words} points in {_end(rising)}{order}")
    return lines + [f"also there: {other}" for other in comparison.others]


def _statistics(comparison: Comparison) -> list[str]:
    """The rule, what its intervals hold for, and what so few seeds cannot show."""
    lines = [
        f"{_interval(comparison)}, over seeds; for this test set and this split",
        f"margin: {in_points(comparison.margin)}; {RULE}",
    ]
    return lines + _rules(comparison) + _smallest(comparison)


def _rules(comparison: Comparison) -> list[str]:
    """Return how the margin and the number of seeds were changed or fixed."""
    lines = []
    if comparison.margin_before is not None:
        margin, since = comparison.margin_before
        lines.append(f"the margin was {in_points(margin)} before invocation {since}, when results could be seen")
    if comparison.stopping is not None:
        verdicts = [row.verdict for row in comparison.rows] + [effect.verdict for effect in comparison.effects]
        lines += _stopping(comparison.stopping, all_decided="undecided" not in verdicts)
    return lines + _prior(comparison)


def _prior(comparison: Comparison) -> list[str]:
    """Return the variance prior of a single comparison, with the cells that it comes from."""
    if comparison.prior is None:
        return []
    names, cells = ", ".join(comparison.prior.ablations), [each[:SHORT] for each in comparison.prior.fingerprints]
    return [
        f"variance prior: {len(cells)} cells of the control that were finished before this study began ({names}), "
        f"± {100 * math.sqrt(comparison.prior.variance):.2f} points each: {', '.join(cells)}"
    ]


def _interval(comparison: Comparison) -> str:
    """Return one line that names the method of the intervals."""
    percent = f"interval: {100 * comparison.confidence:.0f} %"
    moderated = [row for row in comparison.rows if row.critical is not None]
    if moderated and comparison.prior is not None:
        return f"{percent}, ± {moderated[0].critical:.2f} standard errors moderated by earlier cells of the control"
    if moderated:
        values = sorted({f"{row.critical:.2f}" for row in moderated}, reverse=True)
        by_look = ", by the look that it was decided at" if len(values) > 1 else ""
        together = f"together ({many(len(moderated), 'difference')})"
        return f"{percent} {together}, ± {' or '.join(values)} moderated standard errors{by_look}"
    together = "" if comparison.comparisons == 1 else f" together ({comparison.comparisons} differences, Šidák)"
    return f"{percent}{together}, Student"


def _smallest(comparison: Comparison) -> list[str]:
    """Return the limits of few pairs: no interval from one pair, no small p-value from several."""
    compared = [row for row in comparison.rows if row.differences]
    lines = []
    if alone := [row.variant for row in compared if row.pairs == 1]:
        who = "" if len(alone) == len(compared) else f"{', '.join(alone)}: "
        lines.append(f"{who}one seed shows no deviation and decides nothing; see how much chance moves: noise_floor")
    some = sorted({row.pairs for row in compared if row.pairs > 1})
    if some:
        floor, k = 2.0 ** (1 - some[-1]), len(compared)
        pairs = f"{some[0]} to {some[-1]} pairs" if len(some) > 1 else f"{some[0]} pairs"
        corrected = f", {min(1.0, k * floor):.3g} where it is the smallest of {k}" if k > 1 else ""
        lines.append(f"{pairs}: no sign-flip p is below {floor:.3g}{corrected}")
    return lines


def _stopping(rule: StoppingSummary, *, all_decided: bool) -> list[str]:
    """Return the lines of the footer on the rule."""
    if rule.dropped:
        return ["a stopping rule was dropped after results were seen: intervals are not protected against looking"]
    looks, last = ", ".join(map(str, rule.looks)), rule.seen == len(rule.looks)
    until = "and not all is decided" if last and not all_decided else "until all is decided"
    lines = [
        f"seeds are added by a rule, {until}: looks after {looks} seeds, {rule.seen} taken; the intervals hold at "
        f"every look (alpha spending: {rule.spending}), {_method(rule)}",
        "the seeds needed: by the intervals of the last look; p: as if there had been one look; "
        "Δ of a variant that was decided early is biased away from 0",
    ]
    if rule.before:
        were = f"{many(rule.before, 'seed')} {'was' if rule.before == 1 else 'were'}"
        lines.append(f"{were} compared before the rule was begun: what could be concluded then is not accounted for")
    return lines


def _method(rule: StoppingSummary) -> str:
    """Return how wide the intervals of each look are."""
    if not rule.critical:
        return "Student's, each at the level of its look"
    return f"± {', '.join(f'{value:.2f}' for value in rule.critical)} moderated standard errors"


def _rise(row: ComparisonRow) -> str:
    return f"{row.variant} {100 * (row.rise or 0):+z.1f}"


def _rises(rising: list[ComparisonRow]) -> str:
    """Return the range of the rises of all rows: `every row, +6.1 to +12.4`."""
    rises = [100 * (row.rise or 0) for row in rising]
    return f"every row, {min(rises):+z.1f} to {max(rises):+z.1f}"


def _end(rising: list[ComparisonRow]) -> str:
    """Return `the last tenth of 200 epochs`; for a short training, the last epoch."""
    lengths = sorted({row.epochs for row in rising if row.epochs is not None})
    part = "the last epoch" if lengths and one_tenth(lengths[-1]) == 1 else "the last tenth"
    if len(lengths) == 1:
        return f"{part} of {lengths[0]}" + ("" if part == "the last epoch" else " epochs")
    return part + (f" of {lengths[0]} to {lengths[-1]} epochs" if lengths else " of the epochs")
