"""Networks as MLflow models: which are logged, what they are linked to, and what the registry has of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cifar_lab.cli import run
from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import sync_invocations
from cifar_lab.mlflow_sync.logged_model import ModelLogging, parse_registration
from cifar_lab.mlflow_sync.uploader import Uploader
from cifar_lab.store import search_data
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index


class Flat(nn.Module):
    """A network that is traced in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.float().flatten(1))


@dataclass(frozen=True)
class Small:
    """A network for images of 2 × 2 pixels."""

    network: nn.Module
    example: np.ndarray
    classes: tuple[str, ...] = ("cat", "dog")


def package(_: CellRecord) -> Small:
    torch.manual_seed(0)
    return Small(Flat().eval(), np.zeros((2, 3, 2, 2), np.uint8))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def log(study: Any, store: MLflowStore, said: list[str]) -> Callable[..., Any]:
    """`log("best")`: what `sync --log-model best` does."""

    def log(choice: Any, package: Any = package, **options: Any) -> Any:
        wanted = ModelLogging(choice=choice, package=package, **options)
        invocations = read_index(study.runs).invocations
        return sync_invocations(study.runs, invocations, store, draw=lambda _: {}, say=said.append, models=wanted)[:2]

    return log


@pytest.fixture
def models(client: Any) -> Callable[[], dict[str, Any]]:
    """`models()`: the logged models by the name of their run."""

    def models() -> dict[str, Any]:
        experiment = client.get_experiment_by_name("se_ratio").experiment_id
        found = client.search_logged_models([experiment])
        names = {each.model_id: client.get_run(each.source_run_id).info.run_name for each in found}
        assert len(set(names.values())) == len(names), "two models of one run"
        return {names[each.model_id]: each for each in found}

    return models


def finish(study: Any, accuracies: dict[tuple[str, int], float]) -> None:
    """Finish cells with these accuracies on val; those on test are in the opposite order."""
    for (variant, seed), value in accuracies.items():
        study.whole(variant, seed, accuracy=1 - value, more={"val/acc": value})


def test_the_best_seed_of_each_variant_by_val_is_logged_once_with_metrics_and_data_sets(
    study: Any, log: Any, models: Any, client: Any, said: list[str]
) -> None:
    study.invocation()
    finish(study, {("r4", 0): 0.3, ("r4", 1): 0.5, ("r16", 0): 0.4, ("r16", 1): 0.2})
    assert log("best") == (4, 0)
    found = models()
    assert sorted(found) == ["r16/s0", "r4/s1"]
    model = found["r4/s1"]
    assert (model.name, model.status.value) == ("r4-s1", "READY")
    assert model.params["model.se.reduction"] == "4"
    assert model.tags["fingerprint"] == study.asked("r4", 1).fingerprint
    inputs = client.get_run(model.source_run_id).inputs.dataset_inputs
    digests = {each.dataset.name: each.dataset.digest for each in inputs}
    metrics = {each.key: (each.value, each.dataset_name, each.dataset_digest) for each in model.metrics}
    assert metrics["final/val/acc"] == (0.5, "synthetic val", digests["synthetic val"])
    assert metrics["test/acc"] == (0.5, "synthetic test", digests["synthetic test"])
    assert [(point.step, point.value) for point in client.get_metric_history(model.source_run_id, "test/acc")] == [
        (3, 0.5)
    ], "the run has each point once"
    assert log("best") == (0, 0)
    assert sorted(models()) == ["r16/s0", "r4/s1"]
    assert log("all") == (0, 0)
    assert sorted(models()) == ["r16/s0", "r16/s1", "r4/s0", "r4/s1"]
    assert sorted(said) == [f"{name}: logged as a model" for name in ("r16/s0", "r16/s1", "r4/s0", "r4/s1")]


def test_a_model_is_loaded_without_pickle_and_gives_its_logits_for_any_number_of_images(
    study: Any, log: Any, models: Any, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    study.invocation()
    study.whole("r4", 0)
    log("best")
    assert not [record for record in caplog.records if "pickle" in record.getMessage().lower()]
    model = models()["r4/s0"]
    files = {item.path for item in client.list_logged_model_artifacts(model.model_id)}
    assert {"MLmodel", "data", "requirements.txt", "serving_input_example.json"} <= files
    loaded = mlflow.pyfunc.load_model(model.artifact_location)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 2), dtype=np.uint8)
    expected = package(study.record("r4", 0)).network(torch.from_numpy(images)).detach().numpy()
    assert loaded.predict(images) == pytest.approx(expected)
    assert loaded.metadata.metadata["classes"] == ["cat", "dog"]
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 3, 2, 2)


