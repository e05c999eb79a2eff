"""Options on what MLflow gets: models, tags, notes and names of experiments; and their checks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.cli import completion
from cifar_lab.cli.run_options import require_word
from cifar_lab.errors import UsageError

if TYPE_CHECKING:
    from cifar_lab.inference.servable import ServableNetwork
    from cifar_lab.mlflow_sync.logged_model import ModelLogging
    from cifar_lab.store.cell_record import CellRecord

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
