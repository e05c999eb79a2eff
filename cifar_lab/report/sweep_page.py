"""Contents of a search's page: dimensions, trials and their rankings, and its sentences and tables."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cifar_lab.config.overrides import as_typed, format_overrides
from cifar_lab.report.confirmation_table import confirmation_sentences, confirmation_tables
from cifar_lab.report.importance_table import (
    EVALUATORS,
    RESAMPLED,
    ImportanceSummary,
    explain_importances,
    importance_rows,
)
from cifar_lab.report.table_content import TextTable, points
from cifar_lab.results.confirmation import Confirmation
from cifar_lab.text import many

STATES = ("trained", "diverged", "pruned", "infeasible", "failed", "running", "stopped")
"""Possible states of a trial."""
DIGITS = 3
"""Significant digits of a float in a table."""
FRONT = ("trial", "val %", "parameters", "differs from the baseline by")
TRIALS = ("trial", "state", "val %", "parameters", "differs from the baseline by")
NUMBERS = ("val %", "parameters")
BEST = ("path", "baseline", "best", "by")

Parameter = bool | int | float | str
"""Value of a dimension in a trial."""


@dataclass(frozen=True, kw_only=True)
class DimensionSummary:
    """Dimension of the search space: a choice among `labels`, or a range from `low` to `high`."""

    name: str
    words: str
    """Description of its values: `16 to 96 by 8`."""
    labels: tuple[Parameter, ...] = ()
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialSummary:
    """One candidate with its outcome. Accuracies are fractions."""

    number: int
    state: str
    """State, one of `STATES`."""
    value: float | None = None
    """Validation accuracy; only for a trained trial."""
    parameters: int | None = None
    """Parameters of the network as declared; None before they were counted."""
    macs: int | None = None
    pruned_at: int | None = None
    """Epoch after which it was pruned."""
    last: float | None = None
    """Last accuracy that a pruned trial reported."""
    params: Mapping[str, Parameter] = field(default_factory=dict)
    """Parameters by name of the sampled dimension."""
    diff: Mapping[str, Any] | None = None
    """Overrides of the space's baseline, by path; None if it ended before it had a recipe."""
    note: str = ""
    """Reason of a failure."""

    @property
    def name(self) -> str:
        return f"t{self.number:03}"

    @property
    def accuracy(self) -> float:
        """Accuracy of a trial that has a value."""
        assert self.value is not None, "only results are ranked"
        return self.value

    @property
    def outcome(self) -> str:
        """Description of the outcome: `pruned after epoch 4, at 70.21 %`; `failed: RuntimeError: out of memory`."""
        if self.pruned_at is not None:
            at = f", at {points(self.last)} %" if self.last is not None else ""
            return f"{self.state} after epoch {self.pruned_at}{at}"
        return f"{self.state}: {self.note}" if self.note else self.state


@dataclass(frozen=True, kw_only=True)
class ChangedSetting:
    """Path in which the best recipe differs from the baseline of the space."""

    path: str
    baseline: Any
    best: Any
    by: str
    """Dimension that searched it, or `set` for an override."""


