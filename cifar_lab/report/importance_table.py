"""Importances of a search's dimensions as rows and sentences, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cifar_lab.text import many

EVALUATORS = {"fanova": "fANOVA", "ped_anova": "PED-ANOVA"}
MEANINGS = {
    "fanova": "fANOVA: share of the variance over the whole space",
    "ped_anova": "PED-ANOVA: what tells the best tenth from the rest",
}
RANDOM = "random"
LEADER = 100
"""Minimum number of random trials from which the leading dimension of fANOVA is mostly the true one."""
RESAMPLED = "95 % of resamples"
"""Heading of the range of a share. It is no confidence interval: `docs/benchmarks/importance.md` has its coverage."""
STEADY = 0.8
"""Share of the resamples in which a dimension leads, from which on it is called the first."""


@dataclass(frozen=True, kw_only=True)
class ImportanceSummary:
    """Importances by evaluator and dimension, as shares; an evaluator that had too few trials is missing."""

    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """Range of each share over 95 % of the resamples."""
    leads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Share of the resamples in which a dimension is the most important one."""
    needed: Mapping[str, int] = field(default_factory=dict)
    """Minimum number of trials with a value, by evaluator."""
    resamples: int = 0
    sampler: str = ""
    """Sampler of the search; empty if unknown."""


def importance_rows(summary: ImportanceSummary, evaluator: str) -> list[tuple[str, str, str, str]]:
    """Return a row per dimension: name, share, range, and in how many resamples it leads."""
    intervals, leads = summary.intervals.get(evaluator, {}), summary.leads.get(evaluator, {})
    return [
        (name, f"{share:.3f}", _between(intervals.get(name)), f"{100 * leads[name]:.0f} %" if name in leads else "")
        for name, share in summary.shares[evaluator].items()
    ]


def explain_importances(summary: ImportanceSummary, values: Sequence[float], dimensions: int = 0) -> list[str]:
    """Return how to read the importances, or why there are none, in a few lines.

    Args:
        summary: what was computed.
        values: values of the trials that have one.
        dimensions: number of dimensions of the space; 0 if unknown.
    """
    if not summary.shares:
        return [no_importances(values, summary.needed, dimensions)]
    lines = [_leader(summary, name) for name in summary.shares]
    if summary.sampler != RANDOM or len(values) < LEADER:
        lines.append("Read the first three together: in simulated searches like this the leader is often a wrong one.")
    elif "ped_anova" in summary.shares:
        lines.append("Read PED-ANOVA's first three together: in simulated searches its leader is often a wrong one.")
    if summary.sampler != RANDOM:
        lines.append(
            "The sampler chose trials by the results of earlier ones, and more of them do not mend that; "
            f"{LEADER} trials of --sampler random would."
        )
    lines += [MEANINGS.get(name, name) for name in summary.shares]
    if summary.resamples:
        lines.append(
            f"Ranges: 95 % of {summary.resamples} resamples of the trials. They show how far a share moves, and are no "
            "confidence intervals: in simulated searches they held the shares of a long search in 79 to 89 % of cases, "
            "and the leading share of PED-ANOVA in 37 to 44 %."
        )
    few = [name for name in summary.needed if name not in summary.shares]
    return lines + [f"{_named(name)} takes {summary.needed[name]} trials; there are {len(values)}." for name in few]


def no_importances(values: Sequence[float], needed: Mapping[str, int], dimensions: int = 0) -> str:
    """Return the reason why trials with these values have no importances."""
    if len(values) < min(needed.values(), default=0):
        what = f"{dimensions} dimensions" if dimensions else "the dimensions"
        enough = " or ".join(f"{count} by {_named(name)}" for name, count in needed.items())
        return (
            f"No importances: {many(len(values), 'trial')} with a value cannot rank {what}; {enough} would do for the "
            f"first three, and {LEADER} of --sampler random for the leader (a simulation decided the numbers)."
        )
    if len(set(values)) == 1:
        return "No importances: every trial has the same value."
    return "No importances: there is no dimension that every trial with a value was asked for."


def _leader(summary: ImportanceSummary, evaluator: str) -> str:
    """Return which dimension leads, and how steadily."""
    shares, leads = summary.shares[evaluator], summary.leads.get(evaluator, {})
    first = next(iter(shares))
    if not leads:
        return f"{_named(evaluator)}: {first} leads."
    steady = leads.get(first, 0.0)
    often = f"{first} leads in {100 * steady:.0f} % of the resamples"
    if steady >= STEADY:
        return f"{_named(evaluator)}: {often}."
    rivals = sorted(
        (name for name, share in leads.items() if name != first and share > 0), key=lambda name: -leads[name]
    )
    return f"{_named(evaluator)}: {often} only; {', '.join(rivals)} in the others: which is first is open."


def _named(evaluator: str) -> str:
    return EVALUATORS.get(evaluator, evaluator)


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
