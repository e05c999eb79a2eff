"""Render studies as one self-contained HTML file without scripts that can be printed."""

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
from cifar_lab.report import headline, table_content
from cifar_lab.report.ablation_page_data import (
    STATES,
    AblationPageData,
    CellSummary,
    Chapter,
    UnmeasuredAblation,
    VariantSummary,
)
from cifar_lab.report.charts import comparison_plots, learning_curves, svg
from cifar_lab.report.charts.cell_png import INTERVAL
from cifar_lab.report.charts.forest_plot import is_cut
from cifar_lab.results.comparison import ComparisonRow

TEMPLATES = Path(__file__).with_name("templates")
GLYPHS = {"finished": "✓", "diverged": "×", "running": "…", "failed": "!", "missing": "–", "damaged": "?"}

ARROWS = "An arrow in place of an end: the interval reaches farther; its numbers are in the table."


class PageFigure(NamedTuple):
    """Drawing with its explanation."""

    title: str
    drawing: Markup
    caption: str = ""


class CellGrid(NamedTuple):
    """Grid of a study's cells: one row per variant, one column per seed."""

    seeds: list[int]
    rows: list[tuple[str, list[CellSummary | None]]]
    counts: str
    notes: list[str]


def report(studies: Sequence[AblationPageData]) -> str:
    """Return a page of one study, or of several after a summary table."""
    chapters = (Chapter(title="", words="", entries=tuple(studies)),)
    title = studies[0].name if len(studies) == 1 else f"{len(studies)} ablations"
    return _render(title=title, introduction="", chapters=chapters)


def story(chapters: Sequence[Chapter], *, title: str, introduction: str) -> str:
    """Return a page to be read from top to bottom: a summary table, then the chapters."""
    return _render(title=title, introduction=introduction, chapters=chapters)


def _render(*, title: str, introduction: str, chapters: Sequence[Chapter]) -> str:
    entries = [entry for chapter in chapters for entry in chapter.entries]
    return _environment().get_template("page.html").render(
        title=title,
        introduction=introduction,
        chapters=chapters,
        entries=entries,
        is_single=len(entries) == 1,
        score=score(entries),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"headline": headline, "sheets": table_content, "plots": comparison_plots, "glyphs": GLYPHS}
    made.filters |= {"slug": slug, "difference": difference, "count": count, "paragraphs": paragraphs}
    made.globals |= {
        "differences": differences, "effects": effects, "accuracies": accuracies, "costs": costs, "panels": panels,
        "four": four, "legend": legend, "grid": grid, "reading": learning_curves.reading, "prose": prose,
        "cost_reading": cost_reading, "claims_reading": claims_reading,
    }  # fmt: skip
    made.tests["study"] = lambda entry: isinstance(entry, AblationPageData)
    return made


def score(entries: Sequence[AblationPageData | UnmeasuredAblation]) -> str:
    """Return `Of 22 ablations, 21 are measured (scale small, CIFAR-10). 30 claims: 12 supported, …`."""
    measured = [entry.comparison for entry in entries if isinstance(entry, AblationPageData)]
    settings = dict.fromkeys(f"scale {each.scale}, {each.data}" for each in measured)
    where = f" ({'; '.join(settings)})" if measured else ""
    found = headline.claims([finding for entry in entries for finding in entry.findings])
    said = f"Of {len(entries)} ablations, {len(measured) or 'none'} {'is' if len(measured) == 1 else 'are'} measured"
    return f"{said}{where}." + (f" {found}." if found else "")


# The parts of a study


def differences(study: AblationPageData) -> list[PageFigure]:
    """Return the plot of differences, and a close-up if outliers compress the others."""
    comparison = study.comparison
    whole = comparison_plots.differences(comparison)
    if whole is None:
        return []
    found = [PageFigure("Differences", whole, _with_arrows(_reading(study), whole))]
    limit = comparison_plots.closeup(comparison)
    if limit is not None and (near := comparison_plots.differences(comparison, limit)) is not None:
        said = f"The same within ± {table_content.points(limit)} points; arrows point to what lies beyond."
        found.append(PageFigure("Differences, close-up", near, said))
    return found


def _reading(study: AblationPageData) -> str:
    """Return the explanation of the plot of differences, and the reasons for missing intervals."""
    comparison = study.comparison
    rows = [row for row in comparison.rows if row.against is not None]
    against = "the stage before" if comparison.chain else comparison.control
    said = [f"Small dots: one seed each, less {against} with the same seed."]
    if any(row.interval is not None for row in rows):
        many = f", {len(rows)} together" if len(rows) > 1 else ""
        said.append(f"Large marks with bars: their mean and its {100 * comparison.confidence:.0f} % interval{many}.")
    said.append(f"Shaded: ± {table_content.points(comparison.margin)} points, a difference that does not matter.")
    return " ".join([*said, *_without_interval(rows)])


