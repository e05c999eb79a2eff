"""Contents of a report page, collected from the records on disk, and the chapters of the full report."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation, Metric, taught_by
from cifar_lab.config.overrides import format_overrides
from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.inspect.progress import CellProgress
from cifar_lab.inspect.status import look
from cifar_lab.report.charts.learning_curves import Curve, Curves
from cifar_lab.results.compare import tabulate
from cifar_lab.results.comparison import Comparison
from cifar_lab.results.verify import JudgedClaim, judge_claims, judge_setting, preferred
from cifar_lab.store.cell_record import ENDED, CellRecord, State
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.journal import read_points
from cifar_lab.store.selection import Selection, select, typed

OTHERS = ("Others", "Ablations that are not of the writeup.")
METRICS = ("lr", "val/acc", "test/acc", "train/loss", "val/loss", "test/loss")
"""Metrics that are drawn by epoch."""
STATES: tuple[State, ...] = ("finished", "diverged", "running", "failed", "missing", "damaged")


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
    taught_by: str | None = None
    """Teachers of a distillation in words; None without teachers."""
    over_budget: bool = False
    """True if declared as over the budget, and trained for reference."""
    parameters: int | None = None
    """Parameters of the declared network; None if it was never requested."""


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
class AblationPage:
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
    cells: tuple[CellProgress, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    """Provenance of the numbers: pairs of term and text."""
    reproduce: tuple[str, ...] = ()
    """Shell commands that reproduce the numbers."""

    @property
    def name(self) -> str:
        return self.comparison.ablation

    @property
    def damage(self) -> Sequence[str]:
        """Lines on records that could not be read."""
        return self.comparison.damage


@dataclass(frozen=True, kw_only=True)
class UnmeasuredAblation:
    """Ablation without cells in the requested setting."""

    name: str
    question: str
    source: str
    findings: tuple[ClaimSummary, ...] = ()
    command: str
    """Command that would measure it."""
    damage: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Ablations under one title."""

    title: str
    words: str
    entries: tuple[AblationPage | UnmeasuredAblation, ...]


# From the records


def load_ablation_page(
    runs: Path, ablation: Ablation, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None,
) -> AblationPage:  # fmt: skip
    """Load `ablation` in the setting of its latest matching invocation, or of the one with an id.

    Without any selection, the setting in which `judge_claims` judges the claims is used, so that a smoke test after a
    long study does not replace it.

    Raises:
        TrackingError: nothing in `runs` matches.
    """
    setting = select(runs, ablation.name, scale=scale, data=data, overrides=overrides, invocation=invocation)
    if (scale, data, invocation) == (None, None, None) and not overrides:
        setting = preferred(ablation, setting, runs)
    comparison = tabulate(setting, runs)
    return AblationPage(
        comparison=comparison,
        question=ablation.question,
        source=ablation.source,
        doc=ablation.doc,
        baseline=ablation.baseline_in_words,
        variants=tuple(_described(ablation, comparison)),
        findings=tuple(map(_finding, judge_setting(ablation, setting, runs))),
        curves=_curves(setting, runs),
        cells=look(setting, runs).cells,
        provenance=tuple(_provenance(comparison, setting)),
        reproduce=tuple(_reproduce(setting, runs)),
    )


def load_chapters(
    runs: Path, ablations: Iterable[Ablation], *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Chapter, ...]:  # fmt: skip
    """Return a chapter for each of `ablations`, in the order of the writeup, then user ablations; also those not run.

    Raises:
        TrackingError: notes or records in `runs` cannot be read.
    """
    by_name = {ablation.name: ablation for ablation in ablations}
    run = {entry.ablation for entry in read_index(runs).invocations}
    asked = {"scale": scale, "data": data, "overrides": overrides}
    placed = {name for _, _, names in registry.contents().chapters for name in names}
    plan = (*registry.contents().chapters, (*OTHERS, tuple(name for name in by_name if name not in placed)))
    chapters = [
        Chapter(
            title=title,
            words=words,
            entries=tuple(_entry(runs, by_name[name], run, asked) for name in names if name in by_name),
        )
        for title, words, names in plan
    ]
    return tuple(chapter for chapter in chapters if chapter.entries)


def _entry(
    runs: Path, ablation: Ablation, run: set[str], asked: Mapping[str, Any]
) -> AblationPage | UnmeasuredAblation:
    if ablation.name in run:
        try:
            select(runs, ablation.name, **asked)
        except TrackingError:  # the notes were readable before, so none of them matches
            return _unmeasured(runs, ablation, asked)
        return load_ablation_page(runs, ablation, **asked)
    return _unmeasured(runs, ablation, asked)


