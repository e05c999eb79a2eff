"""The only door to MLflow: where its store is, whether it can be used, and a client within its limits.

Nothing here imports mlflow before a `Store` is opened: that takes seconds. The calls of a store raise
`StoreAway` when it cannot be reached, which is worth trying again, and MLflow's own exception when it refuses
what it is told.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock

from cifar_lab.errors import CifarLabError
from cifar_lab.tracking import view
from cifar_lab.tracking.sheet import Metric, Sheet
from cifar_lab.tracking.uri import redacted, require_usable, resolve_uri, sqlite_path, without_credentials

__all__ = ["Found", "Shown", "Store", "StoreAway", "redacted", "require_usable", "resolve_uri"]

METRICS, ENTITIES = 1000, 100
"""The most metrics, and the most params or tags, that one call may carry."""
KEY, TAG, PARAM, DIGEST, EXPERIMENT_TAG = 250, 8000, 6000, 36, 5000
"""The longest key, tag, param, digest of a data set and tag of an experiment, in characters."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the shipper has its own patience; seven retries take minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDERR": "true",
}
CHATTER = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3": logging.ERROR}
"""The lowest level at which MLflow and what it uses may write to standard error."""
REFUSALS = frozenset(
    {
        "BAD_REQUEST",
        "ENDPOINT_NOT_FOUND",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "NOT_IMPLEMENTED",
        "PERMISSION_DENIED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
        "UNAUTHENTICATED",
    }
)
"""MLflow's error codes that mean the same the next time. Any other one may pass."""

T = TypeVar("T")


class StoreAway(CifarLabError):
    """The tracking store cannot be reached now. Nothing is lost: the journals hold it all."""


@dataclass(frozen=True)
class Found:
    """A run that the store already has."""

    id: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]


class Shown(NamedTuple):
    """An experiment with its view, by id and key."""

    name: str
    experiment: str
    key: str


