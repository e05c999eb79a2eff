"""Runs of an MLflow experiment, logged by any program, as a table with one row per training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cifar_lab.errors import UsageError, nearest
from cifar_lab.mlflow_sync.client import PAGE, MLflowStore
from cifar_lab.mlflow_sync.uri import require_usable, resolve_uri, sqlite_path
from cifar_lab.redaction import redacted
from cifar_lab.results.measurements import MeasurementTable

KINDS = ("params", "tags", "metrics")
"""Kinds of fields of a run, as `mlflow.search_runs` names its columns: `params.seed`."""
FINISHED = "FINISHED"


def read_experiment(name: str) -> MeasurementTable:
    """Return the runs of an experiment of the store that `MLFLOW_TRACKING_URI` names; oldest first.

    The columns are those of `mlflow.search_runs`: `run_id`, `run_name`, `status`, `params.NAME`, `tags.NAME` and
    `metrics.NAME`. The metrics of a run that is not finished are empty: it has come to no number.

    Raises:
        UsageError: there is no such store or experiment.
        StoreUnavailable, StoreRefuses, CallRefused: the store does not answer, or refuses.
    """
    uri = resolve_uri()
    require_usable(uri)
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise UsageError(f"no MLflow store at {redacted(uri)}; MLFLOW_TRACKING_URI names another")
    store = MLflowStore.open(uri)
    store.reach()
    experiment = store.call(lambda client: client.get_experiment_by_name(name))
    if experiment is None:
        known = [each.name for each in store.call(lambda client: client.search_experiments(max_results=PAGE))]
        raise UsageError(f"no experiment named '{name}' in {redacted(uri)}{nearest(name, known)}")
    rows = [(f"run {run.info.run_id}", _fields(run)) for run in _runs(store, experiment.experiment_id)]
    columns = dict.fromkeys(column for _, row in rows for column in row)
    empty = dict.fromkeys(columns)
    return MeasurementTable(f"experiment '{name}'", list(columns), [(where, {**empty, **row}) for where, row in rows])


def only_trainings(
    table: MeasurementTable, columns: tuple[str, str, str]
) -> tuple[MeasurementTable, tuple[str, str, str], int]:
    """Return the runs that have a variant and a seed, the full names of the columns, and how many runs are left out.

    A column's name may be given without its kind: `seed` for `params.seed`, or `tags.seed` where no run has that.
    """
    variant, seed, value = (_full_name(column, table.columns) for column in columns)
    rows = list(table.rows)
    kept = [(where, row) for where, row in rows if row.get(variant) and row.get(seed)]
    return replace(table, rows=kept), (variant, seed, value), len(rows) - len(kept)


def _full_name(column: str, columns: Sequence[str]) -> str:
    candidates = [column, *(f"{kind}.{column}" for kind in KINDS)]
    return next((each for each in candidates if each in columns), column)


def _runs(store: MLflowStore, experiment: str) -> Iterator[Any]:
    """Yield the runs of an experiment by its id, oldest first; deleted ones are not among them."""
    asked: dict[str, Any] = {"max_results": PAGE, "order_by": ["attributes.start_time ASC"]}
    while True:
        page = store.call(lambda client: client.search_runs([experiment], **asked))
        yield from page
        if not page.token:
            return
        asked["page_token"] = page.token


def _fields(run: Any) -> dict[str, str | None]:
    """Return the fields of a run as text."""
    fields: dict[str, str | None] = {
        "run_id": run.info.run_id, "run_name": run.info.run_name, "status": run.info.status,
    }  # fmt: skip
    fields |= {f"params.{key}": value for key, value in run.data.params.items()}
    fields |= {f"tags.{key}": value for key, value in run.data.tags.items()}
    is_over = run.info.status == FINISHED
    return fields | {f"metrics.{key}": repr(value) if is_over else "" for key, value in run.data.metrics.items()}
