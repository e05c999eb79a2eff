"""The embedded images teach a network within a smoke cell, and a linear classifier next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cifar_lab.ablation import registry
from cifar_lab.config import scale
from cifar_lab.config.execution import Execution
from cifar_lab.data import load
from cifar_lab.data.dataset import Images
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.worker import CellJob, train_cell


@pytest.mark.slow
def test_the_control_passes_half_and_a_linear_classifier_stays_twenty_points_under_it(tmp_path: Path) -> None:
    dataset = load("synthetic")
    recipe = scale.find_scale("smoke").apply(registry.discover().find("se_ratio").recipe("r16"))
    job = CellJob(
        fingerprint=recipe.fingerprint(seed=0, data_hash=dataset.hash),
        recipe=recipe,
        seed=0,
        data="synthetic",
        data_hash=dataset.hash,
        runs=tmp_path,
        execution=Execution(device="cpu", threads=1, precision="auto"),
        provenance=provenance(),
    )
    train_cell(job)
    result = job.record.result()
    assert result is not None
    accuracy = result.metrics["test/acc"]
    assert accuracy > 0.5

    def flat(images: Images) -> torch.Tensor:
        return torch.from_numpy(images.reshape(len(images), -1)).float() / 127.5 - 1

    x, y = flat(dataset.train_images), torch.from_numpy(dataset.train_labels)
    linear = torch.nn.Linear(x.shape[1], 10)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-3, weight_decay=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(linear(x), y).backward()
        optimizer.step()
    test = torch.from_numpy(dataset.test_labels)
    by_pixels = (linear(flat(dataset.test_images)).argmax(1) == test).float().mean().item()
    assert by_pixels <= accuracy - 0.2


@pytest.mark.slow
def test_every_ablation_runs_at_smoke_in_one_go_and_shared_cells_are_trained_once(folder: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "cifar_lab",
        "run-ablation",
        "all",
        "--scale",
        "smoke",
        "--seeds",
        "0",
        "-y",
        "--json",
    ]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trees = json.loads(done.stdout)
    ablations = list(registry.discover())
    assert [tree["ablation"] for tree in trees] == [ablation.name for ablation in ablations]
    asked = [cell for tree in trees for cell in tree["cells"]]
    assert len(asked) == sum(len(ablation.variants) for ablation in ablations)
    assert {cell["state"] for cell in asked} <= {"finished", "diverged"}
    distinct = {cell["fingerprint"] for cell in asked}
    assert sum(tree["trained"] for tree in trees) == len(distinct)
    assert sum(tree["reused"] for tree in trees) == len(asked) - len(distinct)
    print(f"{len(ablations)} ablations, {len(asked)} cells asked for, {len(distinct)} trained")