def _without_interval(rows: Sequence[ComparisonRow]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.interval is None:
            reasons.setdefault(row.reason or "nothing to compare", []).append(row.variant)
    if len(reasons) == 1 and sum(map(len, reasons.values())) == len(rows):
        return [f"No intervals: {next(iter(reasons))}."]
    return [f"No interval of {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def effects(study: AblationPageData) -> list[PageFigure]:
    """Return the plot of effects of a 2 × 2 study; empty for others."""
    found = comparison_plots.effects(study.comparison)
    return [PageFigure("", found, _with_arrows("", found))] if found is not None else []


def accuracies(study: AblationPageData) -> list[PageFigure]:
    """Return the plot of accuracies, if no difference is drawn or each is to another row."""
    comparison = study.comparison
    if any(row.against is not None for row in comparison.rows) and not comparison.chain:
        return []
    found = comparison_plots.accuracies(comparison)
    said = "Small dots: one seed each. Large marks with bars: their mean and its own 95 % interval."
    return [PageFigure("Accuracy", found, _with_arrows(said, found))] if found is not None else []


def _with_arrows(said: str, drawing: Markup) -> str:
    """Return the caption of a drawing, followed by a note on its arrows if it has any."""
    return f"{said} {ARROWS}".strip() if is_cut(drawing) else said


def costs(study: AblationPageData) -> list[PageFigure]:
    return [PageFigure("", found) for found in comparison_plots.costs(study.comparison)]


def cost_reading(study: AblationPageData) -> str:
    """Return the explanation of the bars; empty without bars."""
    if all(row.mean_interval is None for row in study.comparison.rows):
        return ""
    return (
        "Vertical bars: the 95 % interval of each variant's mean over seeds, each by itself. Whether two variants "
        "differ is said by the plot of differences, not by whether their bars overlap."
    )


def claims_reading(study: AblationPageData) -> str:
    """Explain why a difference has another sign and interval under the claims; empty if none is measured."""
    if not any(finding.is_difference and finding.status != "not measured" for finding in study.findings):
        return ""
    families = Counter((each.question, each.metric) for each in study.findings if each.is_difference)
    holds = "its interval holds by itself"
    if len(families) == 1 < (together := families.total()):
        holds = f"intervals hold together over the {together} claims"
    elif max(families.values()) > 1:
        holds = "intervals of claims that answer one question by one metric hold together"
    comparison = study.comparison
    against = "the stage before" if comparison.chain else comparison.control
    many, own = comparison.comparisons, "whose intervals hold together over the"
    above = f"variant minus {against}" + (f", {own} {many} differences" if many > 1 else "")
    metrics = dict.fromkeys(each.metric for each in study.findings if each.metric != "accuracy")
    defined = "".join(f" {metric.capitalize()}: {METRICS[metric]}." for metric in metrics)
    return f"A difference here: better minus worse, as the claim has it; {holds}. Above: {above}.{defined}"


def panels(study: AblationPageData) -> list[learning_curves.Panel]:
    return learning_curves.panels(study)


def four(study: AblationPageData) -> list[PageFigure]:
    """Return the writeup's four figures; the losses on mixed and on clean images are drawn separately."""
    length = learning_curves.interval_length(study)
    means = f"mean of {length} epochs" if length > 1 else "epoch by epoch"
    short = "" if length > 1 else f"Fewer than {INTERVAL} epochs were trained: there are no means of {INTERVAL}."
    seen = learning_curves.watched(study)
    made = (
        ("1 · Learning rate by epoch", learning_curves.learning_rate(study), ""),
        (f"2 · {seen.capitalize()} accuracy by epoch", learning_curves.accuracy(study), ""),
        (f"2 · {seen.capitalize()} accuracy, close-up", learning_curves.accuracy(study, late=True), "The second half."),
        (f"3 · {seen.capitalize()} accuracy, {means}", learning_curves.accuracy_by_interval(study), short),
        (
            "4 · Training loss by epoch",
            learning_curves.loss(study, "train/loss"),
            "As trained on: augmented and mixed images.",
        ),
        (f"4 · {seen.capitalize()} loss by epoch", learning_curves.loss(study, "watched/loss"), ""),
    )
    return [PageFigure(title, found, caption) for title, found, caption in made if found is not None]


def legend(study: AblationPageData) -> list[tuple[str, Markup]]:
    """Return pairs (variant, its line and mark), with the reason if not drawn; empty for a single variant."""
    rows, metric = {row.variant: row for row in study.comparison.rows}, study.comparison.metric
    if len(rows) == 1:
        return []
    return [
        (
            name if rows[name].mean is not None else f"{name}: {comparison_plots.ended(rows[name], metric)}",
            svg.swatch(index),
        )
        for name, index in comparison_plots.indices(study.comparison).items()
    ]


def grid(study: AblationPageData) -> CellGrid:
    found = {(cell.variant, cell.seed): cell for cell in study.cells}
    seeds = sorted({cell.seed for cell in study.cells})
    variants = dict.fromkeys(cell.variant for cell in study.cells)
    states = Counter(cell.state for cell in study.cells)
    return CellGrid(
        seeds=seeds,
        rows=[(variant, [found.get((variant, seed)) for seed in seeds]) for variant in variants],
        counts=", ".join(f"{states[state]} {state}" for state in STATES if states[state]),
        notes=[f"{cell.variant}, seed {cell.seed}: {cell.note}" for cell in study.cells if cell.note],
    )


# Words


def slug(name: str) -> str:
    """Convert a name to an HTML anchor."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in name)


def difference(variant: VariantSummary) -> list[str]:
    """Return the variant's base, if not the baseline, and its overrides, one per line."""
    stands = [f"{'continues' if variant.continues else 'on'} {variant.base}"] if variant.base is not None else []
    lines = stands + [format_overrides({path: value}) for path, value in variant.diff.items()]
    return lines or ["the baseline"]


def paragraphs(text: str) -> list[Markup]:
    """Split a text into paragraphs, each as one line of HTML."""
    return [prose(" ".join(part.split())) for part in text.split("\n\n") if part.strip()]


def prose(text: str) -> Markup:
    """Convert the text of a docstring or a message to HTML; text between backticks becomes code."""
    return Markup(re.sub(r"(`+)([^`]+)\1", r"<code>\2</code>", str(escape(text))))  # safe: escaped first


def count(value: int | None) -> str:
    """Format a number with thousands separators: `4,697,742`."""
    return "" if value is None else f"{value:,}"
