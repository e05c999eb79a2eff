"""Collect the contents of a report page from the records on disk, and order the chapters of the full report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config.overrides import as_words
from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.inspect.progress import CellProgress
from cifar_lab.inspect.status import look
from cifar_lab.report.ablation_page_data import (
    METRICS,
    AblationPageData,
    CellSummary,
    Chapter,
    ClaimSummary,
    Curve,
    UnmeasuredAblation,
    VariantSummary,
)
from cifar_lab.results.compare import tabulate
from cifar_lab.results.comparison import Comparison
from cifar_lab.results.verify import JudgedClaim as Judged
from cifar_lab.results.verify import judge_claims, judge_setting, preferred
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.journal import read_points
from cifar_lab.store.selection import Selection, select, typed

OTHERS = ("Others", "Ablations that are not of the writeup.")


def load(
    runs: Path, ablation: Ablation, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None,
) -> AblationPageData:  # fmt: skip
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
    return AblationPageData(
        comparison=comparison,
        question=ablation.question,
        source=ablation.source,
        doc=ablation.doc,
        baseline=ablation.baseline_in_words,
        variants=tuple(_described(ablation, comparison)),
        findings=tuple(map(_finding, judge_setting(ablation, setting, runs))),
        curves=_curves(setting, runs),
        cells=tuple(_cell(cell) for cell in look(setting, runs).cells),
        provenance=tuple(_provenance(comparison, setting)),
        reproduce=tuple(_reproduce(setting, runs)),
    )


def chapters(
    runs: Path, ablations: Iterable[Ablation], *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Chapter, ...]:  # fmt: skip
    """Return a chapter for each of `ablations`, in the order of the writeup, then user ablations; also those not run.

    Raises:
        TrackingError: notes or records in `runs` cannot be read.
    """
    known = {ablation.name: ablation for ablation in ablations}
    run = {entry.ablation for entry in read_index(runs).invocations}
    asked = {"scale": scale, "data": data, "overrides": overrides}
    told = {name for _, _, names in registry.contents().chapters for name in names}
    plan = (*registry.contents().chapters, (*OTHERS, tuple(name for name in known if name not in told)))
    made = [
        Chapter(
            title=title,
            words=words,
            entries=tuple(_entry(runs, known[name], run, asked) for name in names if name in known),
        )
        for title, words, names in plan
    ]
    return tuple(chapter for chapter in made if chapter.entries)


def _entry(
    runs: Path, ablation: Ablation, run: set[str], asked: Mapping[str, Any]
) -> AblationPageData | UnmeasuredAblation:
    if ablation.name in run:
        try:
            select(runs, ablation.name, **asked)
        except TrackingError:  # the notes were readable before, so none of them matches
            return _unmeasured(runs, ablation, asked)
        return load(runs, ablation, **asked)
    return _unmeasured(runs, ablation, asked)


def _unmeasured(runs: Path, ablation: Ablation, asked: Mapping[str, Any]) -> UnmeasuredAblation:
    words = [f"--{name} {asked[name]}" for name in ("scale", "data") if asked[name] is not None]
    words += as_words(asked["overrides"] or {})
    return UnmeasuredAblation(
        name=ablation.name,
        question=ablation.question,
        source=ablation.source,
        findings=tuple(map(_finding, judge_claims(runs, ablation, **asked))),
        command=" ".join(["cifar-lab run-ablation", ablation.name, *words]),
    )


def _finding(found: Judged) -> ClaimSummary:
    measured = str(found.measured["words"]) if found.measured is not None else found.judgement.why
    unsaid = [words for words in found.differs if words not in measured]
    elsewhere = f"not where it was claimed: {', '.join(unsaid)}" if unsaid else ""
    return ClaimSummary(
        quote=found.claim.quote,
        source=found.claim.source,
        status=found.status,
        compares=found.claim.compares,
        measured="; ".join(words for words in (measured, elsewhere) if words),
        is_difference=found.claim.worse is not None,
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
            over_budget=variant.over_budget,
            parameters=row.parameters if row is not None else None,
            parameters_trained=row.parameters_trained if row is not None else None,
            macs=row.macs if row is not None else None,
        )


def _curves(setting: Selection, runs: Path) -> dict[str, dict[str, dict[int, Curve]]]:
    """Return the curves of the ended cells, by variant, metric and seed."""
    found: dict[str, dict[str, dict[int, Curve]]] = {}
    for asked in setting.cells:
        record = CellRecord(runs / asked.fingerprint)
        if record.state() not in {"finished", "diverged"}:
            continue
        try:
            points = read_points(record.folder)
        except DamageError:  # reported by `compare` and `fsck`; a curve with a gap would be wrong
            continue
        for metric in METRICS:
            if curve := [(point.epoch, point.values[metric]) for point in points if metric in point.values]:
                found.setdefault(asked.variant, {}).setdefault(metric, {})[asked.seed] = curve
    return found


def _cell(found: CellProgress) -> CellSummary:
    notes = []
    if found.state == "diverged":
        notes.append(f"diverged in epoch {found.epoch} at step {found.step}")
    if found.error is not None and found.state in {"failed", "damaged"}:
        notes.append(f"{found.state}: {found.error}")
    if found.waits_for is not None:
        notes.append(f"waits for {found.waits_for}" + (", which did not finish" if found.stuck else ""))
    return CellSummary(
        variant=found.asked.variant,
        seed=found.asked.seed,
        state=found.state,
        fingerprint=found.asked.fingerprint,
        note=", ".join(notes),
    )


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