def test_the_best_model_is_registered_once_and_the_alias_follows_a_better_one(
    study: Any, log: Any, models: Any, client: Any, said: list[str]
) -> None:
    study.invocation(seeds=1)
    finish(study, {("r4", 0): 0.3, ("r16", 0): 0.2})
    for _ in range(2):
        log("best", register="net", alias="champion")
        version = client.get_model_version_by_alias("net", "champion")
        assert (int(version.version), version.source) == (1, models()["r4/s0"].artifact_location)
    assert json.loads(models()["r4/s0"].tags["mlflow.modelVersions"]) == [{"name": "net", "version": 1}]
    study.invocation(time="20260102T000000.000")
    finish(study, {("r4", 1): 0.1, ("r16", 1): 0.6})
    log("best", register="net", alias="champion")
    assert len(client.search_model_versions("name='net'")) == 2
    assert client.get_model_version_by_alias("net", "champion").source == models()["r16/s1"].artifact_location
    assert said[-1] == "registered: net, version 2, alias champion: r16/s1, best by val/acc"


def test_a_network_that_cannot_be_traced_is_told_and_the_others_are_logged(
    study: Any, log: Any, models: Any, said: list[str]
) -> None:
    def broken(record: CellRecord) -> Small:
        if record.fingerprint == study.asked("r4", 0).fingerprint:
            raise TrackingError("its weights are not there\nor are they")
        return package(record)

    study.invocation(seeds=1)
    finish(study, {("r4", 0): 0.3, ("r16", 0): 0.2})
    assert log("best", broken) == (2, 0)
    assert sorted(said) == ["r16/s0: logged as a model", "r4/s0: no model in MLflow: its weights are not there"]
    assert sorted(models()) == ["r16/s0"]
    log("best")
    assert sorted(models()) == ["r16/s0", "r4/s0"]


def test_a_search_logs_no_model(study: Any, log: Any, models: Any) -> None:
    invocation = study.invocation(seeds=1, metric="val/acc")
    finish(study, {("r4", 0): 0.3})
    assert search_data.is_search(invocation)
    log("best", register="net")
    assert models() == {}


def test_the_thread_of_a_runner_logs_models_at_its_end_and_says_what_is_missing(
    study: Any, store: MLflowStore, models: Any, said: list[str]
) -> None:
    invocation = study.invocation(seeds=1)
    finish(study, {("r4", 0): 0.3})
    wanted = ModelLogging(choice="best", package=package)
    shipper = Uploader(study.runs, invocation, lambda: store, draw=lambda _: {}, say=said.append, models=wanted)
    assert shipper.lacks_models
    shipper.start()
    assert shipper.drain(60) == 0
    assert not shipper.lacks_models
    assert sorted(models()) == ["r4/s0"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [("net", ("net", None)), ("my net@champion", ("my net", "champion")), ("a@b-2_c", ("a", "b-2_c"))],
)
def test_a_registration_is_a_name_and_perhaps_an_alias(text: str, parts: tuple[str, str | None]) -> None:
    assert parse_registration(text) == parts


@pytest.mark.parametrize(
    "text", ["", "@champion", "a/b", "a:b", "net@", "net@v1", "net@Latest", "net@a b", "a\x07", ".."]
)
def test_a_registration_that_the_registry_would_refuse_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--register "):
        parse_registration(text)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("sync --log-model beste", "--log-model beste: no such value; did you mean 'best'?"),
        ("sync --log-model none --register net", "--register registers a logged model; --log-model none logs none"),
        ("sync --register a/b", "--register a/b: a name has at least one character, and neither '/' nor ':'"),
        ("train --offline --log-model best", "--log-model does not go with --offline; `cifar-lab sync --log-model …`"),
        ("run-ablation se_ratio --offline --register net", "--register does not go with --offline"),
    ],
)
def test_wrong_options_are_one_line(line: str, rule: str, folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    error = capsys.readouterr().err
    assert rule in error
    assert error.count("\n") == 1
    assert not list(folder.iterdir()), "nothing is written"
