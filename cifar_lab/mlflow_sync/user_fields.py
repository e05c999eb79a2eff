"""Checks of what users add to MLflow: tags of runs, and a prefix for the names of experiments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cifar_lab.errors import UsageError
from cifar_lab.mlflow_sync.tag_names import FORMER, FORMER_DATASET, FORMER_SHIPPED, PREFIX, SETTING

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
"""Variable of MLflow that precedes the names of experiments."""
KEY = re.compile(r"[\w][\w./ -]{0,248}", re.ASCII)
KEYS = "a key has letters, digits, '_', '-', '.', '/' and spaces"
LONGEST_VALUE, LONGEST_PREFIX = 5000, 100
"""Characters that every MLflow store takes: of a tag's value, and before the name of an experiment."""
OWN_TAGS = frozenset({
    "ablation", "cells", "command", "compared_with", "control", "data", "factors", "fingerprint", "git_commit",
    "git_dirty", "invocation", "last_error", "macs", "overrides", "parameters", "parameters_trained", "protocol",
    "pruned", "reused_from", "role", "scale", "seed", "status", "variant",
    *FORMER, FORMER_SHIPPED, FORMER_DATASET,
})  # fmt: skip
"""Tags that the upload sets, or once set; a user's tag of the same name would change what it finds."""
OWN_PREFIXES = (PREFIX, "mlflow.", SETTING, "execution.", "version.", "hardware.", "trial")


def require_label(key: object, value: object, shown: str) -> str:
    """Return the value of a user's tag; `shown`: how it was given, for the error.

    Raises:
        UsageError: MLflow or this program uses the key, or key or value are no text that every store takes.
    """
    if not (isinstance(key, str) and KEY.fullmatch(key)):
        raise UsageError(f"{shown}: takes KEY=VALUE; {KEYS}")
    if key.startswith(OWN_PREFIXES) or key in OWN_TAGS:
        raise UsageError(f"{shown}: '{key}' is a tag that MLflow or cifar-lab sets; choose another key")
    if not isinstance(value, str) or len(value) > LONGEST_VALUE or not value.isprintable():
        raise UsageError(f"{shown}: a value is one line of text, of at most {LONGEST_VALUE:,} characters")
    return value


@contextmanager
def naming_experiments(prefix: str | None, option: str) -> Iterator[None]:
    """Have experiments named with `prefix` in the body, in all threads of this process; None: as they are.

    `option`: what the prefix was given as.

    Raises:
        UsageError: it is no name.
    """
    before = os.environ.get(EXPERIMENT)
    if prefix is not None:
        if not isinstance(prefix, str) or not prefix.isprintable() or len(prefix) > LONGEST_PREFIX:
            raise UsageError(f"{option} takes one line of at most {LONGEST_PREFIX} characters")
        os.environ[EXPERIMENT] = prefix
    try:
        yield
    finally:
        if before is not None:
            os.environ[EXPERIMENT] = before
        elif prefix is not None:
            del os.environ[EXPERIMENT]
