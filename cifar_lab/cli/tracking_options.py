"""Options on what MLflow gets: models, tags, notes and names of experiments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.cli import completion
from cifar_lab.cli.app import CONTEXT
from cifar_lab.errors import UsageError
from cifar_lab.mlflow_sync.user_fields import EXPERIMENT, KEYS, naming_experiments, require_label

if TYPE_CHECKING:
    from cifar_lab.mlflow_sync.logged_model import ModelLogging

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
ExperimentPrefix = Annotated[
    str | None,
    typer.Option(
        "--experiment-prefix", metavar="NAME", envvar=EXPERIMENT,
        help="Name the experiments in MLflow NAME/ABLATION.",
    ),
]  # fmt: skip


def name_experiments(prefix: str | None) -> None:
    """Have experiments named as `--experiment-prefix` asks for until the command that runs is over.

    Raises:
        UsageError: it is no name.
    """
    CONTEXT.get().with_resource(naming_experiments(prefix, "--experiment-prefix"))


def parse_labels(words: Iterable[str]) -> dict[str, str]:
    """Return the tags that a user gave as `KEY=VALUE`.

    Raises:
        UsageError: one has no `=`, a key that MLflow or this program uses, or is too long.
    """
    labels: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--tag {word}: takes KEY=VALUE; {KEYS}")
        labels[key] = require_label(key, value, f"--tag {word}")
    return labels


def model_logging(log_model: str | None, register: str | None, *, offline: bool = False) -> ModelLogging | None:
    """Return what --log-model and --register ask for; None for no models.

    Raises:
        UsageError: a value is not valid, or the two contradict each other or --offline.
    """
    if log_model is None and register is None:
        return None
    from cifar_lab.inference.model_logging import choose_models  # loads numpy

    return choose_models(log_model, register, offline=offline, option=option_of)


def option_of(parameter: str) -> str:
    """Return the option of a parameter: `--log-model` of `log_model`."""
    return f"--{parameter.replace('_', '-')}"
