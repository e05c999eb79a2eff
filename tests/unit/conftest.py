"""Fixtures of unit tests: runs folders with made records, tiny cells, and MLflow's own client."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made.mlflow_study import Study
from made.run_records import Runs
from made.tiny_cells import stop_in_first_epoch, tiny_job

from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.store.cell_record import CellRecord


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture
def job(tmp_path: Path, few_images: Path) -> CellJob:
    """The job of a cell that is trained in a second."""
    return tiny_job(tmp_path / "runs", few_images)


@pytest.fixture(scope="session")
def _finished_once(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> CellRecord:
    job = tiny_job(tmp_path_factory.mktemp("finished"), few_images)
    train_cell(job)
    return job.record


@pytest.fixture(scope="session")
def _stopped_once(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> CellRecord:
    job = tiny_job(tmp_path_factory.mktemp("stopped"), few_images)
    stop_in_first_epoch(job)
    return job.record


@pytest.fixture
def finished(job: CellJob, _finished_once: CellRecord) -> CellRecord:
    """The record of that cell, trained to its end."""
    shutil.copytree(_finished_once.folder, job.record.folder)
    return job.record


@pytest.fixture
def stopped(job: CellJob, _stopped_once: CellRecord) -> CellRecord:
    """The record of that cell, stopped in its first epoch with a checkpoint."""
    shutil.copytree(_stopped_once.folder, job.record.folder)
    return job.record


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "runs").mkdir()
    return Study(tmp_path / "runs")


@pytest.fixture
def client(store: MLflowStore) -> Any:
    """MLflow's own client, to look at what was shipped."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(store.uri)


@pytest.fixture
def runs_of(client: Any) -> Callable[..., dict[str, Any]]:
    """`runs_of("se_ratio", role="cell")`: the runs of an experiment, by name; those of invocations by id."""

    def runs_of(ablation: str, role: str = "cell") -> dict[str, Any]:
        experiment = client.get_experiment_by_name(ablation)
        runs = client.search_runs([experiment.experiment_id], f"tags.role = '{role}'")
        names = [run.data.tags["invocation"] if role == "invocation" else run.info.run_name for run in runs]
        assert len(set(names)) == len(runs), "two runs of one name"
        return dict(zip(names, runs, strict=True))

    return runs_of
