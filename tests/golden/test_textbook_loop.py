"""The lab's loop against the one that tutorials teach (`benchmarks/programs/plain_loop.py`), which shares no step with
it: from the same weights and the same batches both end at the same weights.

In fp64, in which what the order of a sum rounds away turns no ReLU: in fp32 a few steps make percents of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import augmentation
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import Split, split
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train.loop import fit
from cifar_lab.train.trainer import Trainer

PROGRAMS = Path(__file__).parents[2] / "benchmarks" / "programs"
EPOCHS, BATCH, SEED = 3, 16, 7
WITHOUT = {
    "momentum": {"optim.momentum": 0.0},
    "decay": {"optim.weight_decay": 0.0},
    "clipping": {"optim.clip.threshold": 1e9},
    "Lookahead": {"optim.lookahead.k": 10**6},
}
"""Overrides common to both loops."""


class Nobody:
    """Watches a training and does nothing."""

    def step(self, epoch: int, step: int, steps: int) -> None: ...

    def epoch(self, epoch: int, values: dict[str, float]) -> None: ...

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None: ...

    def wants_to_stop(self) -> bool:
        return False


class Exact(nn.Module):
    """The network in fp64, for those who hand it fp32 and take fp32 back."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double()

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, 32, 32) -> (N, 10)
        return self.net(x.double()).float()  # type: ignore[no-any-return]


def _recipe(diff: dict[str, object]) -> Recipe:
    small = {"model.width": 8, "model.blocks": [1, 1], "train.batch_size": BATCH, "train.epochs": EPOCHS}
    return EFFICIENT_RESNET.override({**small, **diff})


def _parts(recipe: Recipe) -> Split:
    rng = np.random.default_rng(3)
    dataset = Dataset(
        name="noise",
        kind="synthetic",
        classes=tuple("abcdefghij"),
        train_images=rng.integers(0, 256, (120, 32, 32, 3), dtype=np.uint8),
        train_labels=np.repeat(np.arange(10), 12),
        test_images=rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8),
        test_labels=np.arange(10),
        hash="noise",
    )
    return split(dataset, recipe.data, recipe.train.protocol, torch.device("cpu"))


def _lab(recipe: Recipe) -> dict[str, Tensor]:
    exact = Exact(build_resnet(recipe.model, seed=SEED))
    trainer = Trainer(recipe, SEED, exact, _parts(recipe), "fp32")
    fit(trainer, Nobody())
    return exact.net.state_dict()


def _textbook(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The weights of the tutorials' loop, which is handed the lab's batches: its own draws would be others."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    from programs import plain_loop

    part = _parts(recipe).train
    net = Exact(plain_loop.network(recipe, SEED))
    optimizer, lookahead = plain_loop.tools(net, recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    for epoch in range(EPOCHS):
        draws = augmentation.draw_epoch(recipe.data, len(part), seed=SEED, epoch=epoch)
        batches = []
        for first in range(0, len(part), BATCH):
            here = draws[first : first + BATCH]
            batches.append(augmentation.augment(*part.take(here.order), here, recipe.data))
        plain_loop.train_epoch(net, batches, optimizer, lookahead, recipe.optim.clip.threshold)
        schedule.step()
    return net.net.state_dict()


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of a weight or a running statistic, over the largest of its tensor."""
    return max(
        ((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-3)).item()
        for name in one
        if one[name].is_floating_point()
    )


def test_both_loops_end_at_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    recipe = _recipe({})
    assert _apart(_lab(recipe), _textbook(recipe, monkeypatch)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("what", WITHOUT)
def test_a_loop_that_lacked_a_part_would_end_elsewhere(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    assert _apart(_lab(_recipe(WITHOUT[what])), _textbook(_recipe({}), monkeypatch)) > 1e-3
