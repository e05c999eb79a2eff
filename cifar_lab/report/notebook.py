"""Results in a notebook: data frames, HTML tables and matplotlib figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cifar_lab.config.overrides import as_typed
from cifar_lab.errors import UsageError
from cifar_lab.report import table_content, table_notes
from cifar_lab.report.charts import comparison as charts
from cifar_lab.report.summary import comparison_sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
    from pandas import DataFrame as DataFrame

    from cifar_lab.report.table_content import TextTable
    from cifar_lab.results.comparison import Comparison

STYLE = Markup('style="font-variant-numeric: tabular-nums"')
RIGHT, LEFT = Markup(' style="text-align: right"'), Markup(' style="text-align: left"')


class Tabular:
    """Base class of results that are a list of records with equal columns."""

    def records(self) -> list[dict[str, Any]]:
        """Return one mapping for each row, all with the same keys."""
        raise NotImplementedError

    def to_frame(self) -> DataFrame:
        """Return a pandas data frame with a row for each record, an empty one without records.

        Lists and mappings of `records` are text in it, as they are typed in overrides, `[1,1]`: they can be grouped by,
        and written to any format.
        """
        from pandas import DataFrame

        return DataFrame([{name: _as_text(value) for name, value in row.items()} for row in self.records()])

    def caption(self) -> str:
        """Return the line above the table; empty for none."""
        return ""

    def shown(self) -> Sequence[Mapping[str, Any]]:
        """Return the records as a notebook shows them: the most important columns."""
        return self.records()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.caption()}>"

    def _repr_html_(self) -> str:
        rows = self.shown()
        headings = list(rows[0]) if rows else []
        numbers = [name for name in headings if all(isinstance(row[name], int | float) for row in rows)]
        cells = [[_word(row[name]) for name in headings] for row in rows]
        return html_paragraphs([self.caption()]) + html_table(headings, cells, numbers)


def _as_text(value: object) -> object:
    """Return a list or mapping as it is typed, and other values as they are."""
    return as_typed(value) if isinstance(value, list | tuple | Mapping) else value


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
    sheet: TextTable = table_content.result_table(comparison)
    parts = [html_paragraphs(table_notes.header(comparison)), html_table(sheet.headings, sheet.rows, sheet.numbers)]
    notes = [*table_notes.notes(comparison), *table_notes.intervals(comparison)]
    parts += [html_paragraphs([comparison_sentence(comparison), *notes])]
    return Markup("").join(parts)


def comparison_figure(comparison: Comparison, figsize: tuple[float, float] | None = None) -> Figure:
    """Draw the differences of each variant in points, or the accuracies in % where nothing is compared.

    Each seed is a dot, the mean a mark on its interval; the shaded band is the equivalence margin. `figsize`: width and
    height in inches; None: as the rows need it.

    Raises:
        UsageError: a size is not positive.
    """
    size = None
    if figsize is not None:
        try:
            width, height = (72 * float(length) for length in figsize)
        except (TypeError, ValueError):
            width = height = 0.0
        if not (width > 0 and height > 0 and math.isfinite(width + height)):
            raise UsageError(f"figsize is width and height in inches, as in (3.3, 1.6), got {figsize!r}")
        size = (width, height)
    rows, title = charts.difference_rows(comparison), table_notes.header(comparison)[0]
    if any(row.dots for row in rows):
        axis = charts.difference_axis(comparison)
        return charts.draw_forest(
            rows, axis=axis, margin=comparison.margin, title=title, size=size, is_fitted=True
        )  # fmt: skip
    accuracies = charts.accuracy_rows(comparison)
    return charts.draw_forest(accuracies, axis="accuracy, %", title=title, size=size, is_fitted=True)


def _word(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
