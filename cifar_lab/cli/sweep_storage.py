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
    from cifar_lab.search.study import OptunaStudy

STORAGE = "CIFAR_LAB_STORAGE"
Name = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study.")]
Storage = Annotated[
    str | None,
    typer.Option("--storage", metavar="URL", envvar=STORAGE, help="Study storage: postgresql://…, or a journal file.",
                 show_default="runs/studies.journal", show_envvar=True),
]  # fmt: skip


def require_shared_storage(storage: str | None, runs: Path) -> None:
    """Check that a study whose records are on an object store has a storage of its own.

    Raises:
        UsageError: it has none; a journal file is appended to, which an object store has no way to do.
    """
    from cifar_lab.store.mirror import mirror_of

    if storage is None and (mirror := mirror_of(runs.resolve())) is not None:
        raise UsageError(
            f"--runs {mirror.address}: a study beside it needs --storage (or {STORAGE}), a database that all machines "
            "reach: postgresql+psycopg://user@host/name; for one machine sqlite:///FILE is enough"
        )


@contextmanager
def opened_storage(storage: str | None, runs: Path) -> Iterator[BaseStorage]:
    """Open the storage of studies for reading; errors of a database are converted to one line."""
    require_shared_storage(storage, runs)
    from cifar_lab.search import storage as stores

    stores.quiet()
    with stores.reaching(storage):
        yield stores.open_existing(storage, runs.resolve())


@contextmanager
def loaded_study(name: str, storage: str | None, runs: Path) -> Iterator[OptunaStudy]:
    """Load a study for reading."""
    from cifar_lab.search.study import load_study

    with opened_storage(storage, runs) as opened:
        yield load_study(opened, name, runs.resolve())


def write_output(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        UsageError: it cannot be written.
    """
    from cifar_lab.store import atomic_file

    try:
        atomic_file.write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
