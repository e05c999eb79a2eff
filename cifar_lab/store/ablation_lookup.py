"""Find an ablation by name; errors point to what a runs folder has of an unknown name."""

from __future__ import annotations

from pathlib import Path

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.errors import RegistryError, nearest

ON_COMMAND_LINE, IN_PYTHON = "--ablations {}", "folder='{}'"
"""Arguments that name a folder of ablations."""


def find_known(known: registry.Registry, name: str, runs: Path | None, *, option: str = ON_COMMAND_LINE) -> Ablation:
    """Return the ablation of this name.

    `runs`: runs folder whose generated ablations the error for an unknown name points to; None for none.
    `option`: argument that names a folder of ablations, with `{}` in place of the folder.

    Raises:
        RegistryError: there is none, or its file is broken; one that was generated is named with its folder.
    """
    try:
        return known.find(name)
    except RegistryError as error:
        if runs is None or name in known.known():
            raise
        if (kept := kept_as(name, runs)) is not None:
            raise RegistryError(f"'{name}' was generated: add {option.format(kept.parent)}") from error
        if has_run(name, runs):
            raise RegistryError(
                f"'{name}' has been run there, but no folder of ablations has its file: add {option.format('DIR')}"
            ) from error
        raise unknown_ablation(name, known, runs) from error


def unknown_ablation(name: str, known: registry.Registry, runs: Path) -> RegistryError:
    """Return the error for a name that no ablation has: it names the nearest of all and of those run in `runs`."""
    from cifar_lab.store.invocation_index import read_index  # loads much, and is for errors alone

    run = {note.ablation for note in read_index(runs.resolve()).invocations}
    return RegistryError(f"no ablation named '{name}'{nearest(name, sorted({*run, *known.names()}))}")


def has_run(name: str, runs: Path) -> bool:
    """Tell whether a runs folder has a note, perhaps a damaged one, of an ablation of this name."""
    from cifar_lab.store.invocation_index import read_index

    index = read_index(runs.resolve())
    return bool(index.of_ablation(name) or index.damage_of(name))


def kept_as(name: str, runs: Path) -> Path | None:
    """Return the file of a generated ablation; None if there is none of this name.

    It is not read unless its folder is given: a runs folder may come from elsewhere, and its files are programs.
    """
    from cifar_lab.store.ablation_file import NAME, folder_of

    path = folder_of(runs) / f"{name}.py"
    return path if NAME.fullmatch(name) and path.is_file() else None