@dataclass(frozen=True, kw_only=True)
class SweepPage:
    """One search with its trials."""

    study: str
    question: str
    space: str
    scale: str
    data: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields that are the same in all trials, and not the baseline's."""
    max_params: int
    max_macs: int | None = None
    objectives: tuple[str, ...] = ("accuracy",)
    dimensions: tuple[DimensionSummary, ...]
    trials: tuple[TrialSummary, ...] = ()
    """Trials in order of their numbers."""
    importance: ImportanceSummary = field(default_factory=ImportanceSummary)
    confirmation: Confirmation | None = None
    """Best trials with fresh seeds, if they were trained."""
    changes: tuple[ChangedSetting, ...] = ()
    """Changes of the best recipe; empty for the baseline itself."""
    recipe: Mapping[str, Any] | None = None
    """Best recipe, as in a recipe file."""
    how: tuple[tuple[str, str], ...] = ()
    """Description of the search: pairs of term and text."""
    reproduce: tuple[str, ...] = ()
    """Shell commands that reproduce the numbers."""

    @property
    def results(self) -> list[TrialSummary]:
        """Trials with a value."""
        return [trial for trial in self.trials if trial.value is not None]

    @property
    def best(self) -> TrialSummary | None:
        return next(iter(self.ranked), None)

    @property
    def baseline(self) -> TrialSummary | None:
        """First trial of the baseline itself with a value, if there is one."""
        return next((trial for trial in self.results if trial.diff is not None and not trial.diff), None)

    @property
    def ranked(self) -> list[TrialSummary]:
        """Trials with a value, the best first; of equal ones that with fewer parameters, then the lower number."""

        def rank(trial: TrialSummary) -> tuple[float, float, int]:
            return (-trial.accuracy, math.inf if trial.parameters is None else trial.parameters, trial.number)

        return sorted(self.results, key=rank)

    @property
    def best_tenth(self) -> list[TrialSummary]:
        """Best tenth of the trials with a value, at least one; the best first."""
        return self.ranked[: math.ceil(len(self.results) / 10)]

    @property
    def ordered(self) -> list[DimensionSummary]:
        """Dimensions by importance, the highest first; those of unknown importance last."""
        shares: dict[str, float] = {}
        for own in reversed(list(self.importances.values())):
            shares |= own
        return sorted(self.dimensions, key=lambda each: -shares.get(each.name, -1.0))

    def front(self, cost: str = "parameters") -> list[TrialSummary]:
        """Return the Pareto front of accuracy and `cost` (parameters or macs), the cheapest first."""
        counted = [trial for trial in self.results if getattr(trial, cost) is not None]
        kept: list[TrialSummary] = []
        for trial in sorted(counted, key=lambda each: (getattr(each, cost), -each.accuracy, each.number)):
            if not kept or trial.accuracy > kept[-1].accuracy:
                kept.append(trial)
        return kept

    # Sentences and tables of the page

    @property
    def confirmed(self) -> list[str]:
        """Sentences on the best trials with fresh seeds; empty without a confirmation."""
        return confirmation_sentences(self.confirmation) if self.confirmation is not None else []

    @property
    def confirmation_tables(self) -> list[TextTable]:
        """Tables of the best trials with fresh seeds; empty without a confirmation."""
        return confirmation_tables(self.confirmation) if self.confirmation is not None else []

    @property
    def headline(self) -> str:
        """Sentence: `Best of wide: 94.12 % on val with 4,697,742 parameters (t023; the baseline has 93.01 %). 31 …`."""
        best, baseline = self.best, self.baseline
        if best is None:
            lead = f"No trial of {self.study} has a value yet."
        else:
            aside = ", the baseline itself" if baseline is best else ""
            if baseline is not None and baseline is not best:
                aside = f"; the baseline has {points(baseline.value)} %"
            cost = f"{_known_cost(best)} parameters ({best.name}{aside})"
            lead = f"Best of {self.study}: {points(best.value)} % on val with {cost}."
        return f"{lead} {self.counts}; scale {self.scale}, {self.data}."

    @property
    def counts(self) -> str:
        """Number of trials by state: `31 trials with a value, 6 pruned, 9 infeasible`."""
        by_state = Counter(trial.state for trial in self.trials)
        others = [f"{by_state[state]} {state}" for state in STATES[1:] if by_state[state]]
        return ", ".join([f"{many(by_state['trained'], 'trial')} with a value", *others])

    @property
    def caution(self) -> str:
        """Warning about the selection bias of the best trial."""
        tried = len(self.results)
        if tried == 1:
            return "One trial of one seed: there is nothing to compare it with."
        if self.baseline is not None and self.ranked[0].accuracy == self.baseline.accuracy:
            return f"Of {tried} trials none is better than the baseline. One seed each: small differences are luck."
        value = points(self.best.value if self.best else None)
        return f"One seed a trial, and the best of {tried}, chosen on val: {value} % is flattered by luck."

    @property
    def remedies(self) -> list[tuple[str, str]]:
        """Commands that go on from here with fresh seeds, each after what it does; empty if nothing was tuned."""
        commands = {
            "cifar-lab sweep-confirm ": "train the best trials",
            "cifar-lab ablate-best ": "put each tuned factor back",
        }
        wanted = list(commands) if self.confirmation is None else list(commands)[1:]
        return [(commands[each], line) for each in wanted for line in self.reproduce if line.startswith(each)]

    @property
    def setting(self) -> list[str]:
        """Lines on the search space, the budget and the objectives."""
        macs = f" and {self.max_macs:,} MACs" if self.max_macs is not None else ""
        limits = f"{self.max_params:,} parameters{macs}"
        wanted = [f"in all trials {format_overrides(self.overrides)}"] if self.overrides else []
        wanted += [] if len(self.objectives) == 1 else [f"objectives: {', '.join(self.objectives)}"]
        return [f"space {self.space}, {len(self.dimensions)} dimensions", f"budget {limits}", *wanted]

    @property
    def importances(self) -> Mapping[str, Mapping[str, float]]:
        """Importance by evaluator and dimension, as a share; empty where too few trials can rank."""
        return self.importance.shares

    @property
    def importance_lines(self) -> list[str]:
        """Lines on how to read the importances, or on why there are none."""
        always = sum(all(each.name in trial.params for trial in self.results) for each in self.dimensions)
        return explain_importances(self.importance, [trial.accuracy for trial in self.results], always)

    @property
    def importance_table(self) -> TextTable:
        """Table of the importances with their ranges; a row per dimension, a group of columns per evaluator."""
        headings = ["dimension"]
        columns: dict[str, list[str]] = {each.name: [each.name] for each in self.ordered}
        for evaluator in self.importances:
            name = EVALUATORS.get(evaluator, evaluator)
            headings += [name, f"{name} {RESAMPLED}", f"{name} leads"]
            rows = {row[0]: row[1:] for row in importance_rows(self.importance, evaluator)}
            for dimension, cells in columns.items():
                cells += rows.get(dimension, ("", "", ""))
        rows_shown = tuple(tuple(cells) for cells in columns.values() if any(cells[1:]))
        return TextTable(caption="", headings=tuple(headings), rows=rows_shown, numbers=tuple(headings[1:]))

    @property
    def recipe_text(self) -> str:
        """Best recipe as the JSON text of a recipe file."""
        return json.dumps(self.recipe, indent=1, ensure_ascii=False)

    @property
    def changes_table(self) -> TextTable:
        """Table of the best recipe's changes from the baseline."""
        rows = [(each.path, _short(each.baseline), _short(each.best), each.by) for each in self.changes]
        return _table(BEST, rows, "by: the dimension that searched it, or set, where an override did" if rows else "")

    @property
    def front_table(self) -> TextTable:
        """Table of the Pareto front: trials that no other beats in both accuracy and parameters."""
        rows = [(each.name, points(each.value), _known_cost(each), differs(each.diff)) for each in self.front()]
        return _table(FRONT, rows)

    @property
    def trials_table(self) -> TextTable:
        """Table of all trials."""
        rows = [
            (
                trial.name,
                "best" if trial is self.best else trial.outcome,
                points(trial.value),
                "" if trial.parameters is None else f"{trial.parameters:,}",
                differs(trial.diff),
            )
            for trial in self.trials
        ]
        return _table(TRIALS, rows)


def differs(diff: Mapping[str, Any] | None) -> str:
    """Return overrides in one line: `model.width=32 optim.lr=0.0123`."""
    if diff is None:
        return ""
    return format_overrides(diff, digits=DIGITS) or "nothing"


def _known_cost(trial: TrialSummary) -> str:
    return "an unknown number of" if trial.parameters is None else f"{trial.parameters:,}"


def _short(value: Any) -> str:
    """Format a value for a table: a rate in three digits."""
    return as_typed(value, digits=DIGITS)


def _table(headings: Sequence[str], rows: Iterable[tuple[str, ...]], caption: str = "") -> TextTable:
    return TextTable(caption=caption, headings=tuple(headings), rows=tuple(rows), numbers=NUMBERS)
