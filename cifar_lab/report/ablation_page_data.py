"""Data of an ablation's page: question, numbers, claims and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cifar_lab.ablation.ablation import Metric
from cifar_lab.results.comparison import Comparison

Curve = Sequence[tuple[int, float]]
"""(epoch from 1, value), in order of epoch."""
Curves = Mapping[str, Mapping[str, Mapping[int, Curve]]]
"""Curves of ended cells, by variant, metric (`lr`, `val/acc`, …) and seed."""

METRICS = ("lr", "val/acc", "test/acc", "train/loss", "val/loss", "test/loss")
"""Metrics that are drawn by epoch."""
STATES = ("finished", "diverged", "running", "failed", "missing", "damaged")


@dataclass(frozen=True, kw_only=True)
class VariantSummary:
    """Variant as declared by the ablation."""

    name: str
    diff: Mapping[str, Any]
    """Overrides by path, relative to the baseline or to `base` if there is one."""
    base: str | None = None
    """Earlier variant that `diff` is relative to."""
    continues: bool = False
    """True if it starts from the final weights of `base`."""
    over_budget: bool = False
    """True if declared as over the budget, and trained for reference."""
    parameters: int | None = None
    """Parameters of the declared network; None if it was never requested."""
    parameters_trained: int | None = None
    macs: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimSummary:
    """Claim of a source, with its judgement."""

    quote: str
    source: str
    status: str
    """Status such as `supported` or `not measured`."""
    compares: str = ""
    """Variants that it compares: `r16 > r4`."""
    measured: str = ""
    """Measured numbers, and the reason for the status."""
    is_difference: bool = True
    """True if it compares two variants, so that its interval holds jointly with others."""
    question: str = ""
    """Question that it answers; the intervals of one question and metric hold together."""
    metric: Metric = "accuracy"


@dataclass(frozen=True, kw_only=True)
class CellSummary:
    """One variant × seed as stored on disk."""

    variant: str
    seed: int
    state: str
    """State, one of `STATES`."""
    fingerprint: str
    note: str = ""
    """Detail of the state: where it diverged, why it failed, which cell it waits for."""


@dataclass(frozen=True, kw_only=True)
class AblationPageData:
    """One ablation in one setting."""

    comparison: Comparison
    question: str
    source: str
    variants: tuple[VariantSummary, ...]
    doc: str = ""
    """Docstring of its file, in paragraphs: the design decisions."""
    baseline: str = ""
    """Description of the baseline of all variants."""
    findings: tuple[ClaimSummary, ...] = ()
    curves: Curves = field(default_factory=dict)
    cells: tuple[CellSummary, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    """Provenance of the numbers: pairs of term and text."""
    reproduce: tuple[str, ...] = ()
    """Shell commands that reproduce the numbers."""

    @property
    def name(self) -> str:
        return self.comparison.ablation

    def curve(self, variant: str, metric: str) -> Mapping[int, Curve]:
        """Return curves by seed. `watched/acc` and `watched/loss` belong to the images evaluated in every epoch."""
        own = self.curves.get(variant, {})
        splits = ("test", "val") if metric.startswith("watched/") and "test/acc" in own else ("val", "test")
        names = [metric.replace("watched", split) for split in splits]
        return next((own[name] for name in names if own.get(name)), {})


@dataclass(frozen=True, kw_only=True)
class UnmeasuredAblation:
    """Ablation without cells in the requested setting."""

    name: str
    question: str
    source: str
    findings: tuple[ClaimSummary, ...] = ()
    command: str
    """Command that would measure it."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Ablations under one title."""

    title: str
    words: str
    entries: tuple[AblationPageData | UnmeasuredAblation, ...]
