"""Names that recipe fields accept without a package, and the types of fields that also accept a user's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, JsonValue

from cifar_lab.extension import Group, Options, Registered

ExtensionOptions = Annotated[dict[str, JsonValue], AfterValidator(Options)]
MODELS = Registered("models", ("resnet",))
AUGMENTATIONS = Registered("augmentations", ())
OPTIMIZERS = Registered(
    "optimizers", ("sgd", "sgd_nesterov", "adagrad", "adam", "adamw", "rmsprop", "adadelta", "muon")
)
SCHEDULES = Registered("schedules", ("constant", "cosine", "linear", "step", "multistep", "one_cycle", "warm_restarts"))
METRICS = Registered("metrics", ("top5",))
CALLBACKS = Registered("callbacks", ())
BUILT_IN: dict[Group, tuple[str, ...]] = {
    each.group: each.built_in for each in (MODELS, AUGMENTATIONS, OPTIMIZERS, SCHEDULES, METRICS, CALLBACKS)
}
"""Built-in names of each group of extensions that a recipe names."""
ALWAYS_MEASURED = frozenset({"acc", "loss", "best_acc", "peak_acc", "auc", "acc_without_tta"})
"""Names of metrics that every cell has."""
PARTS_OF_THE_DATA = frozenset({"train", "clean_train", "val", "test", "memory", "epochs_to"})
"""Prefixes of metrics that every cell has."""


def require_no_options(path: str, name: str, options: dict[str, JsonValue], registered: Registered) -> None:
    """Check that options are given only to what is not built in.

    Raises:
        ValueError: `name` is built in, and has options.
    """
    if options and name in registered.built_in:
        raise ValueError(f"{path}.options are those of a user's own; {name} has none")


def last_part(name: str) -> str:
    """Return the function's own name of `module:function`, or a name without a module as it is."""
    return name.rpartition(":")[2].rpartition(".")[2]


def require_distinct_keys(path: str, kind: str, keys: list[str], taken: frozenset[str]) -> None:
    """Check that the `kind` at `path`, further metrics or callbacks, have names of their own in the results.

    Raises:
        ValueError: two have one name, or one has a name that is `taken`.
    """
    for position, key in enumerate(keys):
        if key in keys[:position]:
            raise ValueError(f"{path} names two {kind} '{key}'; their results would have one name")
        if key in taken:
            raise ValueError(f"{path}: '{key}' is measured already; give the function another name")
