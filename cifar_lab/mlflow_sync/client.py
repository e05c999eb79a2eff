"""Client of an MLflow store: respects its limits and raises only errors of this package.

mlflow is imported only when a `MLflowStore` is opened, as that takes seconds. The calls of a store raise
`StoreUnavailable` if it is unreachable, which is worth retrying; `StoreRefuses` if every call would be refused;
`CallRefused` if this one is; and `ArtifactsRefused` if files cannot be written (see
`cifar_lab.mlflow_sync.server_errors`).
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cifar_lab import process_settings
from cifar_lab.mlflow_sync import connection, server_errors, ui_view
from cifar_lab.mlflow_sync.run_fields import DatasetPart, MetricPoint, RunFields
from cifar_lab.mlflow_sync.server_errors import ArtifactsRefused, StoreUnavailable
from cifar_lab.mlflow_sync.tag_names import PARENT, outdated_tags
from cifar_lab.mlflow_sync.uri import sqlite_path, without_credentials
from cifar_lab.redaction import redacted
from cifar_lab.text import printable

METRICS, ENTITIES = 900, 100
"""Maximum number of metrics, and of params or tags, per call; MLflow takes 1,000 of all kinds together."""
PAGE = 200
"""Runs per request: a thousand, with 200 tags, params and metrics each, took a busy server longer than the 10 s after
which it counts as away."""
KEY, TAG, PARAM, EXPERIMENT_TAG, EXPERIMENT = 250, 8000, 6000, 5000, 250
"""Maximum length in characters of a key, tag, param, experiment tag and experiment name."""
CHATTER = {"mlflow": logging.CRITICAL, "alembic": logging.WARNING, "urllib3": logging.ERROR}
"""Minimum levels at which MLflow and its dependencies may log to standard error. This package reports an error in one
line; MLflow would add its traceback, which may show the address with its password."""
PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Mean seconds before each retry on a database that is locked or written by another process. Randomized, so that
several runners do not retry at the same moment."""
PLAIN = re.compile(r"[\w.:/ -]*")
"""Values that an MLflow filter can express; it has no syntax for one with both kinds of quotes."""

T = TypeVar("T")


@dataclass(frozen=True)
class ExistingRun:
    """Run that exists in the store."""

    id: str
    status: str
    tags: Mapping[str, str]
    """Tags, those of a former version by their present names, too."""
    params: Mapping[str, str]
    has_data: bool
    """True if it has the parts of the data that it uses."""
    outdated: Mapping[str, str] = field(default_factory=dict)
    """Tags that it has under former names only, by their present names."""


class RunListing(NamedTuple):
    """Runs of an experiment in the order of their start, and the token of the page that the last of them is on."""

    runs: list[ExistingRun]
    last_page: str | None
    """None if there is one page only."""


class ExperimentView(NamedTuple):
    """Experiment with a view: its id and the view's key."""

    name: str
    experiment: str
    key: str


