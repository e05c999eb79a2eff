"""Names that recipe fields accept without a package, and the types of fields that also accept a user's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, JsonValue

from cifar_lab.extension import Options, Registered

ExtensionOptions = Annotated[dict[str, JsonValue], AfterValidator(Options)]
MODELS = Registered("models", ("resnet",))
AUGMENTATIONS = Registered("augmentations", ())
OPTIMIZERS = Registered(
    "optimizers", ("sgd", "sgd_nesterov", "adagrad", "adam", "adamw", "rmsprop", "adadelta", "muon")
)
SCHEDULES = Registered("schedules", ("constant", "cosine", "linear", "step", "multistep", "one_cycle", "warm_restarts"))
METRICS = Registered("metrics", ("top5",))
ALWAYS_MEASURED = frozenset({"acc", "loss", "best_acc", "peak_acc", "auc", "acc_without_tta"})
"""Names of metrics that every cell has."""


def require_no_options(path: str, name: str, options: dict[str, JsonValue], registered: Registered) -> None:
    """Check that options are given only to what is not built in.

    Raises:
        ValueError: `name` is built in, and has options.
    """
    if options and name in registered.built_in:
        raise ValueError(f"{path}.options are those of a user's own; {name} has none")


def require_distinct_keys(keys: list[str]) -> None:
    """Check that further metrics have names of their own.

    Raises:
        ValueError: two have one name, or one has the name of a metric that is always measured.
    """
    for position, key in enumerate(keys):
        if key in keys[:position]:
            raise ValueError(f"train.metrics names two metrics '{key}'; their results would have one name")
        if key in ALWAYS_MEASURED:
            raise ValueError(f"train.metrics: '{key}' is measured already; give the function another name")
