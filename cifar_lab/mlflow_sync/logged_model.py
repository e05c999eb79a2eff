"""Networks as MLflow models: logged with signature and example, linked to run, metrics and data sets, and registered.

A model is torch's exported program (`pt2`): no pickle, and a server needs torch and mlflow, not this package. It is
made from a record, after its cell has ended; processes that train know nothing of it.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar_lab.errors import CifarLabError, UsageError, described, first_line, shortened
from cifar_lab.mlflow_sync import run_fields
from cifar_lab.mlflow_sync.cell_runs import by_fingerprint
from cifar_lab.mlflow_sync.client import ExistingRun, MLflowStore
from cifar_lab.mlflow_sync.server_errors import StoreRefuses, StoreUnavailable
from cifar_lab.mlflow_sync.shipped_mark import result_mark, whole_run
from cifar_lab.mlflow_sync.tag_names import BEGAN
from cifar_lab.results.best_cell import best_cell, selection_metric
from cifar_lab.store import search_data
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef, Invocation, unite
from cifar_lab.store.journal import JournalReader, read_points
from cifar_lab.store.record_files import CellFile, ResultFile
from cifar_lab.text import printable

Choice = Literal["all", "best"]
CHOICES: tuple[Choice, ...] = ("all", "best")
VERSIONS = "mlflow.modelVersions"
"""Tag by which MLflow's UI shows the versions that a model is registered as."""


class Servable(Protocol):
    """Network on the CPU with what a server has to know of it."""

    @property
    def network(self) -> Any:
        """A torch module: images, (N, 3, side, side) uint8, to logits, (N, classes)."""

    @property
    def example(self) -> NDArray[np.uint8]:
        """An input of two images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the logits."""


@dataclass(frozen=True, kw_only=True)
class ModelLogging:
    """Choice of the networks that are logged as models, and how they are made."""

    choice: Choice
    """`all` finished cells, or the `best` seed of each variant by val."""
    package: Callable[[CellRecord], Servable]
    """Function that loads the network of a finished cell."""
    register: str | None = None
    """Name under which the best of these models is registered; None for no registration."""
    alias: str | None = None
    """Alias that is set to the registered version."""


def parse_registration(text: str, option: str = "--register") -> tuple[str, str | None]:
    """Return name and alias of `NAME[@ALIAS]`, as MLflow's registry takes them; `option`: what it was given as.

    Raises:
        UsageError: it would not.
    """
    name, at, alias = text.partition("@")
    if not name.strip() or re.search(r"[/:]", name) or not name.isprintable() or name in {".", ".."}:
        raise UsageError(f"{option} {text}: a name has at least one character, and neither '/' nor ':'")
    if at and (not re.fullmatch(r"[\w-]{1,255}", alias, re.ASCII) or re.fullmatch(r"(?i)v\d+|latest", alias)):
        raise UsageError(
            f"{option} {text}: an alias has letters, digits, '_' and '-', and is neither 'latest' nor like 'v1'"
        )
    return name, alias if at else None


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """One finished cell of a setting."""

    asked: CellRef
    record: CellRecord
    cell: CellFile
    result: ResultFile

    @property
    def name(self) -> str:
        return printable(f"{self.asked.variant}/s{self.asked.seed}")