class MLflowStore:
    """One MLflow tracking store, for one thread. Its availability is checked before the first call."""

    def __init__(self, uri: str, connect: Callable[[], Any]) -> None:
        """Create a store; `connect` creates MLflow's client, which connects to a database at once."""
        self.uri, self._connect = uri, connect
        self.outside: Callable[[], AbstractContextManager[None]] = nullcontext
        """Context entered while waiting for the store or another runner."""
        self._made: Any = None
        self._is_reached = False
        self._first_refusal: str | None = None

    @classmethod
    def open(cls, uri: str) -> MLflowStore:
        """Import mlflow and open the store; a missing SQLite store is created, by one process.

        Raises:
            StoreUnavailable: another process keeps a SQLite store locked.
            StoreRefuses: the store is unusable.
        """
        process_settings.set_default_variables(connection.ENVIRONMENT)
        connection.spare_this_machine_proxies(uri)
        try:
            from mlflow.tracking import MlflowClient

            process_settings.set_log_levels(CHATTER)
            path = sqlite_path(uri)
            if path is not None:
                connection.make_sqlite(path, MlflowClient)
            address, credentials = without_credentials(uri)
            process_settings.set_variables(credentials)
        except Exception as error:
            raise server_errors.translated(error, uri) from error
        return cls(uri, lambda: MlflowClient(address))

    def reach(self) -> None:
        """Check for a few seconds at most that the store is available, unless it has answered before.

        Raises:
            StoreUnavailable: it does not answer.
            StoreRefuses: it answers, but not as a usable store.
        """
        self._call(lambda: None)

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = self._connect()
        return self._made

    def call(self, action: Callable[[Any], T], *, of_files: bool = False) -> T:
        """Return the result of `action` on MLflow's own client; errors are those of every call.

        Raises:
            ArtifactsRefused: with `of_files`, the store answers, but files cannot be written.
        """
        return self._call(lambda: action(self._client), of_files=of_files)

    def _call(self, action: Callable[[], T], *, of_files: bool = False) -> T:
        """Return the result of `action`, run outside the gate; every error is translated."""
        for pause in (*PAUSES, None):
            try:
                with self.outside():
                    if not self._is_reached:
                        connection.probe(self.uri)
                        self._is_reached = True
                    return action()
            except Exception as error:
                if pause is not None and server_errors.is_contended(error):
                    with self.outside():
                        time.sleep(pause * random.uniform(0.5, 1.5))
                    continue
                if of_files and not server_errors.is_connection(error) and not server_errors.is_database_locked(error):
                    raise self._no_files(error) from error
                raised = server_errors.translated(error, self.uri)
                self._is_reached = self._is_reached and not isinstance(raised, StoreUnavailable)
                raise raised from error
        raise AssertionError("the last try returns or raises")

    def _no_files(self, error: Exception) -> ArtifactsRefused:
        """Return the refusal of a file, naming the first one of this store, as each file has another path."""
        if self._first_refusal is None:
            why = f"{type(error).__name__}: {server_errors.brief_error(error)}"
            self._first_refusal = f"MLflow on {redacted(self.uri)} takes no files ({why})"
        return ArtifactsRefused(self._first_refusal)

    def experiment(self, name: str, tags: Mapping[str, str], say: Callable[[str], None]) -> str:
        """Return the id of the experiment `name`, with `tags`; it is created, or restored if deleted, which is said.

        A view that was requested later than the one in `tags` stays: it is of another runs folder.
        """
        name, restored = experiment_name(name), set[str]()

        def make() -> str:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                self._create_experiment(name)
                found = self._client.get_experiment_by_name(name)
            elif found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
                restored.add(name)
            for key, value in tags.items():
                if not ui_view.stands(found.tags.get(key), text := _cut(value, EXPERIMENT_TAG)):
                    self._client.set_experiment_tag(found.experiment_id, key, text)
            return str(found.experiment_id)

        experiment = self._call(make)
        for each in restored:
            say(f"experiment {each} was deleted in MLflow; restored")
        return experiment

    def shown(self) -> list[ExperimentView]:
        """Return the experiments that have a view of this package, the latest requested first."""
        every = self._call(lambda: list(self._client.search_experiments()))
        views = [(experiment, ui_view.latest(experiment.tags)) for experiment in every]
        ours = [
            (ExperimentView(e.name, str(e.experiment_id), found[0]), found[1])
            for e, found in views
            if found is not None
        ]
        return [shown for shown, _ in sorted(ours, key=lambda item: item[1], reverse=True)]

    def _create_experiment(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        path = sqlite_path(self.uri)
        place = (path.absolute().parent / "mlruns" / _folder(name)).as_uri() if path else None
        try:
            self._client.create_experiment(name, artifact_location=place)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another runner created it first
                raise

    def find(self, experiment: str, start_time: int | None = None, /, **tags: str) -> ExistingRun | None:
        """Return the oldest run of `experiment` that has all `tags`, and this time in ms unless it is None.

        With a time, a database need not look at the tags of every run. A name would not do: MLflow keeps it as a tag.
        """
        return next(self._search(experiment, tags, page=1, start_time=start_time), None)

    def find_each(self, experiment: str, start_time: int | None = None, /, **tags: str) -> list[ExistingRun]:
        """Return every run that `find` would, the oldest first."""
        return list(self._search(experiment, tags, page=PAGE, start_time=start_time))

    def find_all(self, name: str, **tags: str) -> list[ExistingRun]:
        """Return every run of the experiment `name`, if it exists, that has all `tags`; the oldest first."""
        experiment = self._call(lambda: self._client.get_experiment_by_name(experiment_name(name)))
        return list(self._search(experiment.experiment_id, tags, page=PAGE)) if experiment else []

    def list_runs(self, name: str, page: str | None = None) -> RunListing:
        """Return the runs of the experiment `name`, if it exists, that are not deleted; from `page` on, if given."""
        experiment = self._call(lambda: self._client.get_experiment_by_name(experiment_name(name)))
        pages = list(self._pages(experiment.experiment_id, "", PAGE, page)) if experiment is not None else []
        return RunListing([_existing(run) for _, runs in pages for run in runs], pages[-1][0] if pages else None)

    def _search(
        self, experiment: str, tags: Mapping[str, str], page: int, start_time: int | None = None
    ) -> Iterator[ExistingRun]:
        """Yield the runs that have `tags`; a value that a filter cannot express is compared here."""
        plain = {key: value for key, value in tags.items() if PLAIN.fullmatch(value)}
        others = tags.items() - plain.items()
        timed = [f"attributes.start_time = {start_time}"] if start_time is not None else []
        wanted = " and ".join([*timed, *(f"tags.`{key}` = '{value}'" for key, value in plain.items())])
        for _, runs in self._pages(experiment, wanted, page if not others else PAGE):
            yield from (_existing(run) for run in runs if others <= run.data.tags.items())

    def _pages(
        self, experiment: str, wanted: str, size: int, token: str | None = None
    ) -> Iterator[tuple[str | None, Sequence[Any]]]:
        """Yield the pages of a search from `token` on, oldest runs first, each with its token: None for the first."""
        while True:
            runs = self._call(
                lambda token=token: self._client.search_runs(  # type: ignore[misc]
                    [experiment],
                    wanted,
                    max_results=size,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
            )
            yield token, runs
            if not runs.token:
                return
            token = runs.token.decode() if isinstance(runs.token, bytes) else runs.token  # a database gives bytes

    def start(self, experiment: str, sheet: RunFields, found: ExistingRun | None = None) -> str:
        """Return the id of the run of `sheet`: a new one, or `found`, completed after an interrupted start."""
        from mlflow.entities import Param

        parent = {PARENT: sheet.parent} if sheet.parent else {}
        if found is None:
            tags = {key: _cut(value, TAG) for key, value in {**_user(), **sheet.identity, **parent}.items()}
            run = self._call(
                lambda: self._client.create_run(experiment, start_time=sheet.time, tags=tags, run_name=sheet.name)
            )
            found = ExistingRun(run.info.run_id, run.info.status, {}, {}, has_data=False)
        if sheet.data and not found.has_data:
            self._log_datasets(found.id, sheet.data)
        tags = {key: value for key, value in sheet.tags.items() if key not in found.tags}
        params = {key: value for key, value in sheet.params.items() if key not in found.params}
        *full, last = _chunks([Param(_cut(k, KEY), _cut(v, PARAM)) for k, v in params.items()], ENTITIES)
        for some in full:
            self._call(lambda some=some: self._client.log_batch(found.id, params=some))  # type: ignore[misc]
        self._log_batch(found.id, tags, params=last)
        return found.id

    def _log_datasets(self, run: str, parts: Sequence[DatasetPart]) -> None:
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        inputs = []
        for part in parts:
            dataset = MetaDataset(CodeDatasetSource(dict(part.source)), name=_cut(part.name, KEY), digest=part.digest)
            inputs.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", part.context)]))
        self._call(lambda: self._client.log_inputs(run, inputs))

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags, each truncated to MLflow's maximum length."""
        self._log_batch(run, tags)

    def log(self, run: str, metrics: Iterable[MetricPoint], tags: Mapping[str, str] | None = None) -> None:
        """Log metrics, and then `tags`. A value that is sent again with the same time is stored once."""
        from mlflow.entities import Metric as Entity

        entities = [Entity(_cut(m.name, KEY), float(m.value), m.time, m.step) for m in metrics]
        *full, last = _chunks(entities, METRICS)
        for some in full:
            self._call(lambda some=some: self._client.log_batch(run, metrics=some))  # type: ignore[misc]
        self._log_batch(run, tags or {}, metrics=last)

    def _log_batch(
        self, run: str, tags: Mapping[str, str], *, metrics: Sequence[Any] = (), params: Sequence[Any] = ()
    ) -> None:
        """Send metrics or params with the first tags in one call, and further tags after it."""
        from mlflow.entities import RunTag

        entities = [RunTag(_cut(key, KEY), _cut(value, TAG)) for key, value in tags.items()]
        for i, some in enumerate(_chunks(entities, ENTITIES)):
            these = {"metrics": metrics, "params": params} if i == 0 else {}
            if some or any(these.values()):
                self._call(lambda some=some, these=these: self._client.log_batch(run, tags=some, **these))  # type: ignore[misc]

    def upload(self, run: str, files: Iterable[Path], made: Mapping[str, bytes]) -> None:
        """Upload files as artifacts under their own names, and `made` under its keys, such as `figures/loss.png`.

        Raises:
            ArtifactsRefused: the store answers, but files cannot be written to its artifact location.
        """
        with tempfile.TemporaryDirectory(prefix="cifar-lab-") as folder:
            for path in files:
                _link(path, Path(folder) / path.name)
            for name, content in made.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(content)
            if any(Path(folder).iterdir()):  # one call for all: each looks its run up several times
                self._call(lambda: self._client.log_artifacts(run, folder), of_files=True)

    def resume(self, run: str) -> None:
        """Mark an ended run as running again."""
        self._call(lambda: self._client.update_run(run, status="RUNNING"))

    def end(self, run: str, status: str, time: int) -> None:
        """Set the final status of a run (FINISHED, FAILED or KILLED), and its end time in ms."""
        self._call(lambda: self._client.set_terminated(run, status=status, end_time=time))


def _existing(run: Any) -> ExistingRun:
    outdated = outdated_tags(run.data.tags)
    return ExistingRun(
        run.info.run_id, run.info.status, {**run.data.tags, **outdated}, run.data.params,
        has_data=bool(run.inputs.dataset_inputs), outdated=outdated,
    )  # fmt: skip


def experiment_name(ablation: str) -> str:
    """Return the name of an ablation's experiment: one line within MLflow's maximum length.

    Where `MLFLOW_EXPERIMENT_NAME` is set, it precedes the name of the ablation: a cell that two ablations share has a
    run in each, which one experiment could not tell apart.
    """
    prefix = os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip()
    return _cut(printable(f"{prefix}/{ablation}" if prefix else ablation), EXPERIMENT)


def _user() -> dict[str, str]:
    """Return MLflow's tag with the name of the user who uploads, as its own client sets it; empty without a name."""
    try:
        return {"mlflow.user": printable(getpass.getuser())}
    except (KeyError, OSError):  # a container's user that no file names
        return {}


def _folder(name: str) -> str:
    """Return a folder name for an experiment's artifacts, without separators or special characters."""
    plain = re.sub(r"[^\w.-]", "_", name).lstrip(".")
    return plain if plain == name else f"{plain[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _link(path: Path, link: Path) -> None:
    """Make the file `path` available as `link`: by a symbolic link, or as a copy where there are none."""
    try:
        link.symlink_to(path.resolve())
    except OSError:
        shutil.copyfile(path, link)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `items` in parts of at most `size`; one empty part without any."""
    return (items[start : start + size] for start in range(0, max(1, len(items)), size))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
