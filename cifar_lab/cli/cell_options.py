"""Arguments and checks shared by the commands that use trained cells: `predict`, `evaluate`, `shift` and `export`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.cli import completion, console
from cifar_lab.errors import UsageError, nearest

if TYPE_CHECKING:
    from cifar_lab.results.stats.referee import JudgedVariant

RunNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN…",
        help="Trained cells: FINGERPRINT, ABLATION/VARIANT/sN, ABLATION/VARIANT (its finished seeds), ABLATION, or "
        "best:ABLATION (the best by val).",
        autocompletion=completion.cells,
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Trained cell: FINGERPRINT, ABLATION/VARIANT/sN, or best:ABLATION (the best by val).",
        autocompletion=completion.cells,
    ),
]
Input = Annotated[
    Path,
    typer.Option(
        "--input", "-i", metavar="FILE|DIR|ZIP",
        help="Images: a pickle or npz with 'data', a folder, zip or tar of images, or one image.",
    ),
]  # fmt: skip
Resize = Annotated[
    bool,
    typer.Option(
        "--resize",
        help="Fit images of other sizes to the networks' size: the centre, scaled with antialiasing.",
    ),
]
Tta = Annotated[
    str | None,
    typer.Option(
        "--tta",
        metavar="none|mirror|mirror_shift",
        help="Test-time augmentation: average the outputs for mirrored and shifted views.",
        show_default="that of the recipe",
        autocompletion=completion.one_of("none", "mirror", "mirror_shift"),
    ),
]
UseDevice = Annotated[
    str,
    typer.Option(
        "--device",
        help="Device to compute on: auto, cpu, cuda, mps, or one GPU, cuda:1.",
        autocompletion=completion.one_of("auto", "cpu", "cuda", "mps"),
    ),
]
Control = Annotated[
    str | None,
    typer.Option(
        "--control", metavar="VARIANT", help="Variant that the others are compared with.",
        show_default="that of the ablation, else the first",
    ),
]  # fmt: skip
Margin = Annotated[
    float | None,
    typer.Option(
        "--margin", metavar="POINTS", help="Difference that does not matter, in points.",
        show_default="that of the ablation, else 0.5",
    ),
]  # fmt: skip


def require_word(option: str, word: str, words: tuple[str, ...]) -> None:
    """Check that an option has one of its values.

    Raises:
        UsageError: it has another.
    """
    if word not in words:
        raise UsageError(f"{option} {word}: no such value{nearest(word, words)}")


def print_judged_points(judged: Sequence[JudgedVariant], control: str, margin: float, title: str) -> None:
    """Print differences between variants in points, from accuracies and a margin as fractions."""
    from cifar_lab.cli.judge import print_judged

    console.show(title, "bold")
    print_judged([_in_points(each) for each in judged], control, 100 * margin)


def _in_points(one: JudgedVariant) -> JudgedVariant:
    mean, std, difference = (None if each is None else 100 * each for each in (one.mean, one.std, one.difference))
    interval = (100 * one.interval[0], 100 * one.interval[1]) if one.interval is not None else None
    return replace(one, mean=mean, std=std, difference=difference, interval=interval)


def margin_fraction(points: float | None) -> float | None:
    """Return a margin given in points as a fraction; None for None.

    Raises:
        UsageError: it is not above 0.
    """
    if points is not None and not (math.isfinite(points) and points > 0):
        raise UsageError(f"--margin {points:g}: a difference that does not matter is above 0")
    return None if points is None else points / 100


def percent(value: float | None, digits: int = 2) -> str:
    """Return a fraction in per cent; empty for None."""
    return "" if value is None else f"{100 * value:z.{digits}f}"


def percent_interval(interval: tuple[float, float] | None) -> str:
    """Return the interval of a fraction in per cent; empty for None."""
    return "" if interval is None else f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
