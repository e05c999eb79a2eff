"""Parse typed arguments: the steps shared by `plan`, `run-ablation`, `train` and `sweep`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.cli.console import say
from cifar_lab.config import scale
from cifar_lab.config.overrides import parse_number, parse_overrides
from cifar_lab.errors import UsageError
from cifar_lab.execution.request import RequestArguments
from cifar_lab.store.ablation_lookup import find_known

RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="Recipe as JSON, as `sweep-best -o` writes it.")
]


def find_ablation(name: str, folders: list[Path] | None, runs: Path | None = None) -> Ablation:
    """Return the ablation of this name, built-in or from a user folder; warn about broken files of users.

    `runs`: runs folder whose generated ablations the error for an unknown name points to.
    """
    found = registry.discover(*(folders or []))
    for broken in found.broken(built_in=False):  # reading all built-in files would take longer than the rest
        if broken.name != name:
            say(f"warning: {broken.reason}")
    return find_known(found, name, runs)


def parse(
    *, scale_name: str, overrides: list[str] | None, variants: str | None, seeds: str | None, max_params: str,
    device: str, workers: str, cells_per_gpu: str,
) -> RequestArguments:  # fmt: skip
    """Parse the words of a command line.

    Raises:
        UsageError: a word has another form, or names no scale or recipe path.
    """
    from cifar_lab.execution.resolved_recipes import parse_seeds

    return RequestArguments(
        scale=scale.find_scale(scale_name),
        overrides=parse_overrides(overrides or []),
        variants=[name.strip() for name in variants.split(",")] if variants is not None else None,
        seeds=parse_seeds(seeds) if seeds is not None else None,
        max_params=parse_count(max_params),
        device=device,
        workers=workers,
        cells_per_gpu=_parse_cells_per_gpu(cells_per_gpu),
    )


def _parse_cells_per_gpu(text: str) -> int | None:
    """Parse a number of at least 1, or `auto`, for which None is returned.

    Raises:
        UsageError: the text is neither.
    """
    if text == "auto":
        return None
    if (count := parse_number(text, least=1)) is None:
        raise UsageError(f"--cells-per-gpu takes 'auto' or a number from 1 up, got '{text}'")
    return count


def parse_count(text: str) -> int:
    """Parse a count such as `5M`, `800k` or `4900000`.

    Raises:
        UsageError: the text has another form, or is not positive.
    """
    units = {"k": 1_000, "m": 1_000_000}
    number, unit = (text[:-1], units[text[-1].lower()]) if text[-1:].lower() in units else (text, 1)
    try:
        count = round(float(number.replace(",", "").replace("_", "")) * unit)
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise UsageError(f"--max-params reads 5M, 800k or 4900000, got '{text}'")
    return count


def require_fingerprint(prefix: str) -> None:
    """Check that a text can be the beginning of a fingerprint.

    Raises:
        UsageError: it has other characters, none, or more than 64.
    """
    if not re.fullmatch("[0-9a-fA-F]{1,64}", prefix):
        raise UsageError(f"a fingerprint has up to 64 of the digits 0-9 and a-f, got '{prefix}'")