def _unmeasured(runs: Path, ablation: Ablation, asked: Mapping[str, Any]) -> UnmeasuredAblation:
    options = [f"--{name} {shlex.quote(asked[name])}" for name in ("scale", "data") if asked[name] is not None]
    overrides = format_overrides(asked["overrides"] or {})
    return UnmeasuredAblation(
        name=ablation.name,
        question=ablation.question,
        source=ablation.source,
        findings=tuple(map(_finding, judge_claims(runs, ablation, **asked))),
        command=" ".join(filter(None, ["cifar-lab run-ablation", ablation.name, *options, overrides])),
    )


def _finding(judged: JudgedClaim) -> ClaimSummary:
    measured = str(judged.measured["words"]) if judged.measured is not None else judged.judgement.why
    unsaid = [words for words in judged.differs if words not in measured]
    elsewhere = f"not where it was claimed: {', '.join(unsaid)}" if unsaid else ""
    return ClaimSummary(
        quote=judged.claim.quote,
        source=judged.claim.source,
        status=judged.status,
        compares=judged.claim.compares,
        measured="; ".join(words for words in (measured, elsewhere) if words),
        is_difference=judged.claim.worse is not None,
        question=judged.question,
        metric=judged.claim.metric,
    )


def _described(ablation: Ablation, comparison: Comparison) -> Iterator[VariantSummary]:
    """Yield the variants as declared; those that were asked for with their costs."""
    rows = {row.variant: row for row in comparison.rows}
    for variant in ablation.variants:
        row = rows.get(variant.name)
        yield VariantSummary(
            name=variant.name,
            diff=variant.diff,
            base=variant.continues or variant.base,
            continues=variant.continues is not None,
            taught_by=taught_by(variant.teachers, variant.teacher_seeds) if variant.teachers else None,
            over_budget=variant.over_budget,
            parameters=row.parameters if row is not None else None,
        )


def _curves(setting: Selection, runs: Path) -> dict[str, dict[str, dict[int, Curve]]]:
    """Return the curves of the ended cells, by variant, metric and seed."""
    curves: dict[str, dict[str, dict[int, Curve]]] = {}
    for asked in setting.cells:
        record = CellRecord(runs / asked.fingerprint)
        if record.state() not in ENDED:
            continue
        try:
            points = read_points(record.folder)
        except DamageError:  # reported by `compare` and `fsck`; a curve with a gap would be wrong
            continue
        for metric in METRICS:
            if curve := [(point.epoch, point.values[metric]) for point in points if metric in point.values]:
                curves.setdefault(asked.variant, {}).setdefault(metric, {})[asked.seed] = curve
    return curves


def describe_state(cell: CellProgress) -> str:
    """Return details of a cell's state: where it diverged, why it failed, which cell it waits for."""
    notes = []
    if cell.state == "diverged":
        notes.append(f"diverged in epoch {cell.epoch} at step {cell.step}")
    if cell.error is not None and cell.state in {"failed", "damaged"}:
        notes.append(f"{cell.state}: {cell.error}")
    if cell.waits_for is not None:
        notes.append(f"waits for {cell.waits_for}" + (", which did not finish" if cell.stuck else ""))
    return ", ".join(notes)


# Provenance


def _provenance(comparison: Comparison, setting: Selection) -> Iterator[tuple[str, str]]:
    """Yield terms and values of the comparison's provenance, with the identity of the data and the invocations."""
    latest = setting.latest
    for line in comparison.made:
        term, colon, words = line.partition(": ")
        yield (term, words.strip("`")) if colon else ("time", line)
    yield "data", f"{latest.data.name}, sha256 {latest.data.hash}"
    yield "invocations", ", ".join(entry.id for entry in setting.invocations)


def _reproduce(setting: Selection, runs: Path) -> Iterator[str]:
    """Yield the commands that reproduce the study: check out the code (if one commit), train, and build this page."""
    records = [CellRecord(runs / asked.fingerprint) for asked in setting.cells]
    cells = [record.cell() for record in records if record.state() != "damaged"]
    codes = [cell.provenance for cell in cells if cell is not None]
    commits = sorted({code.git_commit for code in codes if code.git_commit})
    if len(commits) == 1:
        changed = any(code.git_dirty for code in codes)
        note = "  # and the changes in code.diff of each cell" if changed else ""
        yield f"git checkout {commits[0]}{note}"
    elif commits:
        yield f"# trained with {len(commits)} commits: {', '.join(commit[:12] for commit in commits)}"
    yield from dict.fromkeys(entry.command for entry in setting.invocations)
    yield f"cifar-lab report {setting.latest.ablation} {typed(setting.latest)} -o report.html"
