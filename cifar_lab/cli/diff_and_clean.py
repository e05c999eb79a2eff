"""`diff` and `clean`: compare two cells, and delete files that are not needed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.cli.prompt import confirm
from cifar_lab.cli.tail import cell_identity
from cifar_lab.config.overrides import as_typed
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.inspect.cleanup import CleanupItem
    from cifar_lab.inspect.diff_cells import CellDiff, DiffRow
    from cifar_lab.results.stats.mcnemar import Disagreement
    from cifar_lab.store.mirror import Mirror

LOSES = {"leftover": "nothing", "superseded": "what a redo set aside", "damaged": "what was damaged, and kept aside"}
ACCURACY = re.compile(r"(?:^|/)(?:gap|rise|auc|\w*acc(?:_\w+)?)$")
"""Measurements that are fractions of images, shown in per cent."""
OlderThan = Annotated[
    str,
    typer.Option("--older-than", metavar="AGE", help="Delete only what has not changed for so long: 12h, 7d."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, delete nothing.")]


def diff(
    one: o.NamedCell, other: o.NamedCell, runs: o.RunsOrZip = o.DEFAULT_RUNS, as_json: o.Json = False
) -> int:  # fmt: skip
    """Compare two cells: recipe, seed and data, execution, code, environment, result."""
    from cifar_lab.inspect.diff_cells import compare_cells
    from cifar_lab.store.selection import find_cell

    a, b = (find_cell(runs.resolve(), name) for name in (one, other))
    found = compare_cells(a, b)
    if as_json:
        console.print_json(found.as_dict())
        return 0
    for letter, record in (("a", a), ("b", b)):
        console.show(f"{letter}: {cell_identity(record)}")
    for part in _parts(found):
        console.out.print(part, soft_wrap=isinstance(part, Text))  # lines stay whole, tables fit
    return 0


def clean(
    older_than: OlderThan = "7d", dry_run: DryRun = False, runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Delete files that are no longer needed: abandoned checkpoints, partial files, records set aside by a redo.

    Results, journals and weights are kept, and everything of cells being trained. A record that a redo set aside is
    kept until its cell is finished again. On an object store, such records and checkpoints are all that is deleted,
    nothing of a cell whose lease somebody holds.
    """
    from cifar_lab.inspect.cleanup import find_items, parse_age
    from cifar_lab.inspect.store_cleanup import find_stored_items
    from cifar_lab.store.mirror import mirror_of

    age, mirror = parse_age(older_than), mirror_of(runs.resolve())
    o.require_runs(runs)
    items = find_stored_items(mirror, age) if mirror is not None else find_items(runs.resolve(), age)
    said = f"{len(items)} to free, {_size(sum(item.size for item in items))}"
    if not as_json:
        nothing = Text(f"nothing to free in {mirror.address if mirror is not None else runs.resolve()}")
        console.out.print(_items_table(items, runs.resolve()) if items else nothing, soft_wrap=not items)
    if items and not dry_run:
        confirm("Delete them?", f"{said}: deleting", yes)
    freed, kept = _free([] if dry_run else items, mirror)
    if as_json:
        trees = [{**item.as_dict(), "freed": item in freed} for item in items]
        console.print_json({"dry_run": dry_run, "freed_bytes": sum(item.size for item in freed), "items": trees})
    elif items:
        done = f"freed {len(freed)} of {len(items)}, {_size(sum(item.size for item in freed))}"
        console.out.print(f"{said}; nothing is freed with --dry-run" if dry_run else done, soft_wrap=True)
    return 1 if kept else 0


