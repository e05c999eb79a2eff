"""`compare`: the variants of an ablation side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cifar_lab import registry
from cifar_lab import scale as scales
from cifar_lab.cli import completion, console
from cifar_lab.cli import options as o
from cifar_lab.cli.damage import say_damage
from cifar_lab.errors import UsageError, nearest
from cifar_lab.overrides import parse_overrides

if TYPE_CHECKING:
    from cifar_lab.report.comparison import Comparison

Earlier = Annotated[
    str | None,
    typer.Option(
        "--invocation",
        autocompletion=completion.invocations,
        help="Select an earlier invocation by the id in its header.",
    ),
]
FORMATS = ("table", "md", "csv", "latex", "json")


def compare(
    name: o.AblationName, overrides: o.Overrides = None,
    scale: o.MaybeScale = None, data: o.MaybeData = None,
    invocation: Earlier = None,
    format: Annotated[
        str, typer.Option(help="Format: table, md, csv, latex, json.", autocompletion=completion.one_of(*FORMATS))
    ] = "table",
    runs: o.Runs = o.DEFAULT_RUNS, ablations: o.Folders = None, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Compare the variants of an ablation, from its latest invocation; exit code 1 when a record is damaged."""
    if format not in FORMATS:
        raise UsageError(f"no format named '{format}'{nearest(format, FORMATS)}")
    if scale is not None:
        scales.find(scale)
    diff = parse_overrides(overrides or [])
    if invocation is not None and (scale is not None or data is not None or diff):
        raise UsageError("--invocation names a whole setting; leave --scale, --data and overrides out")
    if name != "train" and not name.startswith("sweep."):
        registry.discover(*(ablations or [])).find(name)
    from cifar_lab.report import tables
    from cifar_lab.run.results import compare as compare_cells

    comparison = compare_cells(runs.resolve(), name, scale=scale, data=data, overrides=diff, invocation=invocation)
    if as_json or format == "json":
        console.print_json(comparison.as_dict())
    elif format == "table":
        print_comparison(comparison)
    else:
        print({"md": tables.as_markdown, "csv": tables.as_csv, "latex": tables.as_latex}[format](comparison), end="")
        return say_damage(comparison.damage)
    return 1 if comparison.damage else 0


def print_comparison(comparison: Comparison) -> None:
    """Print the tables in a terminal, with header and footer."""
    from cifar_lab.report.sheets import sheets

    out = console.out
    for line in comparison.header():
        out.print(line, markup=False, soft_wrap=True)
    for sheet in sheets(comparison):
        if sheet.caption:
            out.print("\n" + sheet.caption, style="dim", markup=False, soft_wrap=True)
        for part in sheet.folded(out.width):
            rows = [[escape(cell) for cell in row] for row in part.rows]
            out.print(console.table("", part.headings, rows, right=part.numbers))
    out.print()
    for line in comparison.footer():
        out.print(line, style="dim", markup=False, soft_wrap=True)
