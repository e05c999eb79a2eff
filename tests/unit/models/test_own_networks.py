"""Networks of users whose weights are shared, late or not trained: trained and kept, or refused before the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made.extensions import Tied
from made.tiny_cells import stop_in_first_epoch, tiny_job
from safetensors.torch import load_file

from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import RecipeError
from cifar_lab.execution.trained_weights import load_weights
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.models.cost import network_cost
from cifar_lab.models.registry import build_network
from cifar_lab.testing import check_model

MADE, BROKEN = "made.extensions", "made.broken_extensions"
TIED = {"model.name": f"{MADE}:Tied"}


def named(job: CellJob, diff: dict[str, Any]) -> CellJob:
    recipe = job.recipe.override(diff)
    return replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=job.seed, data_hash=job.data_hash))


@pytest.mark.parametrize(
    "diff",
    [{}, {"train.ema": 0.9}, {"train.swa.enabled": True, "train.swa.start": 0.5}, {"optim.lookahead.k": 2}],
    ids=["plain", "ema", "swa", "lookahead"],
)
def test_shared_weights_are_trained_kept_and_loaded(few_images: Path, tmp_path: Path, diff: dict[str, Any]) -> None:
    jobs = [named(tiny_job(tmp_path / name, few_images), {**TIED, **diff}) for name in ("straight", "stopped")]
    stop_in_first_epoch(jobs[1])
    for job in jobs:
        assert train_cell(job)
    straight, stopped = (job.record.weights.read_bytes() for job in jobs)
    assert straight == stopped
    kept = load_file(jobs[0].record.weights)
    net = build_network(jobs[0].recipe.model, seed=5)
    assert kept.keys() == net.state_dict().keys(), "each name has its copy"
    load_weights(net, jobs[0].record)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(kept["blocks.0.0.weight"], kept["blocks.2.0.weight"])


def test_shared_weights_are_counted_once() -> None:
    net = Tied(classes=10)
    block = 4 * 4 * 9 + 4 + 2 * 4
    cost = network_cost(Recipe().override(TIED).model)
    assert cost.parameters == sum(p.numel() for p in net.parameters()) == 3 * 4 * 9 + 4 + block + 4 * 10 + 10
    assert (cost.costliest, cost.costliest_parameters) == ("blocks", block)
    assert cost.macs == 32 * 32 * (3 * 4 * 9 + 3 * 4 * 4 * 9) + 4 * 10
    assert check_model(f"{MADE}:Tied").parameters == cost.parameters


def test_shared_weights_are_continued_and_teach(few_images: Path, tmp_path: Path) -> None:
    parent = named(tiny_job(tmp_path, few_images), TIED)
    assert train_cell(parent)
    child = named(parent, {"init_from": parent.fingerprint, "optim.lr": 0.01})
    student = named(
        parent,
        {
            "model.name": "resnet", "train.distill.weight": 0.9, "train.distill.teacher": parent.fingerprint,
        },
    )  # fmt: skip
    assert train_cell(child)
    assert train_cell(student)


def test_a_network_without_shared_weights_is_kept_as_before(few_images: Path, tmp_path: Path) -> None:
    from safetensors.torch import save

    job = named(tiny_job(tmp_path, few_images), {"model.name": f"{MADE}:Tiny"})
    assert train_cell(job)
    content = job.record.weights.read_bytes()
    assert content == save(load_file(job.record.weights))


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("ExtraState", "its state has '_extra_state', dict, which a file of weights cannot hold"),
        ("DoubleComplex", "its state has 'phase', torch.complex128, which a file of weights cannot hold"),
        ("frozen", "it has no trainable parameters"),
        ("NoParameters", "it has no trainable parameters"),
        ("lazy", "'1.weight' has no shape before the first images; give its layer the sizes .*, which may take side"),
    ],
)
def test_a_network_that_cannot_be_trained_or_kept_is_refused_in_one_line(target: str, rule: str) -> None:
    name = f"{BROKEN}:{target}"
    for refused in (lambda: network_cost(Recipe().override({"model.name": name}).model), lambda: check_model(name)):
        with pytest.raises(RecipeError, match=f"^model.name={name}: {rule}$") as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_a_lazy_network_that_its_factory_has_called_is_a_network() -> None:
    assert check_model(f"{MADE}:called_once").parameters == 3 * 32 * 32 * 10 + 10


def test_a_partly_frozen_network_is_trained(few_images: Path, tmp_path: Path) -> None:
    job = named(tiny_job(tmp_path, few_images), {"model.name": f"{MADE}:partly_frozen", "optim.sam.rho": 0.05})
    assert train_cell(job)