def _parts(found: CellDiff) -> Iterator[RenderableType]:
    states = {fingerprint[:12]: state for fingerprint, state in found.unfinished.items()}
    for name, rows in found.sections.items():
        code = found.code_diff if name == "code" else ""
        missing = states if name == "result" else {}
        same = "" if rows or code or missing else ": the same"
        yield Text.assemble("" if same else "\n", (name, "bold"), same)
        yield from (Text(f"{fingerprint} has no result: {state}") for fingerprint, state in missing.items())
        if rows:
            yield _section(rows)
        if name == "code" and not same:
            yield Text(f"changes that were not committed:\n{code}" if code else "changes not committed: the same")
    if found.images is not None:
        yield Text.assemble("\n", ("this pair of networks, image by image", "bold"))
        yield Text(_image_lines(found.images))
    else:
        yield Text(f"\n{found.images_reason}")


def _image_lines(found: Disagreement) -> str:
    low, high = (100 * bound for bound in found.interval)
    method = "paired bootstrap" if found.only_a + found.only_b else "rule of three"
    return (
        f"of {found.images:,} test images, {found.only_a:,} are right in a alone and {found.only_b:,} in b alone\n"
        f"b − a: {100 * found.difference:+z.2f} points, [{low:+.2f}, {high:+.2f}] over images (95 %, {method}); "
        f"exact McNemar p {found.p_value:.2g}\n"
        "it holds for these two networks; of what their recipes do, only several seeds can tell: `compare`"
    )


def _section(rows: list[DiffRow]) -> RenderableType:
    measured = any(row.difference is not None for row in rows)
    columns = ("", "a", "b", *(("b − a",) if measured else ()))
    shown = [(row.path, *_values(row), *((_difference(row),) if measured else ())) for row in rows]
    return console.table("", columns, shown, right=("b − a",))


def _difference(row: DiffRow) -> str:
    """Return the difference of two measurements; of accuracies, in points."""
    if row.difference is None:
        return ""
    return f"{100 * row.difference:+z.2f}" if _is_accuracy(row) else f"{row.difference:+.6g}"


def _is_accuracy(row: DiffRow) -> bool:
    return row.is_measured and bool(ACCURACY.search(row.path))


def _values(row: DiffRow) -> list[str]:
    if _is_accuracy(row):
        return [f"{100 * value:.2f} %" if isinstance(value, float) else _value(value) for value in (row.a, row.b)]
    return [_value(row.a), _value(row.b)]


def _value(value: Any) -> str:
    """A value as it fits into a column: digests and commits cut to 12 digits."""
    text = as_typed(value, digits=6)
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", text)


def _items_table(items: list[CleanupItem], runs: Path) -> RenderableType:
    from cifar_lab.store.selection import cell_names

    known, rows = cell_names(runs), []
    for item in items:
        fingerprint = item.cell.fingerprint if item.cell is not None else item.path.name.partition(".")[0]
        cell = " ".join([*map(str, known.get(fingerprint, ())[:1]), fingerprint[:12]])
        age = console.duration(max(0.0, time.time() - item.touched))
        loses = LOSES.get(item.kind, f"its progress, {many(item.epoch, 'epoch')}")
        rows.append((item.kind, cell, _size(item.size), age, loses))
    return console.table("", ("what", "cell", "size", "untouched", "what is lost"), rows, right=("size", "untouched"))


def _free(items: list[CleanupItem], mirror: Mirror | None) -> tuple[list[CleanupItem], list[CleanupItem]]:
    """Delete the items, in a copy those of its store; return those that were deleted, and those that could not be."""
    from cifar_lab.inspect.cleanup import free
    from cifar_lab.inspect.store_cleanup import free_stored

    freed, kept = [], []
    for item in items:
        try:
            reason = free_stored(mirror, item) if mirror is not None else free(item)
        except OSError as error:
            kept.append(item)
            reason = f"it cannot be deleted ({error.strerror})"
        if reason is None:
            freed.append(item)
        else:
            console.say(f"{item.place} stays: {reason}")
    return freed, kept


def _size(count: int) -> str:
    """Format a size: `640 kB`, `56 MB` or `1.2 GB`."""
    if count < 1_000_000:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 1_000_000_000 else f"{count / 1e9:.1f} GB"