def log_models(
    store: MLflowStore, experiment: str, runs: Path, same: Sequence[Invocation], wanted: ModelLogging,
    say: Callable[[str], None],
) -> int:  # fmt: skip
    """Log the models of a setting that the store lacks, and register the best; return how many could not be logged.

    A model that a run is linked to is not logged again. Cells whose runs are not in the store are left out.

    Args:
        experiment: id of the experiment.
        same: invocations of the setting, the latest last.

    Raises:
        StoreUnavailable: the store does not answer.
        StoreRefuses: it takes nothing now or later.
    """
    if not same or search_data.is_search(same[-1]):  # models of a search would be selected by their metrics on test
        return 0
    finished = list(_finished_cells(runs, unite(list(same))))
    known = _runs_of(finished, store.find_all(same[-1].ablation, role="cell"))
    there = [each for each in finished if each.asked.fingerprint in known]
    metric = selection_metric(there, _final_metrics)
    chosen = there if wanted.choice == "all" else _best_seeds(there, metric)
    models, lacking = {}, 0
    for each in chosen:
        try:
            models[each.asked.fingerprint] = _logged(
                store, experiment, known[each.asked.fingerprint], each, wanted, say
            )
        except (StoreUnavailable, StoreRefuses):
            raise
        except Exception as error:  # noqa: BLE001 (a network of a user may be anything; the others go on)
            lacking += 1
            why = shortened(first_line(error)) if isinstance(error, CifarLabError) else described(error)
            say(printable(f"{each.name}: no model in MLflow: {why}"))
    if wanted.register is not None and models:
        best = best_cell([each for each in chosen if each.asked.fingerprint in models], _final_metrics, metric)
        _register(store, models[best.asked.fingerprint], known[best.asked.fingerprint], best, wanted, metric, say)
    return lacking


def _runs_of(cells: Iterable[_Finished], there: Iterable[ExistingRun]) -> dict[str, ExistingRun]:
    """Return the run of each cell by fingerprint; another runs folder may have runs of its own trainings."""
    groups = by_fingerprint(there)
    found = {each.asked.fingerprint: _own_run(each, groups.get(each.asked.fingerprint, [])) for each in cells}
    return {name: run for name, run in found.items() if run is not None}


def _own_run(cell: _Finished, there: Sequence[ExistingRun]) -> ExistingRun | None:
    """Return the run that has all of a cell's record, or else that of its training, as far as it was shipped."""
    if (whole := whole_run(cell.record, there, result_mark(cell.result))) is not None:
        return whole
    reader = JournalReader(cell.record.folder)
    reader.poll()
    return next((run for run in there if run.tags.get(BEGAN) == str(reader.began)), None)


def _finished_cells(runs: Path, asked: Iterable[CellRef]) -> Iterable[_Finished]:
    for each in asked:
        record = CellRecord(runs / each.fingerprint)
        with suppress(CifarLabError):  # a damaged record is reported by the upload of its run
            result, cell = record.result(), record.cell()
            if result is not None and result.is_finished and cell is not None:
                yield _Finished(asked=each, record=record, cell=cell, result=result)


def _final_metrics(cell: _Finished) -> Mapping[str, float]:
    return cell.result.metrics


def _best_seeds(cells: Sequence[_Finished], metric: str) -> list[_Finished]:
    variants: dict[str, list[_Finished]] = {}
    for each in cells:
        variants.setdefault(each.asked.variant, []).append(each)
    return [best_cell(seeds, _final_metrics, metric) for seeds in variants.values()]


def _logged(
    store: MLflowStore, experiment: str, run: ExistingRun, cell: _Finished, wanted: ModelLogging,
    say: Callable[[str], None],
) -> str:  # fmt: skip
    """Return the id of the model of a cell's run: the one that the run is linked to, or a new one."""
    from mlflow.entities import LoggedModelOutput, Metric

    linked = store.call(lambda client: client.get_run(run.id).outputs.model_outputs)
    if linked:
        return str(linked[-1].model_id)
    with tempfile.TemporaryDirectory(prefix="cifar-lab-") as folder:
        path = Path(folder) / "model"
        _save(path, wanted.package(cell.record), cell)
        model = store.call(
            lambda client: client.create_logged_model(
                experiment, name=re.sub(r"[/:.%\"']", "-", cell.name), source_run_id=run.id, model_type="classifier",
                params=run_fields.params_of(cell.cell, cell.asked), tags=_tags(cell),
            )
        )  # fmt: skip
        try:
            _write_ids(path, model.model_id, run.id)
            store.call(lambda client: client.log_model_artifacts(model.model_id, str(path)), of_files=True)
            metrics = [
                Metric(point.name, point.value, point.time, point.step, model_id=model.model_id, run_id=run.id, **of)
                for point, of in _metrics(cell)
            ]
            store.call(lambda client: client.log_batch(run.id, metrics=metrics))
            store.call(lambda client: client.finalize_logged_model(model.model_id, "READY"))
            # The link comes last: a run without it gets its model again.
            output = LoggedModelOutput(model.model_id, step=cell.result.epoch)
            store.call(lambda client: client.log_outputs(run.id, [output]))
        except Exception:
            with suppress(CifarLabError):
                store.call(lambda client: client.finalize_logged_model(model.model_id, "FAILED"))
            raise
    say(printable(f"{cell.name}: logged as a model"))
    return str(model.model_id)


