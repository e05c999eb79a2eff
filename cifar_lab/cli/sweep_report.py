"""`sweep-report`: write the results of a search as one HTML file that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.cli.sweep import Name, Storage
from cifar_lab.errors import UsageError

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Path of the page.")]


def sweep_report(
    name: Name, output: Output = Path("sweep.html"), storage: Storage = None, runs: o.Runs = o.DEFAULT_RUNS,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Write a page of one search: history, accuracy against parameters, importances, best recipe, all trials."""
    _require_place(output)
    from cifar_lab.report import sweep_page as report
    from cifar_lab.search import storage as stores
    from cifar_lab.search import sweep_page_builder
    from cifar_lab.search.study import load_study

    stores.quiet()
    with stores.reaching(storage):
        study = load_study(stores.open_existing(storage, runs.resolve()), name, runs.resolve())
        found = sweep_page_builder.load(study, runs=runs.resolve(), storage=storage)
    size = _write(output, report.report(found))
    if as_json:
        console.print_json({"path": str(output.resolve()), "study": found.study, "bytes": size})
    else:
        console.out.print(str(output), markup=False, soft_wrap=True)
    return 0


def _require_place(output: Path) -> None:
    """Check that the output can be written, before anything is read."""
    if output.is_dir():
        raise UsageError(f"-o {output}: a folder; a file is wanted, {output / 'sweep.html'}")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: no such folder: {output.parent}")


def _write(output: Path, page: str) -> int:
    """Write the page atomically; return its number of bytes."""
    from cifar_lab.store import atomic_file

    text = page.encode()
    try:
        atomic_file.write_atomically(output, lambda file: file.write(text))
    except OSError as error:
        raise UsageError(f"-o {output}: {error.strerror or error}") from error
    return len(text)
