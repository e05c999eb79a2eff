"""Arguments and checks shared by the commands that use trained cells, `--log-model` among them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.cli import completion, console
from cifar_lab.errors import UsageError, nearest

if TYPE_CHECKING:
    from cifar_lab.inference.servable import ServableNetwork
    from cifar_lab.mlflow_sync.logged_model import ModelLogging
    from cifar_lab.results.stats.referee import JudgedVariant
    from cifar_lab.store.cell_record import CellRecord

RunNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN…",
        help="Trained cells: FINGERPRINT, ABLATION/VARIANT/sN, ABLATION/VARIANT (its finished seeds), ABLATION, or "
        "best:ABLATION (the best by val).",
        autocompletion=completion.fingerprints,
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Trained cell: FINGERPRINT, ABLATION/VARIANT/sN, or best:ABLATION (the best by val).",
        autocompletion=completion.fingerprints,
    ),
]
Input = Annotated[
    Path,
    typer.Option(
        "--input", "-i", metavar="FILE|DIR|ZIP",
        help="Images: a pickle or npz with 'data', a folder, zip or tar of images, or one image.",
    ),
]  # fmt: skip
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
LogModel = Annotated[
    str | None,
    typer.Option(
        "--log-model",
        metavar="all|best|none",
        help="Log networks as MLflow models: all finished cells, or the best seed of each variant by val.",
        show_default="none; best with --register",
        autocompletion=completion.one_of("all", "best", "none"),
    ),
]
Register = Annotated[
    str | None,
    typer.Option(
        "--register", metavar="NAME[@ALIAS]", help="Register the best of the logged models in MLflow's registry."
    ),
]
Tag = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="KEY=VALUE", help="Tag of the runs in MLflow; repeatable."),
]
Note = Annotated[
    str | None, typer.Option("--note", metavar="TEXT", help="Text above the table in the invocation's run in MLflow.")
]


EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
ExperimentPrefix = Annotated[
    str | None,
    typer.Option(
        "--experiment-prefix", metavar="NAME", envvar=EXPERIMENT,
        help="Name the experiments in MLflow NAME/ABLATION.",
    ),
]  # fmt: skip
KEY = re.compile(r"[\w][\w./ -]{0,248}", re.ASCII)
LONGEST_VALUE, LONGEST_PREFIX = 5000, 100
"""Characters that every MLflow store takes: of a tag's value, and before the name of an experiment."""
OWN_TAGS = frozenset({
    "ablation", "began", "below", "cells", "command", "compared_with", "control", "data", "dataset", "delta_to",
    "factors", "fingerprint", "git_commit", "git_dirty", "invocation", "last_error", "macs", "noted", "overrides",
    "parameters", "parameters_trained", "protocol", "pruned", "reused_from", "role", "scale", "seed", "settled",
    "shipped", "shipped_to", "status", "variant",
})  # fmt: skip
"""Tags that the upload sets; a user's tag of the same name would change what it finds."""
OWN_PREFIXES = ("mlflow.", "setting.", "execution.", "version.", "hardware.", "trial")


def set_experiment_prefix(prefix: str | None) -> None:
    """Set the variable of MLflow that names experiments, for this process, as `--experiment-prefix` asks for.

    Raises:
        UsageError: it is no name.
    """
    if prefix is None:
        return
    if not prefix.isprintable() or len(prefix) > LONGEST_PREFIX:
        raise UsageError(f"--experiment-prefix takes one line of at most {LONGEST_PREFIX} characters")
    os.environ[EXPERIMENT] = prefix


def parse_labels(words: Iterable[str]) -> dict[str, str]:
    """Return the tags that a user gave as `KEY=VALUE`.

    Raises:
        UsageError: one has no `=`, a key that MLflow or this program uses, or is too long.
    """
    labels: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not KEY.fullmatch(key):
            raise UsageError(f"--tag {word}: takes KEY=VALUE; a key has letters, digits, '_', '-', '.', '/' and spaces")
        if key.startswith(OWN_PREFIXES) or key in OWN_TAGS:
            raise UsageError(f"--tag {word}: '{key}' is a tag that MLflow or cifar-lab sets; choose another key")
        if len(value) > LONGEST_VALUE or not value.isprintable():
            raise UsageError(f"--tag {key}=…: a value is one line of at most {LONGEST_VALUE:,} characters")
        labels[key] = value
    return labels


def model_logging(log_model: str | None, register: str | None, *, offline: bool = False) -> ModelLogging | None:
    """Return what --log-model and --register ask for; None for no models.

    Raises:
        UsageError: a value is not valid, or the two contradict each other or --offline.
    """
    word = log_model or ("best" if register is not None else "none")
    require_word("--log-model", word, ("all", "best", "none"))
    if word == "none":
        if register is not None:
            raise UsageError("--register registers a logged model; --log-model none logs none")
        return None
    if offline:
        flag = "--log-model" if log_model is not None else "--register"
        raise UsageError(f"{flag} does not go with --offline; `cifar-lab sync {flag} …` does it later")
    from cifar_lab.mlflow_sync.logged_model import ModelLogging, parse_registration

    name, alias = parse_registration(register) if register is not None else (None, None)

    def package(record: CellRecord) -> ServableNetwork:
        from cifar_lab.inference.servable import servable_network  # loads torch

        return servable_network(record)

    return ModelLogging(choice="all" if word == "all" else "best", package=package, register=name, alias=alias)


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
    return "" if value is None else f"{100 * value:.{digits}f}"


def percent_interval(interval: tuple[float, float] | None) -> str:
    """Return the interval of a fraction in per cent; empty for None."""
    return "" if interval is None else f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