class Store:
    """One MLflow tracking store, for one thread."""

    def __init__(self, uri: str, client: Any) -> None:
        self.uri, self._client = uri, client

    @classmethod
    def open(cls, uri: str) -> Store:
        """Import mlflow and connect; a SQLite store that is not there yet is made, by one process.

        Raises:
            StoreAway: the store cannot be reached.
        """
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        for name, level in CHATTER.items():
            logging.getLogger(name).setLevel(level)
        with _reaching(uri):
            path = sqlite_path(uri)
            if path is not None:
                _make_sqlite(path, MlflowClient)
            address, credentials = without_credentials(uri)
            os.environ.update(credentials)
            return cls(uri, MlflowClient(address))

    def experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of the experiment `name`, with `tags`; it is made, or brought back from deletion."""
        with _reaching(self.uri):
            found = self._client.get_experiment_by_name(name)
            if found is None:
                self._create_experiment(name)
                found = self._client.get_experiment_by_name(name)
            elif found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            for key, value in tags.items():
                if found.tags.get(key) != _cut(value, EXPERIMENT_TAG):
                    self._client.set_experiment_tag(found.experiment_id, key, _cut(value, EXPERIMENT_TAG))
            return str(found.experiment_id)

    def shown(self) -> list[Shown]:
        """The experiments that have a view of ours, the one that was asked for last first."""
        with _reaching(self.uri):
            every = list(self._client.search_experiments())
        views = [(experiment, view.latest(experiment.tags)) for experiment in every]
        ours = [(Shown(e.name, str(e.experiment_id), found[0]), found[1]) for e, found in views if found is not None]
        return [shown for shown, _ in sorted(ours, key=lambda item: item[1], reverse=True)]

    def _create_experiment(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        path = sqlite_path(self.uri)
        place = (path.absolute().parent / "mlruns" / name).as_uri() if path else None
        try:
            self._client.create_experiment(name, artifact_location=place)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another runner was quicker
                raise

    def find(self, experiment: str, **tags: str) -> Found | None:
        """The oldest run of `experiment` that has all of `tags`."""
        return next(iter(self._search(experiment, tags, page=1)), None)

    def find_all(self, name: str, **tags: str) -> list[Found]:
        """Every run of the experiment `name`, if there is one, that has all of `tags`; the oldest first."""
        with _reaching(self.uri):
            experiment = self._client.get_experiment_by_name(name)
        return list(self._search(experiment.experiment_id, tags, page=1000)) if experiment else []

    def _search(self, experiment: str, tags: Mapping[str, str], page: int) -> Iterator[Found]:
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        token = None
        while True:
            with _reaching(self.uri):
                runs = self._client.search_runs(
                    [experiment],
                    wanted,
                    max_results=page,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
            for run in runs:
                yield Found(run.info.run_id, run.info.status, run.data.tags, run.data.params)
            token = runs.token
            if not token:
                return

    def start(self, experiment: str, sheet: Sheet, found: Found | None = None) -> str:
        """The id of the run of `sheet`: a new one, or `found` with what a broken start left out of it."""
        from mlflow.entities import Param

        parent = {"mlflow.parentRunId": sheet.parent} if sheet.parent else {}
        with _reaching(self.uri):
            if found is None:
                tags = {**sheet.identity, **parent}
                run = self._client.create_run(experiment, start_time=sheet.time, tags=tags, run_name=sheet.name)
                found = Found(run.info.run_id, run.info.status, {}, {})
            if sheet.data is not None and "dataset" not in found.tags:
                self._log_dataset(found.id, sheet.data)
            params = {key: value for key, value in sheet.params.items() if key not in found.params}
            for some in _chunks([Param(_cut(k, KEY), _cut(v, PARAM)) for k, v in params.items()], ENTITIES):
                self._client.log_batch(found.id, params=some)
        self.tag(found.id, {key: value for key, value in sheet.tags.items() if key not in found.tags})
        return found.id

    def _log_dataset(self, run: str, data: Mapping[str, str]) -> None:
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        source = CodeDatasetSource({"kind": data["kind"], "sha256": data["hash"]})
        dataset = MetaDataset(source, name=data["name"], digest=data["hash"][:DIGEST])
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(run, [DatasetInput(dataset._to_mlflow_entity(), [context])])
        self._client.set_tag(run, "dataset", data["hash"])

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(_cut(key, KEY), _cut(value, TAG)) for key, value in tags.items()]
        with _reaching(self.uri):
            for some in _chunks(entities, ENTITIES):
                self._client.log_batch(run, tags=some)

    def log(self, run: str, metrics: Iterable[Metric]) -> None:
        """Send metrics. A value sent again with its time is stored once."""
        from mlflow.entities import Metric as Entity

        entities = [Entity(_cut(m.name, KEY), float(m.value), m.time, m.step) for m in metrics]
        with _reaching(self.uri):
            for some in _chunks(entities, METRICS):
                self._client.log_batch(run, metrics=some)

    def upload(self, run: str, files: Iterable[Path], made: Mapping[str, bytes]) -> None:
        """Send files as artifacts under their own names, and `made` under its keys, `figures/loss.png`."""
        with tempfile.TemporaryDirectory(prefix="cifar-lab-") as folder:
            for name, content in made.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(content)
            with _reaching(self.uri):
                if made:
                    self._client.log_artifacts(run, folder)
                for path in files:
                    self._client.log_artifact(run, str(path))

    def resume(self, run: str) -> None:
        """Say that a run which had ended goes on."""
        with _reaching(self.uri):
            self._client.update_run(run, status="RUNNING")

    def end(self, run: str, status: str, time: int) -> None:
        """Say how a run ended (FINISHED, FAILED or KILLED), and when, in ms."""
        with _reaching(self.uri):
            self._client.set_terminated(run, status=status, end_time=time)


def _make_sqlite(path: Path, client: Any) -> None:
    """Make an MLflow database, and let it be read while it is written.

    Two processes that make one database break it for good, and so does one that is killed meanwhile: so it is
    made under a lock, beside its place.
    """
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.exists() or not path.stat().st_size:
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            client(f"sqlite:///{partial.absolute()}")
            partial.replace(path)
        with sqlite3.connect(path) as connection:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=wal")
        connection.close()


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turn what a store that is away makes of a call into `StoreAway`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (MlflowException, DBAPIError, sqlite3.Error, OSError) as error:
        if isinstance(error, MlflowException) and error.error_code in REFUSALS:
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreAway(f"MLflow on {redacted(uri)} is away: {redacted(first)}") from error


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
