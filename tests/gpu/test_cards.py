"""Properties of a GPU: kernels are available, fp16 trains, and its speed is measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from made import records

from cifar_lab.cli import run
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.execution.device import find_device, gpus, missing_kernels, places
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.store.journal import read_points
from cifar_lab.train.precision import resolve_precision, scaler

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]
GPU = torch.device("cuda", 0)


def test_this_torch_has_kernels_for_every_gpu_and_they_run() -> None:
    assert [missing_kernels(index) for index in range(gpus())] == [None] * gpus()
    for place in places(find_device("cuda")):
        assert torch.ones(4, device=place).sum().item() == 4


def test_auto_names_a_precision_that_the_gpu_computes_in() -> None:
    precision = resolve_precision("auto", GPU)
    assert precision == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else precision)
    assert (scaler("fp16", GPU) is not None, scaler(precision, GPU) is not None) == (True, precision == "fp16")


@pytest.mark.parametrize("precision", ["fp16", "fp32", "auto"])
def test_a_cell_is_trained_on_a_gpu_that_is_named(tmp_path: Path, few_images: Path, precision: str) -> None:
    recipe = Recipe().override(
        {"model.blocks": [1], "model.width": 8, "train.epochs": 2, "train.batch_size": 10, "data.val_fraction": 0.2,
         "train.precision": precision}
    )  # fmt: skip
    dataset = load(str(few_images))
    place = f"cuda:{gpus() - 1}"
    job = CellJob(
        fingerprint=recipe.fingerprint(seed=0, data_hash=dataset.hash), recipe=recipe, seed=0, data=str(few_images),
        data_hash=dataset.hash, runs=tmp_path, execution=Execution(device="cuda", threads=1, precision="auto"),
        provenance=records.PROVENANCE, place=place,
    )  # fmt: skip
    train_cell(job)
    tree, result = job.record.cell(), job.record.result()
    assert tree is not None
    assert result is not None
    assert result.is_finished
    assert tree.execution.device == "cuda"
    assert tree.execution.precision == (
        resolve_precision("auto", torch.device(place)) if precision == "auto" else precision
    )
    losses = [point.values["train/loss"] for point in read_points(job.record.folder)]
    assert all(math.isfinite(loss) for loss in losses)


def test_doctor_measures_the_gpu(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", "--json", "--device", "cuda:0"])
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["cuda:0"]["gpu"] == torch.cuda.get_device_name(0)
    assert rows["GPU software"]["cuda"] == torch.version.cuda
    assert rows["speed"]["gflops"]["fp32"] > 500
    assert rows["speed"]["gb_per_s"] > 50
    precision = rows["execution"]["precision"]
    assert precision == "fp32" or rows["speed"]["gflops"][precision] > rows["speed"]["gflops"]["fp32"]
