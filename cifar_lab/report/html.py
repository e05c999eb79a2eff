"""Render ablations and searches as self-contained HTML files without scripts, which open offline and print."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cifar_lab.ablation.ablation import METRICS
from cifar_lab.config.overrides import format_overrides
from cifar_lab.inspect.progress import CellProgress
from cifar_lab.report import summary, table_content, table_notes
from cifar_lab.report.ablation_page import (
    STATES,
    AblationPage,
    Chapter,
    UnmeasuredAblation,
    VariantSummary,
    describe_state,
)
from cifar_lab.report.charts import comparison as comparison_charts
from cifar_lab.report.charts import learning_curves
from cifar_lab.report.charts import sweep as sweep_charts
from cifar_lab.report.charts.figure import LegendEntry, PageFigure, swatch
from cifar_lab.report.sweep_page import SweepPage
from cifar_lab.report.table_content import describe_end
from cifar_lab.results.comparison import Comparison, ComparisonRow

TEMPLATES = Path(__file__).with_name("templates")
GLYPHS = {"finished": "✓", "diverged": "×", "running": "…", "failed": "!", "missing": "–", "damaged": "?"}
FOLDED = 20
"""Number of trials from which on their table is folded."""


class CellGrid(NamedTuple):
    """Grid of an ablation's cells: one row per variant, one column per seed."""

    seeds: list[int]
    rows: list[tuple[str, list[CellProgress | None]]]
    counts: str
    notes: list[str]


def render_ablations(pages: Sequence[AblationPage]) -> str:
    """Return the HTML page of one ablation, or of several after a summary table."""
    title = pages[0].name if len(pages) == 1 else f"{len(pages)} ablations"
    return render_chapters((Chapter(title="", words="", entries=tuple(pages)),), title=title, introduction="")


def render_chapters(chapters: Sequence[Chapter], *, title: str, introduction: str) -> str:
    """Return an HTML page to be read from top to bottom: a summary table, then the chapters."""
    entries = [entry for chapter in chapters for entry in chapter.entries]
    return _environment().get_template("ablations.html").render(
        title=title,
        introduction=introduction,
        chapters=chapters,
        entries=entries,
        is_single=len(entries) == 1,
        score=describe_score(entries),
    )  # fmt: skip


