"""Confirmation of a search: its finalists with fresh seeds, ranked, compared with the baseline, and the winner's curse.

The finalists are ranked on val, as the search selects on val. They are compared with the baseline on test, at which
neither the search nor the ranking looked. The winner's curse of a finalist is the value that the search saw less its
mean on val over the fresh seeds: the best of many trials is best partly by the luck of its seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cifar_lab.results.cell_results import CellResult, group, with_guesses
from cifar_lab.results.comparison import Comparison, ComparisonRow
from cifar_lab.results.stats.paired import Interval
from cifar_lab.results.stats.ranking import rank_intervals, simultaneous_means
from cifar_lab.results.stats.replicates import summarise

VAL = "val/acc"


@dataclass(frozen=True, kw_only=True)
class ConfirmedRecipe:
    """One finalist, or the baseline. Accuracies are fractions; `None` where too few cells are finished."""

    variant: str
    rank: int | None
    """Rank by the mean on val, from 1; None without a finished cell."""
    ranks: tuple[int, int]
    """Best and worst rank that it may have; the intervals of all recipes hold together."""
    searched: float | None
    """Value that the search saw; None if the search has none of the baseline."""
    values: dict[int, float]
    """Accuracy on val by fresh seed; a diverged training counts as guessing."""
    mean: float | None
    std: float | None
    winners_curse: float | None
    """`searched` less `mean`."""
    winners_curse_interval: Interval | None
    """Its interval; those of all recipes hold together."""
    row: ComparisonRow
    """Comparison with the baseline on test."""

    def as_dict(self) -> dict[str, Any]:
        row = self.row
        test = {
            "n": row.n, "mean": row.mean, "std": row.std, "difference": row.difference, "interval": row.interval,
            "verdict": row.verdict, "reason": row.reason,
        }  # fmt: skip
        return {
            "variant": self.variant, "rank": self.rank, "ranks": list(self.ranks), "searched": self.searched,
            "values": self.values, "mean": self.mean, "std": self.std, "winners_curse": self.winners_curse,
            "winners_curse_interval": self.winners_curse_interval, "parameters": row.parameters, "test": test,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """Finalists of a search and its baseline, trained with fresh seeds."""

    study: str
    recipes: tuple[ConfirmedRecipe, ...]
    """The first on val first; those without a finished cell last."""
    seeds: tuple[int, ...]
    """Fresh seeds that were asked for."""
    trials: int
    """Number of trials with a value that the finalists were chosen from."""
    unfinished: int
    """Number of cells that are not finished and did not diverge."""
    comparison: Comparison
    """Comparison on test, from which the verdicts are; its rows are in the order of `recipes`."""

    @property
    def winner(self) -> ConfirmedRecipe | None:
        """Recipe with the highest mean on val; None before there is one."""
        return next((each for each in self.recipes if each.rank == 1), None)

    @property
    def finalists(self) -> list[ConfirmedRecipe]:
        """Recipes without the baseline."""
        return [each for each in self.recipes if each.variant != self.comparison.control]

    @property
    def best_of_search(self) -> ConfirmedRecipe:
        """Finalist that was the best in the search, which suffers most from the winner's curse."""
        return min(self.finalists, key=lambda each: _rank(each.searched, each.row, self.comparison.control))

    def with_verdict(self, *verdicts: str | None) -> list[ConfirmedRecipe]:
        """Return the finalists with one of these verdicts against the baseline."""
        return [each for each in self.finalists if each.row.verdict in verdicts]

    def as_dict(self) -> dict[str, Any]:
        winner = self.winner
        return {
            "study": self.study,
            "ablation": self.comparison.ablation,
            "invocation": self.comparison.invocation,
            "seeds": list(self.seeds),
            "trials": self.trials,
            "unfinished": self.unfinished,
            "margin": self.comparison.margin,
            "confidence": self.comparison.confidence,
            "winner": winner.variant if winner is not None else None,
            "better_than_baseline": [each.variant for each in self.with_verdict("better")],
            "recipes": [each.as_dict() for each in self.recipes],
        }


def make_confirmation(
    study: str, comparison: Comparison, cells: Sequence[CellResult], searched: Mapping[str, float], *, trials: int
) -> Confirmation:
    """Build the confirmation of a study.

    Args:
        study: name of the study.
        comparison: of the finalists and the baseline, its control, on test.
        cells: the same cells, which have their accuracies on val.
        searched: value that the search saw, by variant.
        trials: number of trials with a value.
    """
    of = group(cells)
    values = {row.variant: with_guesses(of[row.variant], VAL) for row in comparison.rows}
    means = {name: summarise(own) for name, own in values.items()}
    rows = {row.variant: row for row in comparison.rows}
    order = sorted(values, key=lambda name: _rank(means[name].mean, rows[name], comparison.control))
    ranks = rank_intervals(values)
    curses = simultaneous_means(
        {name: {seed: searched[name] - value for seed, value in own.items()}
         for name, own in values.items() if name in searched}
    )  # fmt: skip
    recipes = []
    for place, name in enumerate(order, start=1):
        mean = means[name].mean
        recipes.append(ConfirmedRecipe(
            variant=name,
            rank=place if mean is not None else None,
            ranks=ranks[name],
            searched=searched.get(name),
            values=values[name],
            mean=mean,
            std=means[name].std,
            winners_curse=searched[name] - mean if mean is not None and name in searched else None,
            winners_curse_interval=curses.get(name),
            row=rows[name],
        ))  # fmt: skip
    comparison = replace(comparison, rows=tuple(each.row for each in recipes))
    return Confirmation(
        study=study,
        recipes=tuple(recipes),
        seeds=tuple(sorted({each.asked.seed for each in cells})),
        trials=trials,
        unfinished=sum(each.state not in {"finished", "diverged"} for each in cells),
        comparison=comparison,
    )


def _rank(accuracy: float | None, row: ComparisonRow, control: str) -> tuple[float, int, bool, int, str]:
    """Return a sort key, the best first: of equal accuracies fewer parameters, then the control, then the lower trial.

    Without an accuracy a recipe is last. The order is that of `search.stored_trials.ranked`; variants are `t000`, ….
    """
    lost = 1.0 if accuracy is None else -accuracy
    return (lost, row.parameters, row.variant != control, len(row.variant), row.variant)
