"""Results of the public API: a plan, a finished run, and judged claims, as objects for a notebook."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_lab.config.recipe import Recipe
from cifar_lab.execution.complete import CompletedRun
from cifar_lab.execution.plan import as_dict
from cifar_lab.execution.request import Request
from cifar_lab.inference.stored_cells import SHORT
from cifar_lab.report.notebook import (
    Tabular,
    comparison_figure,
    comparison_frame,
    comparison_html,
    html_paragraphs,
)
from cifar_lab.report.summary import claim_counts, comparison_headline
from cifar_lab.results.comparison import Comparison
from cifar_lab.results.verify import JudgedClaim
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import RecordedCommand
from cifar_lab.store.stopped_cell import standing
from cifar_lab.text import duration

if TYPE_CHECKING:
    from cifar_lab.report.notebook import DataFrame, Figure


def call_in_words(function: Callable[..., object], given: Mapping[str, object]) -> str:
    """Return a call of a public function as Python: `cifar_lab.run('se_ratio', scale='smoke')`.

    `given`: its arguments by name. Arguments at their default, and empty ones, are left out; paths are written as text.
    """
    words = []
    for name, parameter in signature(function).parameters.items():
        value = given[name]
        value = os.fspath(value) if isinstance(value, os.PathLike) else list(value) if type(value) is tuple else value
        if isinstance(value, Recipe):
            words.append(f"cifar_lab.Recipe().override({Recipe().changes_to(value)!r})")
        elif parameter.kind is not Parameter.KEYWORD_ONLY and value is not parameter.default:
            words.append(repr(value))
        elif value != parameter.default and value not in ({}, []):
            words.append(f"{name}={value!r}")
    return f"cifar_lab.{function.__name__}({', '.join(words)})"


def recorded_call(
    function: Callable[..., object], given: Mapping[str, object], *, labels: Mapping[str, str], note: str
) -> RecordedCommand:
    """Return a call of a public function for the record of what it trains, without addresses, which hold secrets."""
    shown = {**given, "notify": None, "say": print}
    typed = call_in_words(function, shown)
    can_retry = "retry_failed" in signature(function).parameters
    retry = call_in_words(function, {**shown, "retry_failed": True}) if can_retry else typed
    return RecordedCommand(typed=typed, again=typed, retry=retry, labels=dict(labels), note=note)


class PlanResult(Tabular):
    """Cells of an ablation with their states, and the estimated time of the missing ones."""

    def __init__(self, found: Request) -> None:
        self.request = found

    @property
    def seconds(self) -> float:
        """Return the estimated seconds until the last cell is done, for all workers together."""
        return self.request.seconds

    def __len__(self) -> int:
        return len(self.request.plan.cells)

    def records(self) -> list[dict[str, Any]]:
        """Return a record for each cell: fingerprint, variant, seed, state, estimate in seconds, parameters, MACs."""
        plan = self.request.plan
        return [as_dict(cell, plan.estimates) for cell in plan.cells]

    def shown(self) -> list[dict[str, Any]]:
        """Return the records with short fingerprints."""
        return [{**row, "fingerprint": row["fingerprint"][:SHORT]} for row in self.records()]

    def caption(self) -> str:
        """Return the setting, the counts and the estimate in one line."""
        plan, found = self.request.plan, self.request
        done = sum(cell.is_done for cell in plan.cells)
        how = f"{found.workers} × {found.execution.threads} threads on {found.execution.device}"
        rest = f"; about {duration(self.seconds)} for the rest ({how})" if done < len(self) else ""
        setting = f"{plan.ablation.name} · scale {plan.scale.name} · {plan.dataset.name}"
        return f"{setting}: {len(self)} cells, {done} done{rest}"


class ComparisonResult(Comparison):
    """Comparison that a notebook shows as a table, and that converts to a data frame or a figure."""

    @classmethod
    def of(cls, comparison: Comparison) -> ComparisonResult:
        """Return `comparison` with the methods of this class."""
        return cls(**{each.name: getattr(comparison, each.name) for each in fields(comparison)})

    def to_frame(self) -> DataFrame:
        """Return a pandas data frame with a row for each variant; accuracies and differences are fractions."""
        return comparison_frame(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ablation}: {comparison_headline(self)}>"

    def plot(self, *, figsize: tuple[float, float] | None = None) -> Figure:
        """Draw the differences in points, or the accuracies where nothing is compared, with seeds and intervals.

        `figsize`: width and height in inches, `(3.3, 1.6)` for a column of a paper; None: as the rows need it.
        """
        return comparison_figure(self, figsize)

    def _repr_html_(self) -> str:
        return comparison_html(self)


class RunResult:
    """Outcome of `cifar_lab.run` and `train_recipe`: the comparison, and what was trained for it."""

    def __init__(self, done: CompletedRun, runs: Path) -> None:
        self.comparison = ComparisonResult.of(done.comparison)
        self.invocation: str = done.report.invocation
        """Id of the invocation, for `cifar_lab.compare(…, invocation=…)`."""
        self.trained: int = done.report.trained
        """Cells trained by this call."""
        self.by_another_runner: int = done.by_another_runner
        """Cells trained meanwhile by another process."""
        self.reused: int = done.report.reused
        """Cells that were there before."""
        self.interrupted: str = str(done.report.interrupted or "")
        """Reason for an early end, the hours that were given; the same call goes on from there. Empty for none."""
        self.fingerprints: dict[str, str] = {cell.name: cell.fingerprint for cell in done.plan.cells}
        """Fingerprint of each cell by variant and seed, `r16/s0`, for `cifar_lab.load_cell`."""
        self.undone: dict[str, str] = {
            cell.name: standing(CellRecord(runs / cell.fingerprint), cell.state) for cell in done.undone
        }
        """State of each cell that has no result: failed, damaged, running elsewhere, or stopped after some epoch."""
        self.runs = runs

    def to_frame(self) -> DataFrame:
        """Return the comparison as a pandas data frame, a row for each variant."""
        return self.comparison.to_frame()

    def plot(self, *, figsize: tuple[float, float] | None = None) -> Figure:
        """Draw the comparison (`ComparisonResult.plot`)."""
        return self.comparison.plot(figsize=figsize)

    def counts(self) -> dict[str, int]:
        """Return the numbers of cells by what was done, by their names in the JSON of `run-ablation`."""
        failed = sum(state == "failed" for state in self.undone.values())
        others = self.by_another_runner
        return {"trained": self.trained, "by_another_runner": others, "reused": self.reused, "failed": failed}

    def _counts(self) -> str:
        undone = "".join(f", {name} {state}" for name, state in self.undone.items())
        early = f"; {self.interrupted}" if self.interrupted else ""
        return f"{self.trained} trained, {self.reused} reused{undone}{early}"

    def __repr__(self) -> str:
        return f"<RunResult {self.invocation}: {self._counts()}>"

    def _repr_html_(self) -> str:
        return self.comparison._repr_html_() + html_paragraphs([self._counts()])


class JudgedClaims(Tabular):
    """Judged claims; iterable, with a length."""

    def __init__(self, findings: Sequence[JudgedClaim]) -> None:
        self.findings = tuple(findings)

    def __iter__(self) -> Iterator[JudgedClaim]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, place: int) -> JudgedClaim:
        return self.findings[place]

    def records(self) -> list[dict[str, Any]]:
        """Return a record for each claim, with the fields of `cifar-lab verify --json`."""
        return [finding.as_dict() for finding in self.findings]

    def shown(self) -> list[dict[str, Any]]:
        """Return ablation, claim, status and what was measured."""
        return [
            {
                "ablation": finding.ablation,
                "claim": finding.claim.quote,
                "compares": finding.claim.compares,
                "status": finding.status,
                "measured": finding.judgement.numbers or finding.judgement.why,
            }
            for finding in self.findings
        ]

    def caption(self) -> str:
        """Return the numbers of claims, and of those with each status."""
        return claim_counts(finding.status for finding in self.findings) or "no claims"
