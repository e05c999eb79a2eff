"""A cell that finds no memory says in one line what would fit; other errors stay what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made import records

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.errors import CellError
from cifar_lab.execution.out_of_memory import advice, is_out_of_memory
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.models.resnet import ResNet

ROOT = Path(__file__).parents[3]
GIB = 2**30
GPU = torch.device("cuda", 0)
CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 80.00 GiB of which 1.00 GiB is free."
)
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


def memory(patch: pytest.MonkeyPatch, *, used: float, total: float, peak: float) -> None:
    """Let the GPU have this much memory in use, and this process at its highest so much of it; in GiB."""
    patch.setattr(torch.cuda, "mem_get_info", lambda _: (round((total - used) * GIB), round(total * GIB)))
    patch.setattr(torch.cuda, "max_memory_allocated", lambda _: round(peak * GIB))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CUDA, True), (CPU, True), (MemoryError(), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False), (KeyboardInterrupt(), False),
    ],
    ids=str,
)  # fmt: skip
def test_only_errors_about_memory_are_taken_for_such(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_cells_that_share_a_gpu_are_to_be_trained_one_by_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, used=79.1, total=80, peak=20)
    assert advice(CUDA, EFFICIENT_RESNET, GPU, sharing=3) == (
        "out of GPU memory: 79.1 of 80.0 GiB in use, 3 cells share cuda:0; try --cells-per-gpu 1, "
        "or train.batch_size=64 (with batches of 128 a cell takes at least 22.0 GiB)"
    )


def test_a_cell_that_has_a_gpu_alone_is_told_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, used=7.9, total=8, peak=7)
    for batch, smaller in ((1000, 256), (3, 1), (2, 1)):
        line = advice(CUDA, EFFICIENT_RESNET.override({"train.batch_size": batch}), GPU, sharing=1)
        assert line.startswith("out of GPU memory: 7.9 of 8.0 GiB in use, one cell on cuda:0; try train.batch_size=")
        assert f"train.batch_size={smaller} " in line
    assert "try" not in advice(CUDA, EFFICIENT_RESNET.override({"train.batch_size": 1}), GPU, sharing=1)


def test_a_gpu_that_answers_no_question_any_more_changes_nothing_but_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", broken)
    line = advice(CUDA, EFFICIENT_RESNET, GPU, sharing=2)
    assert line == "out of GPU memory: 2 cells share cuda:0; try --cells-per-gpu 1, or train.batch_size=64"


def test_on_a_processor_fewer_workers_are_what_helps() -> None:
    line = advice(CPU, EFFICIENT_RESNET, torch.device("cpu"), sharing=8)
    assert (
        line
        == "out of memory: 8 cells share the processor; try --workers 1 (in Python workers=1), or train.batch_size=64"
    )


TINY = Recipe().override({"model.blocks": [1], "model.width": 8, "train.epochs": 1, "train.batch_size": 10,
                          "data.val_fraction": 0.2})  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, few_images: Path) -> CellJob:
    dataset = load(str(few_images))
    return CellJob(
        fingerprint=TINY.fingerprint(seed=0, data_hash=dataset.hash), recipe=TINY, seed=0, data=str(few_images),
        data_hash=dataset.hash, runs=tmp_path, execution=Execution(device="cpu", threads=1, precision="fp32"),
        provenance=records.PROVENANCE,
    )  # fmt: skip


def _full(*_: Any) -> None:
    raise CUDA


def test_a_cell_that_finds_no_memory_fails_in_one_line_and_keeps_its_trace(
    job: CellJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ResNet, "forward", _full)
        with pytest.raises(CellError, match=r"^out of memory: 2 cells share the processor; try --workers 1 \("):
            train_cell(replace(job, sharing=2))
    failure = job.record.failure()
    assert failure is not None
    assert failure.out_of_memory, "the engine asks for it, not for words"
    assert failure.error.startswith("CellError: out of memory: 2 cells share")
    assert "Tried to allocate 2.00 GiB" in failure.trace
    assert job.record.state() == "failed"
    assert train_cell(job), "with memory it is trained"


def test_no_memory_for_the_parents_weights_is_no_misfit(job: CellJob, monkeypatch: pytest.MonkeyPatch) -> None:
    train_cell(job)
    recipe = TINY.override({"init_from": job.fingerprint})
    monkeypatch.setattr(ResNet, "load_state_dict", _full)
    with pytest.raises(CellError, match=r"^out of memory"):
        train_cell(replace(job, recipe=recipe, fingerprint="f" * 64))


def test_a_parent_of_another_shape_is_named_with_the_first_difference(job: CellJob) -> None:
    train_cell(job)
    recipe = TINY.override({"init_from": job.fingerprint, "model.width": 9})
    with pytest.raises(CellError, match=r"do not fit this network: conv1.weight is 8×3×3×3 there, 9×3×3×3 here"):
        train_cell(replace(job, recipe=recipe, fingerprint="f" * 64))


NO_MEMORY = """
import multiprocessing
import torch
from cifar_lab.models.resnet import ResNet

forward = ResNet.forward

def full(self, images):
    if multiprocessing.parent_process() is not None and isinstance(self.dropout, torch.nn.Dropout):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return forward(self, images)

ResNet.forward = full
"""
"""Loaded by every process of a command: in workers a network with dropout finds no memory."""


@pytest.mark.slow
def test_a_cell_without_memory_stops_no_other_and_shows_no_traceback(
    folder: Path, few_images: Path, tiny_ablation: Path
) -> None:
    (folder / "sitecustomize.py").write_text(NO_MEMORY)
    words = ["run-ablation", "tiny", "--ablations", tiny_ablation, "--data", few_images, "--offline", "--seeds", "0"]
    options = ["--workers", "2", "--device", "cpu", "train.epochs=1"]
    done = subprocess.run(
        [sys.executable, "-m", "cifar_lab", *map(str, words), *options], cwd=folder, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (
        "out of memory: 2 cells share the processor; try --workers 1 (in Python workers=1), or train.batch_size=4"
        in done.stderr
    )
    assert "1 trained, 0 reused, 1 failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (failure,) = (json.loads(path.read_text()) for path in (folder / "runs").glob("*/failure.json"))
    assert failure["error"].startswith("CellError: out of memory")


@pytest.mark.slow
def test_steps_that_find_no_memory_while_they_are_timed_are_told_in_one_line(
    folder: Path, few_images: Path, tiny_ablation: Path
) -> None:
    (folder / "sitecustomize.py").write_text(NO_MEMORY.replace(" and isinstance(self.dropout, torch.nn.Dropout)", ""))
    words = ["plan", "tiny", "--ablations", tiny_ablation, "--data", few_images, "--device", "cpu", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "cifar_lab", *map(str, words)], cwd=folder, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2
    complaints = [line for line in done.stderr.splitlines() if line.startswith("cifar-lab: ")]
    assert complaints == [
        "cifar-lab: a few steps were to be timed, but: out of memory with 10 images; try a smaller network, model.width"
    ]
