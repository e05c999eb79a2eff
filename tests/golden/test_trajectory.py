"""The golden trajectory: what the numerics version stands for.

A change that moves these losses makes new cells of all old ones: raise `config.recipe.NUMERICS` with it, and write
the new losses here. Processors round differently, so the last digits are not compared.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cifar_lab.config.recipe import NUMERICS, Recipe
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

RECIPES = {
    "efficient": {},
    "resnet18": {
        "model.blocks": [1, 1], "model.se.placement": "none", "optim.name": "sgd_nesterov",
        "optim.lookahead.enabled": False,
    },
    "mixed": {"data.mixup": 0.2, "data.cutmix": 1.0, "data.cutout": 8, "train.label_smoothing": 0.1},
}  # fmt: skip
GOLDEN = {
    "efficient": [2.19427, 2.53287, 2.52636, 2.41008, 2.49776],
    "resnet18": [2.19713, 2.52778, 2.46578, 2.3369, 2.39283],
    "mixed": [2.13456, 2.54356, 2.52169, 2.40582, 2.49984],
}


def losses(diff: dict[str, object], device: str = "cpu") -> list[float]:
    rng = np.random.default_rng(1)
    dataset = Dataset(
        name="noise",
        kind="synthetic",
        classes=tuple("abcdefghij"),
        train_images=rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8),
        train_labels=np.repeat(np.arange(10), 6),
        test_images=rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8),
        test_labels=np.arange(10),
        hash="noise",
    )
    small = {"model.width": 8, "model.blocks": [1, 1, 1], "train.batch_size": 10, "data.val_fraction": 0.17}
    recipe = Recipe().override({**small, **diff})
    torch.set_num_threads(1)
    parts = split(dataset, recipe.data, recipe.train.protocol, torch.device(device))
    trainer = Trainer(recipe, 0, build_resnet(recipe.model, seed=0, device=torch.device(device)), parts, "fp32")
    stepper = Stepper(trainer)
    stepper.begin_epoch()
    for _ in range(5):
        stepper.take()
        trainer.step += 1
    return trainer.losses[:5].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_losses_are_those_of_numerics_1(name: str) -> None:
    assert NUMERICS == 1
    assert losses(RECIPES[name]) == pytest.approx(GOLDEN[name], rel=1e-3)
