"""Studies as commands name them: their options, and how they are opened for reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.errors import UsageError

if TYPE_CHECKING:
    from cifar_lab.search.storage import BaseStorage
    from cifar_lab.search.study import Optuna

STORAGE = "CIFAR_LAB_STORAGE"
Name = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study.")]
Storage = Annotated[
    str | None,
    typer.Option("--storage", metavar="URL", envvar=STORAGE, help="Study storage: postgresql://…, or a journal file.",
                 show_default="runs/studies.journal", show_envvar=True),
]  # fmt: skip


@contextmanager
def opened_storage(storage: str | None, runs: Path) -> Iterator[BaseStorage]:
    """Open the storage of studies for reading; errors of a database are converted to one line."""
    from cifar_lab.search import storage as stores

    stores.quiet()
    with stores.reaching(storage):
        yield stores.open_existing(storage, runs.resolve())


@contextmanager
def loaded_study(name: str, storage: str | None, runs: Path) -> Iterator[Optuna]:
    """Load a study for reading."""
    from cifar_lab.search.study import load_study

    with opened_storage(storage, runs) as opened:
        yield load_study(opened, name, runs.resolve())


def write_text(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        UsageError: it cannot be written.
    """
    from cifar_lab.store import atomic_file

    try:
        atomic_file.write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
