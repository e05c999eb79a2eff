"""Output formats of a comparison: Markdown, LaTeX and CSV, all from the same numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from cifar_lab.report import table_notes
from cifar_lab.report.table_content import TextTable, comparison_tables, published_table
from cifar_lab.results.comparison import Comparison

_LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "Δ": r"$\Delta$", "×": r"$\times$", "·": r"$\cdot$", "≈": r"$\approx$", "−": r"$-$", "≥": r"$\geq$",
    "≤": r"$\leq$", "–": "--", "…": r"\ldots{}", "†": r"\textdagger{}", "²": r"$^2$", "ⁿ": r"$^n$",
})  # fmt: skip
_SIGNED = re.compile(r"\[[-+][\d.]+, [-+][\d.]+\]|(?<![\w.\-+])[-+]\d+(?:\.\d+)?(?![\w\-+]|\.\d)")
"""A number with a sign, or an interval of two: in math mode LaTeX sets a minus sign, and no hyphen."""


def as_markdown(comparison: Comparison) -> str:
    """Return header, tables, footer and provenance in Markdown."""
    parts = [_listed(table_notes.header(comparison))]
    for sheet in comparison_tables(comparison):
        parts += [[sheet.caption], _table(sheet)]
    parts += [_listed(table_notes.footer(comparison)), _listed(comparison.made)]
    return "\n\n".join("\n".join(part) for part in parts if any(part)) + "\n"


def as_latex(comparison: Comparison, *, everything: bool = False) -> str:
    """Return the result as one `booktabs` table with cells `95.1 ± 0.2`; `everything`: a table for each sheet.

    What must be known stands in the caption and below the table, and how the numbers came about in comments.
    """
    made = ["% needs \\usepackage{booktabs}", *(f"% {line}" for line in comparison.made)]
    few = [*table_notes.intervals(comparison), *table_notes.notes(comparison)]
    notes = table_notes.footer(comparison) if everything else few
    made += ["", *_latex_table(published_table(comparison), " · ".join(table_notes.header(comparison)), notes)]
    for sheet in comparison_tables(comparison)[1:] if everything else ():
        made += ["", *_latex_table(sheet, sheet.caption, [])]
    return "\n".join(made) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Return one line per variant with every field of `Row` unrounded, after columns that identify the comparison.

    `kind` distinguishes variants from the effects of a 2 × 2 study, which follow on lines of their own without a
    variant: `contrast` names them, and fields that they share with variants are in the same columns.
    """
    out = io.StringIO()
    named = ("ablation", "scale", "protocol", "metric", "control", "data", "invocation", "margin", "confidence",
             "comparisons")  # fmt: skip
    names = {name: getattr(comparison, name) for name in named} | {"overrides": json.dumps(comparison.overrides)}
    rows = [{**names, "kind": "variant", "contrast": "", **dict(_columns(row.as_dict()))} for row in comparison.rows]
    for effect in comparison.effects:
        fields = asdict(effect)
        rows.append({**names, "kind": "effect", "contrast": fields.pop("name"), **dict(_columns(fields))})
    every = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(out, fieldnames=list(every), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _columns(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield columns, with nested values flattened (`epochs_to_0.7_mean`) after all others."""
    for key, value in tree.items():
        if not isinstance(value, dict):
            yield key, json.dumps(value) if isinstance(value, tuple) else value
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _columns({f"{key}_{inner}": each for inner, each in value.items()})


def _table(sheet: TextTable) -> list[str]:
    rule = "|".join("---:" if heading in sheet.numbers else "---" for heading in sheet.headings)
    rows = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in sheet.rows]
    return [f"| {' | '.join(sheet.headings)} |", f"|{rule}|", *(f"| {row} |" for row in rows)]


def _latex_table(sheet: TextTable, caption: str, notes: list[str]) -> list[str]:
    columns = "".join("r" if heading in sheet.numbers else "l" for heading in sheet.headings)
    rows = [" & ".join(_with_signs(cell) for cell in row) + r" \\" for row in sheet.rows]
    below = [r"\par\smallskip\footnotesize\raggedright " + " ".join(f"{_with_signs(note)}." for note in notes)]
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(latex(heading) for heading in sheet.headings) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *(below if notes else []),
        r"\end{table}",
    ]


def _with_signs(text: str) -> str:
    """Return `text` for LaTeX, with numbers that have a sign in math mode."""
    ends = [0, *(end for match in _SIGNED.finditer(text) for end in match.span()), len(text)]
    parts = [text[start:end] for start, end in pairwise(ends)]
    return "".join(f"${part}$" if i % 2 else latex(part) for i, part in enumerate(parts))


def latex(text: str) -> str:
    """Escape LaTeX's special characters in `text`; text between backticks becomes code."""
    return re.sub(r"(`+)([^`]+)\1", r"\\texttt{\2}", text.translate(_LATEX))


def _listed(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]
