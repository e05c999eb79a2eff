"""Render a search as one self-contained HTML page without scripts that can be printed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cifar_lab.config.overrides import as_typed, format_overrides
from cifar_lab.report import ablation_page
from cifar_lab.report.charts import sweep
from cifar_lab.report.sweep_page_data import STATES, SweepPageData, TrialSummary, accuracy
from cifar_lab.report.table_content import TextTable, points

SAID = {"trained": "with a value"}
"""Label of a state in the headline; defaults to the state's name."""
FOLDED = 20
"""Number of trials from which on their table is folded."""
DIGITS = 3
"""Significant digits of a float in a table."""
FRONT = ("trial", "val %", "parameters", "differs from the baseline by")
TRIALS = ("trial", "state", "val %", "parameters", "differs from the baseline by")
NUMBERS = ("val %", "parameters")
BEST = ("path", "baseline", "best", "by")


def report(search: SweepPageData) -> str:
    """Return the page of one search."""
    return _environment().get_template("search.html").render(search=search)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(ablation_page.TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words: tuple[Callable[..., object], ...] = (
        headline, caution, remedy, setting, without_importances, changes, front, trials, as_json,
    )  # fmt: skip
    made.globals |= {"plots": sweep, "FOLDED": FOLDED, **{each.__name__: each for each in words}}
    made.filters |= {
        each.__name__: each
        for each in (ablation_page.slug, ablation_page.difference, ablation_page.count, ablation_page.paragraphs)
    }
    return made


# Words


def headline(search: SweepPageData) -> str:
    """Return `Best of wide: 94.12 % on val with 4,697,742 parameters (t023; the baseline has 93.01 %). 31 trials …`."""
    best, said = search.best, f"No trial of {search.study} has a value yet."
    if best is not None:
        baseline = search.baseline
        aside = best.name
        if baseline is best:
            aside += ", the baseline itself"
        elif baseline is not None:
            aside += f"; the baseline has {points(baseline.value)} %"
        said = f"Best of {search.study}: {points(best.value)} % on val with {cost(best)} parameters ({aside})."
    return f"{said} {counts(search)}; scale {search.scale}, {search.data}."


def counts(search: SweepPageData) -> str:
    """Return `31 trials with a value, 6 pruned, 9 infeasible`."""
    found = Counter(trial.state for trial in search.trials)
    first = f"{found['trained']} trial{'' if found['trained'] == 1 else 's'} {SAID['trained']}"
    return ", ".join([first, *(f"{found[state]} {state}" for state in STATES[1:] if found[state])])


def caution(search: SweepPageData) -> str:
    """Return a warning about the selection bias of the best trial."""
    many = len(search.results)
    if many == 1:
        return "One trial of one seed: there is nothing to compare it with."
    if search.best is search.baseline:
        return f"Of {many} trials none is better than the baseline. One seed each: small differences are luck."
    value = points(search.best.value if search.best else None)
    return f"One seed a trial, and the best of {many}, chosen on val: {value} % is flattered by luck."


def remedy(search: SweepPageData) -> str:
    """Return the command that compares the best recipe over several seeds; empty if nothing was tuned."""
    return next((line for line in search.reproduce if line.startswith("cifar-lab ablate-best ")), "")


def setting(search: SweepPageData) -> list[str]:
    """Return lines on the search space, the budget and the objectives."""
    limits = [f"{search.max_params:,} parameters"]
    limits += [f"{search.max_macs:,} MACs"] if search.max_macs is not None else []
    wanted = [] if len(search.objectives) == 1 else [f"objectives: {', '.join(search.objectives)}"]
    return [f"space {search.space}, {len(search.dimensions)} dimensions", f"budget {' and '.join(limits)}", *wanted]


def without_importances(search: SweepPageData) -> str:
    """Return the reason why no importances are shown; empty if they are."""
    if any(search.importances.values()):
        return ""
    return no_importances([accuracy(trial) for trial in search.results], search.fewest)


def no_importances(values: Sequence[float], fewest: int) -> str:
    """Return the reason why trials with these values have no importances."""
    if len(values) < fewest:
        return f"Importances would be noise: {len(values)} of the {fewest} trials with a value that they take."
    if len(set(values)) == 1:
        return "No importances: every trial has the same value."
    return "No importances: there is no dimension that every trial with a value was asked for."


def cost(trial: TrialSummary) -> str:
    return "an unknown number of" if trial.parameters is None else f"{trial.parameters:,}"


def differs(diff: Mapping[str, Any] | None) -> str:
    """Return overrides in one line: `model.width=32 optim.lr=0.0123`."""
    if diff is None:
        return ""
    return format_overrides(diff, digits=DIGITS) or "nothing"


def short(value: Any) -> str:
    """A value in a table: a rate in three digits."""
    return as_typed(value, digits=DIGITS)


def as_json(search: SweepPageData) -> str:
    """Return the best recipe as the JSON text of a recipe file."""
    return json.dumps(search.recipe, indent=1, ensure_ascii=False)


# Tables


def changes(search: SweepPageData) -> TextTable:
    """Return a table of the best recipe's changes from the baseline."""
    rows = [(each.path, short(each.baseline), short(each.best), each.by) for each in search.changes]
    return _sheet(BEST, rows, "by: the dimension that searched it, or set, where an override did" if rows else "")


def front(search: SweepPageData) -> TextTable:
    """Return a table of the Pareto front: trials that no other beats in both accuracy and parameters."""
    rows = [(each.name, points(each.value), cost(each), differs(each.diff)) for each in search.front()]
    return _sheet(FRONT, rows, "")


def trials(search: SweepPageData) -> TextTable:
    """Return a table of all trials."""
    best = search.best
    return _sheet(TRIALS, [_row(trial, is_best=trial is best) for trial in search.trials], "")


def _row(trial: TrialSummary, *, is_best: bool) -> tuple[str, ...]:
    return (
        trial.name,
        "best" if is_best else became(trial),
        points(trial.value),
        "" if trial.parameters is None else f"{trial.parameters:,}",
        differs(trial.diff),
    )


def became(trial: TrialSummary) -> str:
    """Describe the outcome of a trial: `pruned after epoch 4, at 70.21 %`; `failed: RuntimeError: out of memory`."""
    if trial.pruned_at is not None:
        at = f", at {points(trial.last)} %" if trial.last is not None else ""
        return f"{trial.state} after epoch {trial.pruned_at}{at}"
    return f"{trial.state}: {trial.note}" if trial.note else trial.state


def _sheet(headings: Sequence[str], rows: Iterable[tuple[str, ...]], caption: str) -> TextTable:
    return TextTable(caption=caption, headings=tuple(headings), rows=tuple(rows), numbers=NUMBERS)
