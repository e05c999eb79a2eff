"""Sentences and table of a confirmation, shared by the terminal, the page of a search, and MLflow."""

from __future__ import annotations

from cifar_lab.report.table_content import TextTable, points, span
from cifar_lab.results.confirmation import Confirmation, ConfirmedRecipe
from cifar_lab.text import many

HEADINGS = (
    "trial", "rank", "n", "search %", "fresh %", "± std", "curse", "curse interval", "test %", "Δ test", "interval",
    "verdict",
)  # fmt: skip
NUMBERS = ("n", "search %", "fresh %", "± std", "curse", "curse interval", "test %", "Δ test", "interval")
LEGEND = (
    "rank: by fresh %, with the ranks that it may have",
    "search %: accuracy on val that the search saw",
    "fresh %: mean on val over the fresh seeds",
    "curse: search % less fresh %",
    "Δ test: on test, which neither search nor ranking looked at, less the baseline, paired by seed",
    "intervals of one kind hold together at 95 %",
)


def confirmation_table(confirmation: Confirmation) -> TextTable:
    """Return a row per recipe, the first on val first."""
    control = confirmation.comparison.control
    rows = tuple(_cells(each, control) for each in confirmation.recipes)
    return TextTable(caption=" · ".join(LEGEND), headings=HEADINGS, rows=rows, numbers=NUMBERS)


def _cells(each: ConfirmedRecipe, control: str) -> tuple[str, ...]:
    low, high = each.ranks
    return (
        each.variant,
        "" if each.rank is None else f"{each.rank} ({_between(low, high)})",
        str(len(each.values)),
        points(each.searched),
        points(each.mean),
        points(each.std),
        points(each.winners_curse, sign=True),
        span(each.winners_curse_interval),
        points(each.row.mean),
        points(each.row.difference, sign=True),
        span(each.row.interval),
        "control" if each.variant == control else each.row.verdict or "",
    )


def confirmation_sentences(confirmation: Confirmation) -> list[str]:
    """Return what the confirmation found: the first on val, the verdicts on test, the winner's curse, what is open."""
    winner = confirmation.winner
    lines = [_first(confirmation, winner), _verdicts(confirmation), _curse(confirmation)] if winner is not None else []
    if confirmation.unfinished:
        lines.append(f"{many(confirmation.unfinished, 'cell')} not finished: the rest is without them.")
    return lines


def confirmation_markdown(confirmation: Confirmation) -> str:
    """Return sentences and table in Markdown."""
    sheet = confirmation_table(confirmation)
    rule = ["---:" if heading in NUMBERS else "---" for heading in sheet.headings]
    table = [f"| {' | '.join(row)} |" for row in (sheet.headings, rule, *sheet.rows)]
    title = f"# Confirmation of {confirmation.study}"
    return "\n".join(
        [title, "", *confirmation_sentences(confirmation), "", *table, "", *(f"- {x}" for x in LEGEND), ""]
    )


def _first(confirmation: Confirmation, winner: ConfirmedRecipe) -> str:
    seeds, tried = confirmation.seeds, len(confirmation.recipes)
    others = f"; its rank may be {_between(*winner.ranks)} of {tried}" if winner.ranks != (1, 1) else ""
    return (
        f"First on val over {many(len(seeds), 'fresh seed')}: {_name(confirmation, winner)} with "
        f"{points(winner.mean)} %{others}."
    )


def _verdicts(confirmation: Confirmation) -> str:
    better = confirmation.with_verdict("better")
    others = [each for each in confirmation.finalists if each not in better]
    rest = ", ".join(f"{each.variant} {each.row.verdict or 'without a verdict'}" for each in others)
    if better:
        lead = "On test, better than the baseline: " + ", ".join(each.variant for each in better)
        return f"{lead}; {rest}." if rest else f"{lead}."
    return f"On test no finalist is shown to be better than the baseline: {rest}."


def _curse(confirmation: Confirmation) -> str:
    best = confirmation.best_of_search
    interval = best.winners_curse_interval
    if best.mean is None:
        return f"The best of the search, {best.variant}, has no finished cell: its winner's curse is not known."
    held = f" {span(interval)}" if interval is not None else ""
    open_ = ", which is not told apart from 0" if interval is not None and interval[0] <= 0 <= interval[1] else ""
    return (
        f"The search saw {points(best.searched)} % of {best.variant}, the best of {many(confirmation.trials, 'trial')}, "
        f"and fresh seeds have {points(best.mean)} % on average: a winner's curse of "
        f"{points(best.winners_curse, sign=True)} points{held}{open_}."
    )


def _name(confirmation: Confirmation, each: ConfirmedRecipe) -> str:
    return "the baseline" if each.variant == confirmation.comparison.control else each.variant


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
