"""Estimates without labels for a trained cell, on corrupted images whose labels are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.synthetic import generate
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.inference.corruptions import corrupt
from cifar_lab.inference.input_images import images_of_array
from cifar_lab.inference.network_outputs import compute_logits, load_members
from cifar_lab.inference.run_names import ChosenRuns, choose_runs
from cifar_lab.inference.shift import estimate_shift

RECIPE = Recipe().override(
    {"model.blocks": [1], "model.width": 8, "train.epochs": 3, "train.batch_size": 50, "schedule.every": "step"}
)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> ChosenRuns:
    """Two seeds of one recipe, trained on drawn pictures."""
    runs: Path = tmp_path_factory.mktemp("shifted") / "runs"
    hash = generate().hash
    names = []
    for seed in (0, 1):
        job = CellJob(
            fingerprint=RECIPE.fingerprint(seed=seed, data_hash=hash), recipe=RECIPE, seed=seed, data="synthetic",
            data_hash=hash, runs=runs, execution=Execution(device="cpu", threads=1, precision="auto"),
            provenance=provenance(),
        )  # fmt: skip
        assert train_cell(job)
        names.append(job.fingerprint)
    return choose_runs(runs, names)


@pytest.mark.slow
def test_estimates_follow_the_accuracy_down_better_than_the_val_accuracy_does(chosen: ChosenRuns) -> None:
    dataset = generate()
    images, labels = np.array(dataset.test_images[:500]), np.array(dataset.test_labels[:500])
    members = load_members(chosen.runs, "cpu", None)
    errors, without = [], []
    for name, strength in (("gaussian_noise", 3), ("gaussian_noise", 5), ("contrast", 5), ("fog", 5), ("frost", 5)):
        changed = corrupt(torch.from_numpy(images), name, strength, torch.arange(500)).numpy()
        estimate = estimate_shift(chosen, images_of_array(changed), device="cpu")
        for run, member in zip(estimate.runs, members, strict=True):
            accuracy = float((compute_logits(member, changed).argmax(axis=1) == labels).mean())
            errors.append(abs(run.estimate.accuracy - accuracy))
            without.append(abs(run.val_accuracy - accuracy))
    assert np.mean(without) > 0.1, "the corruptions do lower the accuracy"
    assert np.mean(errors) < 0.75 * np.mean(without)


def test_on_test_images_of_the_same_source_the_estimate_is_close(chosen: ChosenRuns) -> None:
    dataset = generate()
    estimate = estimate_shift(chosen, images_of_array(np.array(dataset.test_images)), device="cpu")
    for run, member in zip(estimate.runs, load_members(chosen.runs, "cpu", None), strict=True):
        accuracy = float((compute_logits(member, dataset.test_images).argmax(axis=1) == dataset.test_labels).mean())
        assert run.thresholded.accuracy == pytest.approx(accuracy, abs=0.06)
        assert accuracy - 0.15 < run.estimate.accuracy < accuracy, "transport is careful where nothing has shifted"
        assert member.run.cell.metrics["test/acc"] == accuracy
