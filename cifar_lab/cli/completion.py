"""Shell completion: names of ablations, variants, scales and data, recipe paths and values, fingerprints.

Completion must be fast, so only necessary modules are imported. Errors are ignored: nothing is offered then, and the
shell offers files.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from cifar_lab.config.overrides import as_typed

Completer = Callable[[typer.Context, str], list[str]]
DATA = ("cifar10", "cifar100", "synthetic")
BOOLEANS = ("true", "false")


def _quiet(complete: Completer) -> Completer:
    """Wrap `complete` so that it never raises or prints, which would disturb the line being typed."""

    @wraps(complete)
    def quiet(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                return complete(ctx, incomplete)
        except Exception:  # noqa: BLE001 (a shell has no use for it)
            return []

    return quiet


def one_of(*words: str) -> Completer:
    """Return a completer of fixed words."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
        return _starting(incomplete, words)

    return complete


@_quiet
def ablations(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of ablations, from file names only. `run-ablation` also takes `all`."""
    from cifar_lab.ablation import registry

    every = ["all"] if ctx.info_name == "run-ablation" else []
    return _starting(incomplete, [*registry.discover(*_folders(ctx)).known(), *every])


@_quiet
def variants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the last of a comma-separated list: variants of the ablation on the line not yet listed."""
    from cifar_lab.ablation import registry

    *listed, last = incomplete.split(",")
    unparsed = [word for word in ctx.args if not word.startswith("-")]  # an option without its value stops the parser
    name = ctx.params.get("name") or unparsed[0]
    found = registry.discover(*_folders(ctx)).find(name)
    names = [variant.name for variant in found.variants if variant.name not in listed]
    return [",".join([*listed, name]) for name in _starting(last, names)]


@_quiet
def overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete `train.ep` to `train.epochs=`, and `optim.name=ad` to its values; each path is offered once per line.

    bash splits words at `=` and replaces only the part after it.
    """
    from cifar_lab.config.recipe import paths

    words = _typed(ctx, "overrides", "names", "asked")
    path, equals, value = incomplete.partition("=")
    if equals:
        return [f"{path}={known}" for known in _starting(value, _values(path))]
    if incomplete and words[-1:] == ["="]:
        return _starting(incomplete, _values(words[-2]))
    if not incomplete and words[-1:] and words[-1] in paths():
        return _values(words[-1])
    named = {word.partition("=")[0] for word in words}
    return _paths(incomplete, [path for path in paths() if path not in named])


@_quiet
def ablations_or_overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete ablations that the line does not have yet, otherwise recipe paths."""
    named = _typed(ctx, "names", "asked")
    is_value = named[-1:] == ["="]  # bash split the word there
    names = [] if is_value else [name for name in ablations(ctx, incomplete) if name not in named]
    return names or overrides(ctx, incomplete)


@_quiet
def data(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return names of data sets, with the folders and zips in the folder; if none fits, the shell completes files."""
    names = _starting(incomplete, DATA)
    beside = [path for path in sorted(Path().iterdir()) if not path.name.startswith(".")]
    files = [f"{path}/" if path.is_dir() else str(path) for path in beside if path.is_dir() or path.suffix == ".zip"]
    return [*names, *_starting(incomplete, files)] if names else []


@_quiet
def fingerprints(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the fingerprints of the cells in the runs folder."""
    cells = (path.name for path in Path(ctx.params.get("runs") or "runs").iterdir())
    return _starting(incomplete, sorted(name for name in cells if re.fullmatch("[0-9a-f]{64}", name)))


@_quiet
def cells(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names ABLATION/VARIANT/sN of the cells in the runs folder; fingerprints once no name begins so."""
    from cifar_lab.store.selection import cell_names

    every = cell_names(Path(ctx.params.get("runs") or "runs")).values()
    names = {f"{name.ablation}/{name.variant}/s{name.seed}" for own in every for name in own}
    return _starting(incomplete, sorted(names)) or fingerprints(ctx, incomplete)


@_quiet
def invocations(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of the invocations of the ablation on the line, the latest first."""
    name = ctx.params.get("name") or ""
    folder = Path(ctx.params.get("runs") or "runs") / "invocations"
    return _starting(incomplete, sorted((path.stem for path in folder.glob(f"*-{name}.json")), reverse=True))


@_quiet
def scales(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return the names of scales."""
    from cifar_lab.config.scale import SCALES

    return _starting(incomplete, SCALES)


def _paths(incomplete: str, known: Iterable[str]) -> list[str]:
    """Return `path=` for each; a single path is returned with its values, so that the shell adds no space after `=`."""
    found = _starting(incomplete, known)
    values = [f"{found[0]}={value}" for value in _values(found[0])] if len(found) == 1 else []
    return [*(f"{path}=" for path in found), *values]


def _values(path: str) -> list[str]:
    """Return all values of a path if there are few, else its default, as JSON without spaces."""
    from cifar_lab.config.recipe import Recipe
    from cifar_lab.extension import Registered

    field = _field(path)
    kind = field.annotation
    if kind is bool:
        return list(BOOLEANS)
    registered = [each for each in field.metadata if isinstance(each, Registered)]
    if registered:
        return list(registered[0].built_in)
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return [as_typed(Recipe().flat()[path])]


def _field(path: str) -> FieldInfo:
    from cifar_lab.config.recipe import Recipe

    part: Any = Recipe
    *groups, leaf = path.split(".")
    for name in groups:
        part = part.model_fields[name].annotation
    field: FieldInfo = part.model_fields[leaf]
    return field


def _typed(ctx: typer.Context, *parameters: str) -> list[str]:
    """Return the words typed so far for the first of these parameters that the command has."""
    return [word for parameter in parameters for word in ctx.params.get(parameter) or []]


def _folders(ctx: typer.Context) -> list[Path]:
    """Return the existing user folders; a misspelt one does not hide the names of others."""
    return [Path(folder) for folder in ctx.params.get("ablations") or [] if Path(folder).is_dir()]


def _starting(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
