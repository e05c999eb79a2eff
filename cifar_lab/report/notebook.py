"""Results in a notebook: data frames, HTML tables and matplotlib figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cifar_lab.report import table_content
from cifar_lab.report.charts import cell_png
from cifar_lab.report.sentence import sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
    from pandas import DataFrame as DataFrame

    from cifar_lab.report.table_content import TextTable
    from cifar_lab.results.comparison import Comparison, ComparisonRow

STYLE = Markup('style="font-variant-numeric: tabular-nums"')
RIGHT, LEFT = Markup(' style="text-align: right"'), Markup(' style="text-align: left"')
HEIGHT, MARGINS = 0.45, 1.5
"""Inches of a row of a plot, and of what stands above and below all rows."""


class Tabular:
    """Base class of results that are a list of records with equal columns."""

    def records(self) -> list[dict[str, Any]]:
        """Return one mapping for each row, all with the same keys."""
        raise NotImplementedError

    def to_frame(self) -> DataFrame:
        """Return a pandas data frame with a row for each record, an empty one without records."""
        from pandas import DataFrame

        return DataFrame(self.records())

    def caption(self) -> str:
        """Return the line above the table; empty for none."""
        return ""

    def shown(self) -> Sequence[Mapping[str, Any]]:
        """Return the records as a notebook shows them: the most important columns."""
        return self.records()

    def _repr_html_(self) -> str:
        rows = self.shown()
        headings = list(rows[0]) if rows else []
        numbers = [name for name in headings if all(isinstance(row[name], int | float) for row in rows)]
        cells = [[_word(row[name]) for name in headings] for row in rows]
        return html_paragraphs([self.caption()]) + html_table(headings, cells, numbers)


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[str]) -> Markup:
    """Return an HTML table with escaped text; the columns named in `numbers` are right-aligned."""
    right = [RIGHT if heading in set(numbers) else LEFT for heading in headings]
    head = Markup("").join(Markup("<th{}>{}</th>").format(at, text) for at, text in zip(right, headings, strict=True))
    body = [
        Markup("").join(Markup("<td{}>{}</td>").format(at, text) for at, text in zip(right, row, strict=True))
        for row in rows
    ]
    lines = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in body)
    return Markup("<table {}><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(STYLE, head, lines)


def html_paragraphs(lines: Iterable[str]) -> Markup:
    """Return one HTML paragraph for each line that is not empty, escaped."""
    return Markup("").join(Markup("<p>{}</p>").format(line) for line in lines if line)


def comparison_frame(comparison: Comparison) -> DataFrame:
    """Return a row for each variant, in the order of the table, with the columns of the CSV format.

    What is kept by seed or by threshold has a column for each: `values_0`; ends of intervals are two columns.
    """
    from pandas import DataFrame

    return DataFrame([dict(_columns(row.as_dict())) for row in comparison.rows])


def _columns(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _columns(value, f"{name}_")
        elif name.endswith("interval") or name == "welch":
            yield from zip((f"{name}_low", f"{name}_high"), value or (None, None), strict=True)
        else:
            yield name, value


def comparison_html(comparison: Comparison) -> Markup:
    """Return a comparison as the terminal shows it: header, table, sentence and the notes that matter."""
    sheet: TextTable = table_content.result(comparison)
    parts = [html_paragraphs(comparison.header()), html_table(sheet.headings, sheet.rows, sheet.numbers)]
    parts += [html_paragraphs([sentence(comparison), *comparison.notes(), *comparison.intervals()])]
    return Markup("").join(parts)


def comparison_figure(comparison: Comparison) -> Figure:
    """Draw the differences of each variant in points, or the accuracies in % where nothing is compared.

    Each seed is a dot, the mean a bar, its interval a line; the shaded band is the equivalence margin.
    """
    compared = [row for row in comparison.rows if row.differences]
    rows = compared or [row for row in comparison.rows if row.values]
    figure = _figure()(
        figsize=(cell_png.SIZE[0], MARGINS + HEIGHT * max(1, len(rows))), dpi=cell_png.DPI, layout="tight"
    )
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        _draw(axes, place, row, is_difference=bool(compared))
    axes.set_yticks(range(len(rows)), [row.variant for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if compared:
        against = "the stage before" if comparison.chain else comparison.control
        axes.axvspan(-100 * comparison.margin, 100 * comparison.margin, color="black", alpha=0.08, linewidth=0)
        axes.axvline(0, color="black", linewidth=1)
        axes.set_xlabel(f"difference in accuracy to {against}, points")
    else:
        axes.set_xlabel("accuracy, %")
    axes.set_title(comparison.header()[0])
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@cache
def _figure() -> type[Figure]:
    """Return a class of figures that a notebook shows, without pyplot and its global state."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        """Figure that is drawn where it is the last value of a notebook's cell."""

        def _repr_png_(self) -> bytes:
            return cell_png.as_png(self)

    return Shown


def _draw(axes: Any, place: int, row: ComparisonRow, *, is_difference: bool) -> None:
    values, mean = (row.differences, row.difference) if is_difference else (row.values, row.mean)
    interval = row.interval if is_difference else row.mean_interval
    if interval is not None:
        axes.plot([100 * end for end in interval], [place, place], color=cell_png.BLUE, linewidth=2)
    if mean is not None:
        axes.plot([100 * mean], [place], "|", color=cell_png.BLUE, markersize=16, markeredgewidth=3)
    axes.plot([100 * value for value in values.values()], [place] * len(values), "o", color=cell_png.ORANGE, alpha=0.8)


def _word(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
