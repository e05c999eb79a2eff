"""All that a page says of one ablation: its numbers, the question they answer, and where both come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cifar_lab.report.comparison import Comparison

Curve = Sequence[tuple[int, float]]
"""(epoch from 1, value), in order of epoch."""
Curves = Mapping[str, Mapping[str, Mapping[int, Curve]]]
"""By variant, metric (`lr`, `val/acc`, …) and seed, of cells that came to their end."""

METRICS = ("lr", "val/acc", "test/acc", "train/loss", "val/loss", "test/loss")
"""What is drawn by epoch."""
STATES = ("finished", "diverged", "running", "failed", "missing", "damaged")


@dataclass(frozen=True, kw_only=True)
class Described:
    """A variant as the ablation declares it."""

    name: str
    diff: Mapping[str, Any]
    """By path, on the baseline; on `base`, where there is one."""
    base: str | None = None
    """The earlier variant that the diff is on."""
    continues: bool = False
    """It starts from the last weights of `base`."""
    over_budget: bool = False
    """Declared to be over the budget, and trained for reference."""
    parameters: int | None = None
    """As declared; none where it was never asked for."""
    parameters_trained: int | None = None
    macs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a source says, and what became of it here."""

    quote: str
    source: str
    status: str
    """`supported`, `not measured`, …"""
    compares: str = ""
    """Which variants it is about: `r16 > r4`."""
    measured: str = ""
    """What was measured, in words, and why that is all."""
    is_difference: bool = True
    """It is about two variants: its interval is one of those that hold together."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant × seed as it was found."""

    variant: str
    seed: int
    state: str
    """One of `STATES`."""
    fingerprint: str
    note: str = ""
    """Where it diverged, why it failed, what it waits for."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One ablation in one setting."""

    comparison: Comparison
    question: str
    source: str
    variants: tuple[Described, ...]
    doc: str = ""
    """What its file says of it, in paragraphs: the choices behind it."""
    baseline: str = ""
    """What the variants are diffs on, in words."""
    findings: tuple[Finding, ...] = ()
    curves: Curves = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    """What is known of how the numbers were made, and what it is."""
    reproduce: tuple[str, ...] = ()
    """Lines of a shell that come to the same numbers."""

    @property
    def name(self) -> str:
        return self.comparison.ablation

    def curve(self, variant: str, metric: str) -> Mapping[int, Curve]:
        """By seed. `watched/acc` and `watched/loss` are of the images that were looked at in every epoch."""
        own = self.curves.get(variant, {})
        splits = ("test", "val") if metric.startswith("watched/") and "test/acc" in own else ("val", "test")
        names = [metric.replace("watched", split) for split in splits]
        return next((own[name] for name in names if own.get(name)), {})


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """An ablation that has no cells in the setting that was asked for."""

    name: str
    question: str
    source: str
    findings: tuple[Finding, ...] = ()
    command: str
    """What would measure it."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Ablations under one title."""

    title: str
    words: str
    entries: tuple[Study | Unmeasured, ...]
