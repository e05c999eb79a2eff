"""Sentences and tables of a confirmation, shared by the terminal, the page of a search, and MLflow."""

from __future__ import annotations

from cifar_lab.report.table_content import TextTable, points, span
from cifar_lab.results.confirmation import Confirmation, ConfirmedRecipe
from cifar_lab.text import many

ON_VAL = ("trial", "rank", "ranks", "n", "search %", "fresh %", "± std", "curse", "interval")
ON_TEST = ("trial", "n", "test %", "± std", "Δ", "interval", "verdict")
NUMBERS = ("rank", "n", "search %", "fresh %", "± std", "curse", "test %", "Δ", "interval")
VAL_CAPTION = (
    "val · rank: by fresh % · ranks: that it may have, all together at 95 % · search %: what the search saw · fresh %: "
    "mean over the fresh seeds · curse: search % less fresh %; its intervals hold together at 95 %"
)
TEST_CAPTION = (
    "test, which neither search nor ranking looked at · Δ: less the baseline, paired by seed; its intervals hold "
    "together at 95 %"
)


def confirmation_tables(confirmation: Confirmation) -> list[TextTable]:
    """Return the ranks and the winner's curse on val, and the comparison with the baseline on test.

    A row is a recipe, the first on val first.
    """
    control = confirmation.comparison.control
    on_val = tuple(_cells_on_val(each) for each in confirmation.recipes)
    on_test = tuple(_cells_on_test(each, control) for each in confirmation.recipes)
    return [
        TextTable(caption=VAL_CAPTION, headings=ON_VAL, rows=on_val, numbers=NUMBERS),
        TextTable(caption=TEST_CAPTION, headings=ON_TEST, rows=on_test, numbers=NUMBERS),
    ]


def _cells_on_val(each: ConfirmedRecipe) -> tuple[str, ...]:
    return (
        each.variant,
        "" if each.rank is None else str(each.rank),
        _between(*each.ranks),
        str(len(each.values)),
        points(each.searched),
        points(each.mean),
        points(each.std),
        points(each.winners_curse, sign=True),
        span(each.winners_curse_interval),
    )


def _cells_on_test(each: ConfirmedRecipe, control: str) -> tuple[str, ...]:
    row = each.row
    return (
        each.variant,
        str(row.n),
        points(row.mean),
        points(row.std),
        points(row.difference, sign=True),
        span(row.interval),
        "control" if each.variant == control else row.verdict or "",
    )


def confirmation_sentences(confirmation: Confirmation) -> list[str]:
    """Return what the confirmation found: the first on val, the verdicts on test, the winner's curse, what is open."""
    winner = confirmation.winner
    lines = [_first(confirmation, winner), _verdicts(confirmation), _curse(confirmation)] if winner is not None else []
    if confirmation.unfinished:
        lines.append(f"{many(confirmation.unfinished, 'cell')} not finished: the rest is without them.")
    return lines


def confirmation_markdown(confirmation: Confirmation) -> str:
    """Return sentences and tables in Markdown."""
    lines = [f"# Confirmation of {confirmation.study}", "", *confirmation_sentences(confirmation)]
    for sheet in confirmation_tables(confirmation):
        rule = tuple("---:" if heading in NUMBERS else "---" for heading in sheet.headings)
        lines += ["", *(f"| {' | '.join(row)} |" for row in (sheet.headings, rule, *sheet.rows)), "", sheet.caption]
    return "\n".join(lines) + "\n"


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
        f"The search saw {points(best.searched)} % of {best.variant}, the best of "
        f"{many(confirmation.trials, 'trial')}; "
        f"fresh seeds have {points(best.mean)} % on average: a winner's curse of "
        f"{points(best.winners_curse, sign=True)} points{held}{open_}."
    )


def _name(confirmation: Confirmation, each: ConfirmedRecipe) -> str:
    return "the baseline" if each.variant == confirmation.comparison.control else each.variant


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
