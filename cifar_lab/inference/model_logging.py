"""Choice of the networks of a run that MLflow gets as models, as the command line and the public API take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cifar_lab.errors import UsageError, nearest
from cifar_lab.mlflow_sync.logged_model import CHOICES, ModelLogging, parse_registration

if TYPE_CHECKING:
    from cifar_lab.inference.servable import ServableNetwork
    from cifar_lab.store.cell_record import CellRecord

NO_MODELS = "none"


def choose_models(
    log_model: str | None, register: str | None, *, offline: bool, option: Callable[[str], str]
) -> ModelLogging | None:
    """Return the networks to log as models; None for none.

    Args:
        log_model: `all`, `best` or `none`; None: `best` if one is to be registered, else `none`.
        register: name of the registered model, or NAME@ALIAS; None for no registration.
        offline: nothing is uploaded now.
        option: returns the name of an argument for the error.

    Raises:
        UsageError: a value is not valid, or the two contradict each other or `offline`.
    """
    word = log_model if log_model is not None else "best" if register is not None else NO_MODELS
    if word != NO_MODELS and word not in CHOICES:
        close = nearest(str(word), [*CHOICES, NO_MODELS])
        raise UsageError(f"{option('log_model')} {word}: no such value{close}")
    if word == NO_MODELS:
        if register is not None:
            raise UsageError(f"{option('register')} registers a logged model; {option('log_model')} none logs none")
        return None
    if offline:
        given = "log_model" if log_model is not None else "register"
        later = f"`cifar-lab sync --{given.replace('_', '-')} …` does it later"
        raise UsageError(f"{option(given)} does not go with {option('offline')}; {later}")
    name, alias = parse_registration(register, option("register")) if register is not None else (None, None)
    return ModelLogging(choice="all" if word == "all" else "best", package=_package, register=name, alias=alias)


def _package(record: CellRecord) -> ServableNetwork:
    from cifar_lab.inference.servable import servable_network  # loads torch

    return servable_network(record)