def render_sweep(page: SweepPage) -> str:
    """Return the HTML page of one search."""
    return _environment().get_template("sweep.html").render(search=page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    functions = (
        slug, describe_variant, count, paragraphs, prose, main_figures, effect_figures, legend, cell_grid,
        explain_cost_bars, explain_claims, explain_differences,
    )  # fmt: skip
    environment.filters |= {each.__name__: each for each in functions}
    environment.globals |= {each.__name__: each for each in functions}
    environment.globals |= {
        "summary": summary, "tables": table_content, "notes": table_notes, "charts": comparison_charts,
        "curves": learning_curves, "sweep": sweep_charts, "GLYPHS": GLYPHS, "FOLDED": FOLDED,
    }  # fmt: skip
    environment.tests["measured"] = lambda entry: isinstance(entry, AblationPage)
    return environment


def describe_score(entries: Sequence[AblationPage | UnmeasuredAblation]) -> str:
    """Return `Of 22 ablations, 21 are measured (scale small, CIFAR-10). 30 claims: 12 supported, …`."""
    measured = [entry.comparison for entry in entries if isinstance(entry, AblationPage)]
    settings = dict.fromkeys(f"scale {each.scale}, {each.data}" for each in measured)
    where = f" ({'; '.join(settings)})" if measured else ""
    claims = summary.claim_counts(claim.status for entry in entries for claim in entry.findings)
    verb = "is" if len(measured) == 1 else "are"
    lead = f"Of {len(entries)} ablations, {len(measured) or 'none'} {verb} measured"
    return f"{lead}{where}." + (f" {claims}." if claims else "")


# Figures of an ablation


def main_figures(page: AblationPage) -> list[PageFigure]:
    """Return the forest plot of differences, and of accuracies where these are not all compared with one control."""
    comparison, figures = page.comparison, []
    differences = comparison_charts.difference_rows(comparison)
    accuracies = comparison_charts.accuracy_rows(comparison)
    if differences:
        axis = comparison_charts.difference_axis(comparison)
        caption = explain_differences(comparison)
        figures.append(comparison_charts.plot_forest("Differences", caption, differences, axis, comparison.margin))
    if (comparison.chain or not differences) and any(row.values for row in accuracies):
        caption = "Small dots: one seed each. Large marks with bars: their mean and its own 95 % interval."
        figures.append(comparison_charts.plot_forest("Accuracy", caption, accuracies, "accuracy on test, %", None))
    return figures


def effect_figures(page: AblationPage) -> list[PageFigure]:
    """Return the plot of effects of a 2 × 2 study; empty for others."""
    rows, margin = comparison_charts.effect_rows(page.comparison), page.comparison.margin
    return [comparison_charts.plot_forest("", "", rows, "effect on accuracy, points", margin)] if rows else []


def explain_differences(comparison: Comparison) -> str:
    """Return the explanation of the plot of differences, and the reasons for missing intervals."""
    rows = [row for row in comparison.rows if row.against is not None]
    against = "the stage before" if comparison.chain else comparison.control
    lines = [f"Small dots: one seed each, less {against} with the same seed."]
    if any(row.interval is not None for row in rows):
        together = f", {len(rows)} together" if len(rows) > 1 else ""
        lines.append(
            f"Large marks with bars: their mean and its {100 * comparison.confidence:.0f} % interval{together}."
        )
    lines.append(f"Shaded: ± {table_content.points(comparison.margin)} points, a difference that does not matter.")
    return " ".join([*lines, *_without_interval(rows)])


def _without_interval(rows: Sequence[ComparisonRow]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.interval is None:
            reasons.setdefault(row.reason or "nothing to compare", []).append(row.variant)
    if len(reasons) == 1 and sum(map(len, reasons.values())) == len(rows):
        return [f"No intervals: {next(iter(reasons))}."]
    return [f"No interval of {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def explain_cost_bars(page: AblationPage) -> str:
    """Return the explanation of the bars; empty without bars."""
    if all(row.mean_interval is None for row in page.comparison.rows):
        return ""
    return (
        "Vertical bars: the 95 % interval of each variant's mean over seeds, each by itself. Whether two variants "
        "differ is said by the plot of differences, not by whether their bars overlap."
    )


def explain_claims(page: AblationPage | UnmeasuredAblation) -> str:
    """Explain why a difference has another sign and interval under the claims; empty if none is measured."""
    differences = [claim for claim in page.findings if claim.is_difference]
    if isinstance(page, UnmeasuredAblation) or all(claim.status == "not measured" for claim in differences):
        return ""
    families = Counter((claim.question, claim.metric) for claim in differences)
    holds = "its interval holds by itself"
    if len(families) == 1 < (together := families.total()):
        holds = f"intervals hold together over the {together} claims"
    elif max(families.values()) > 1:
        holds = "intervals of claims that answer one question by one metric hold together"
    comparison = page.comparison
    against = "the stage before" if comparison.chain else comparison.control
    many, own = comparison.comparisons, "whose intervals hold together over the"
    above = f"variant minus {against}" + (f", {own} {many} differences" if many > 1 else "")
    metrics = dict.fromkeys(claim.metric for claim in page.findings if claim.metric != "accuracy")
    definitions = "".join(f" {metric.capitalize()}: {METRICS[metric]}." for metric in metrics)
    return f"A difference here: better minus worse, as the claim has it; {holds}. Above: {above}.{definitions}"


def legend(page: AblationPage) -> list[LegendEntry]:
    """Return the mark of each variant, with the reason if it is not drawn; empty for a single variant."""
    rows, metric = {row.variant: row for row in page.comparison.rows}, page.comparison.metric
    if len(rows) == 1:
        return []
    return [
        swatch(index, name if rows[name].mean is not None else f"{name}: {describe_end(rows[name], metric)}")
        for name, index in comparison_charts.row_indices(page.comparison).items()
    ]


def cell_grid(page: AblationPage) -> CellGrid:
    """Return the states of the cells by variant and seed."""
    cells = {(cell.asked.variant, cell.asked.seed): cell for cell in page.cells}
    seeds = sorted({seed for _, seed in cells})
    notes = [(cell.asked, describe_state(cell)) for cell in page.cells]
    states = Counter(cell.state for cell in page.cells)
    return CellGrid(
        seeds=seeds,
        rows=[
            (variant, [cells.get((variant, seed)) for seed in seeds])
            for variant in dict.fromkeys(variant for variant, _ in cells)
        ],
        counts=", ".join(f"{states[state]} {state}" for state in STATES if states[state]),
        notes=[f"{asked.variant}, seed {asked.seed}: {note}" for asked, note in notes if note],
    )


# Words


def slug(name: str) -> str:
    """Convert a name to an HTML anchor."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in name)


def describe_variant(variant: VariantSummary) -> list[str]:
    """Return the variant's base, if not the baseline, and its overrides, one per line."""
    base = [f"{'continues' if variant.continues else 'on'} {variant.base}"] if variant.base is not None else []
    overrides = [format_overrides({path: value}) for path, value in variant.diff.items()]
    taught = [variant.taught_by] if variant.taught_by is not None else []
    return [*base, *taught, *overrides] or ["the baseline"]


def paragraphs(text: str) -> list[Markup]:
    """Split a text into paragraphs, each as one line of HTML."""
    return [prose(" ".join(part.split())) for part in text.split("\n\n") if part.strip()]


def prose(text: str) -> Markup:
    """Convert the text of a docstring or a message to HTML; text between backticks becomes code."""
    return Markup(re.sub(r"(`+)([^`]+)\1", r"<code>\2</code>", str(escape(text))))  # safe: escaped first


def count(value: int | None) -> str:
    """Format a number with thousands separators: `4,697,742`."""
    return "" if value is None else f"{value:,}"
