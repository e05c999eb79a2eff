"""`compare`: the variants of an ablation side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from cifar_lab.ablation import registry
from cifar_lab.cli import completion, console
from cifar_lab.cli import options as o
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.errors import RegistryError, UsageError, nearest
from cifar_lab.store.ablation_lookup import has_run, kept_as, unknown_ablation
from cifar_lab.text import printable

if TYPE_CHECKING:
    from cifar_lab.report.table_content import TextTable
    from cifar_lab.results.comparison import Comparison

STYLES = {
    "better": "green", "worse": "red", "diverged": "red", "equivalent": "cyan", "present": "green", "absent": "cyan",
    "undecided": "yellow", "control": "bold",
}  # fmt: skip
"""Colours of verdicts."""
FORMATS = ("table", "md", "csv", "latex", "json")


def compare(
    name: o.AblationName, overrides: o.Overrides = None,
    scale: o.MaybeScale = None, data: o.MaybeData = None,
    invocation: o.MaybeInvocation = None, variants: o.Variants = None, everything: o.Everything = False,
    format: Annotated[
        str, typer.Option(help="Format: table, md, csv, latex, json.", autocompletion=completion.one_of(*FORMATS))
    ] = "table",
    runs: o.RunsOrZip = o.DEFAULT_RUNS, ablations: o.Folders = None, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Compare the variants of an ablation, from its latest invocation; exit code 1 when a record is damaged."""
    if format not in FORMATS:
        raise UsageError(f"no format named '{format}'{nearest(format, FORMATS)}")
    o.require_setting(invocation, [name], scale, data, overrides or [])
    from cifar_lab.store.ablation_file import SEARCH

    diff, now = parse_overrides(overrides or []), None
    if name != "train" and not name.startswith(SEARCH):
        known = registry.discover(*(ablations or []))
        if name in known.known():
            try:
                now = known.find(name)
            except RegistryError as error:  # its file, or code that it names, may be broken since; its cells are not
                if not has_run(name, runs):
                    raise
                console.say(f"warning: {error}; the table is that of its notes")
        elif not (has_run(name, runs) or kept_as(name, runs)):
            raise unknown_ablation(name, known, runs)
    from cifar_lab.report import table_formats
    from cifar_lab.results.compare import compare as compare_cells

    comparison = compare_cells(
        runs.resolve(), name, scale=scale, data=data, overrides=diff, invocation=invocation, now=now
    )
    if variants is not None:
        comparison = comparison.only([name.strip() for name in variants.split(",")])
    if as_json or format == "json":
        console.print_json(comparison.as_dict())
    elif format == "table":
        print_comparison(comparison, everything=everything)
    else:
        latex = partial(table_formats.as_latex, everything=everything)
        forms: dict[str, Callable[[Comparison], str]] = {
            "md": table_formats.as_markdown,
            "csv": table_formats.as_csv,
            "latex": latex,
        }
        console.write(forms[format](comparison), end="")
        return console.say_damage(comparison.damage)
    return 1 if comparison.damage else 0


def print_comparison(comparison: Comparison, *, everything: bool = False) -> None:
    """Print the result as one table and one sentence, with the notes that matter; `everything`: all tables."""
    from cifar_lab.report import table_notes
    from cifar_lab.report.summary import comparison_sentence
    from cifar_lab.report.table_content import comparison_tables, result_table

    for line in table_notes.header(comparison):
        console.show_wrapped(line)
    for sheet in comparison_tables(comparison) if everything else [result_table(comparison)]:
        if sheet.caption:
            console.show_wrapped(f"\n{sheet.caption}", "dim")
        for part in sheet.folded(console.out.width):
            console.out.print(_table(part))
    console.out.print()
    if sentence := comparison_sentence(comparison):
        console.show_wrapped(sentence, "bold")
    for line in table_notes.footer(comparison) if everything else _notes(comparison):
        console.show_wrapped(line, "dim")


def _notes(comparison: Comparison) -> list[str]:
    """Return what is not in the means, what may change how the result is read, and where the rest is."""
    from cifar_lab.report import table_notes
    from cifar_lab.report.summary import count_unfinished

    lines = [count_unfinished(comparison), *table_notes.notes(comparison)]
    lines += [f"{line}; --all shows more" for line in table_notes.intervals(comparison)]
    return [line for line in lines if line]


def _table(sheet: TextTable) -> Table:
    """Return a table for a terminal, its verdicts coloured."""
    coloured = sheet.headings.index("verdict") if "verdict" in sheet.headings else -1
    rows = [
        [Text(printable(cell), style=STYLES.get(cell, "")) if i == coloured else cell for i, cell in enumerate(row)]
        for row in sheet.rows
    ]
    return console.table("", sheet.headings, rows, right=sheet.numbers)
