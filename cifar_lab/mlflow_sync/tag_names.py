"""Names of the tags that the upload keeps for itself in MLflow, all with one prefix, and their names before that."""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "cifar_lab."
BEGAN = f"{PREFIX}began"
"""Time in ms at which the training of the run's cell began, or `UNBEGUN`."""
UNBEGUN = "none"
"""Value of `BEGAN` for a cell that failed before its training began."""
SHIPPED_TO = f"{PREFIX}shipped_to"
"""Time in ms of the latest content that the store has all of, and a digest of the files that a result names; or
`WITHOUT_FILES`."""
BELOW = f"{PREFIX}below"
"""Id of the invocation whose run is the parent of the cell's run."""
PARENT = "mlflow.parentRunId"
"""MLflow's own tag of the id of the parent run."""
DIFFERENCE = f"{PREFIX}delta_to"
"""Identity of the differences stored in the run of a cell: what it was compared with, and when."""
NOTED = f"{PREFIX}noted"
"""Digest of the note and the table stored in the run of an invocation, or `WITHOUT_FILES`."""
SETTLED = f"{PREFIX}settled"
"""Digest of the cells' states at the last complete upload of an invocation."""
SYNCED = f"{PREFIX}synced."
"""Prefix of an experiment's tags: state of a runs folder at the last upload that left nothing (see `sync_mark`)."""
WITHOUT_FILES = "without files"
"""Value of `SHIPPED_TO` and `NOTED` if the store took everything but the artifacts."""
SETTING = "setting."
FORMER = {name.removeprefix(PREFIX): name for name in (BEGAN, SHIPPED_TO, BELOW, DIFFERENCE, NOTED, SETTLED)}
"""Names of these tags by the former ones, which had no prefix."""
FORMER_SHIPPED, FORMER_DATASET = "shipped", "dataset"
"""Former tags that others have replaced."""


def setting_tag(setting: str) -> str:
    """Return the tag of the cells that belong to a setting."""
    return f"{PREFIX}{SETTING}{setting}"


def outdated_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that a run has under former names only, by their present names."""
    former = {FORMER.get(key, f"{PREFIX}{key}" if key.startswith(SETTING) else ""): tags[key] for key in tags}
    if tags.get(FORMER_SHIPPED) == WITHOUT_FILES:
        former[SHIPPED_TO] = WITHOUT_FILES
    return {name: value for name, value in former.items() if name and name not in tags}