def _save(path: Path, servable: Servable, cell: _Finished) -> None:
    """Write the folder of a model."""
    import mlflow.pytorch
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shape = (-1, *servable.example.shape[1:])
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), shape)]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(servable.classes)))]),
    )
    torch, library = (version(name).partition("+")[0] for name in ("torch", "mlflow"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about its own deprecations
        mlflow.pytorch.save_model(
            servable.network, str(path), signature=signature, input_example=servable.example,
            serialization_format="pt2", pip_requirements=[f"torch=={torch}", f"mlflow=={library}", "numpy"],
            metadata={"classes": list(servable.classes), "fingerprint": cell.asked.fingerprint,
                      "input": "RGB images N × 3 × side × side, uint8 from 0 to 255; normalisation is inside"},
        )  # fmt: skip


def _write_ids(path: Path, model_id: str, run_id: str) -> None:
    """Write the ids, which exist only once the store has the model, into the file that describes the folder."""
    from mlflow.models import Model

    model = Model.load(str(path))
    model.model_id, model.run_id = model_id, run_id
    model.save(str(path / "MLmodel"))


def _tags(cell: _Finished) -> dict[str, str]:
    return {
        "variant": printable(cell.asked.variant), "seed": str(cell.asked.seed), "fingerprint": cell.asked.fingerprint,
        "data": printable(cell.cell.data.name),
    }  # fmt: skip


def _metrics(cell: _Finished) -> list[tuple[run_fields.MetricPoint, Mapping[str, str]]]:
    """Return the final metrics, each with the data set that it was measured on."""
    curves = {name for point in read_points(cell.record.folder) for name in point.values}
    parts = {part.part: part for part in run_fields.datasets_of(cell.cell)}
    found: list[tuple[run_fields.MetricPoint, Mapping[str, str]]] = []
    for point in run_fields.metrics_of_result(cell.result, curves):
        part = parts.get(point.name.removeprefix("final/").partition("/")[0])
        of = {"dataset_name": part.name, "dataset_digest": part.digest} if part is not None else {}
        found.append((point, of))
    return found


def _register(
    store: MLflowStore, model: str, run: ExistingRun, cell: _Finished, wanted: ModelLogging, metric: str,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Register a model as a new version, unless it is one already, and set the alias to it."""
    from mlflow.exceptions import MlflowException

    name = wanted.register

    def create(client: Any) -> Any:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # `models:/…` would be looked up in the process's global store, which need not be this one.
        source = client.get_logged_model(model).artifact_location
        known = [each for each in client.search_model_versions(f"name={json.dumps(name)}") if each.source == source]
        if known:
            return known[0]
        value = cell.result.metrics.get(metric, math.nan)
        why = f"{cell.name} of {cell.asked.fingerprint[:12]}, best by {metric}: {value:.4f}"
        made = client.create_model_version(name, source=source, run_id=run.id, model_id=model, description=why)
        if VERSIONS not in client.get_logged_model(model).tags:  # a server sets it, a database does not
            client.set_logged_model_tags(model, {VERSIONS: json.dumps([{"name": name, "version": int(made.version)}])})
        return made

    registered = store.call(create)
    if wanted.alias is not None:
        store.call(lambda client: client.set_registered_model_alias(name, wanted.alias, registered.version))
    alias = f", alias {wanted.alias}" if wanted.alias is not None else ""
    say(printable(f"registered: {name}, version {registered.version}{alias}: {cell.name}, best by {metric}"))
