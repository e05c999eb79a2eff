"""Generated ablations as files that the registry reads: `runs/ablations/NAME.py`."""

from __future__ import annotations

import re
from pathlib import Path
from pprint import pformat
from typing import Any

from pydantic import BaseModel

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import AblationError, TrackingError
from cifar_lab.store import atomic_file
from cifar_lab.store.mirror import mirror_of

FOLDER = "ablations"
"""Folder of generated ablations in a runs folder."""
NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,79}")
SEARCH = "sweep."
"""Begin of the name under which a search stands among the ablations."""
RESERVED = ("all", "recipe", "train")
"""Names with a meaning of their own on the command line."""


def folder_of(runs: Path) -> Path:
    """Return the folder of the generated ablations of a runs folder."""
    return runs / FOLDER


def require_ablation_name(name: str) -> None:
    """Check that an ablation has a name that a file, a note and an experiment can have.

    Raises:
        AblationError: it has not.
    """
    if not NAME.fullmatch(name):
        raise AblationError(
            f"an ablation that is run has a name of a-z, 0-9 and _ . + -, as in Ablation(name='smoothing', …), "
            f"got '{name}'"
        )
    if name in RESERVED or name.startswith(SEARCH):
        raise AblationError(f"no ablation can be named '{name}': the command line uses that name otherwise")


def keep(ablation: Ablation, runs: Path, *, by: str) -> Ablation:
    """Write `ablation` to the generated ablations of `runs`; `by`: what generated it.

    Returns it as the registry reads it from the file, with its docstring.

    Raises:
        AblationError: it has no name that a file can have.
        TrackingError: the file cannot be written.
    """
    require_ablation_name(ablation.name)
    path = folder_of(runs) / f"{ablation.name}.py"
    text = as_file(ablation, by=by)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_file.write_text(path, text)
    except OSError as error:
        raise TrackingError(f"{path}: {error.strerror or error}") from error
    if (mirror := mirror_of(runs)) is not None:
        mirror.push(path)
    return ablation.model_copy(update={"doc": _doc(ablation, by)})


def as_file(ablation: Ablation, *, by: str) -> str:
    """Return the ablation as the source of a file that the registry reads; `by`: what generated it."""
    fields = {name: value for name, value in _fields(ablation).items() if name not in {"name", "doc", "baseline"}}
    lines = [f"    {name}={_literal(value)},\n" for name, value in fields.items()]
    diff = pformat(Recipe().changes_to(ablation.baseline), sort_dicts=False)
    lines.insert(2, f"    baseline=Recipe().override({diff}),\n")
    used = ["Ablation", *(["Claim"] if ablation.claims else []), "Variant"]
    docstring = _docstring(f"{_doc(ablation, by)}\n")
    return (
        f"{docstring}\n\nfrom cifar_lab.ablation.ablation import {', '.join(used)}\n"
        f"from cifar_lab.config.recipe import Recipe\n\nABLATION = Ablation(\n{''.join(lines)})\n"
    )


def _doc(ablation: Ablation, by: str) -> str:
    return f"{ablation.question}\n\nSource: {ablation.source}. Written by {by}."


def _docstring(text: str) -> str:
    """Return a docstring with any text in it."""
    return '"""' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""'


def _fields(model: BaseModel) -> dict[str, Any]:
    """Return the fields that are not at their default, in the order of declaration."""
    found = {name: (getattr(model, name), field) for name, field in type(model).model_fields.items()}
    return {name: value for name, (value, field) in found.items() if field.is_required() or value != field.default}


def _literal(value: Any) -> str:
    """Return Python source for a field: a variant or claim is a call of its class, in a tuple one on each line."""
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}({', '.join(f'{name}={each!r}' for name, each in _fields(value).items())})"
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "(\n" + "".join(f"        {_literal(each)},\n" for each in value) + "    )"
    return repr(value)
