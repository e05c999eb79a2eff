"""Seeds that are trained stacked take the steps that each takes alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import stacked_seeds
import torch
from stacked_seeds import StackedStepper, StackedTrainer, noise
from torch import Tensor, nn

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.recipe import Recipe
from cifar_lab.models.resnet import ResNet, build_resnet
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

SMALL = {
    "model.width": 8, "model.blocks": [1, 2], "train.batch_size": 16, "train.protocol": "writeup",
    "optim.lookahead.k": 2, "data.cutout": 8,
}  # fmt: skip
RECIPES = {
    "stem": EFFICIENT_RESNET.override(SMALL),
    "block": EFFICIENT_RESNET.override({**SMALL, "model.se.placement": "block", "optim.name": "adam"}),
    "no norm": EFFICIENT_RESNET.override({**SMALL, "model.batch_norm": False, "train.label_smoothing": 0.1}),
}
SEEDS, STEPS, IMAGES = (3, 1, 2), 5, 72  # the fifth step has half a batch
CPU = torch.device("cpu")


class In64(nn.Module):
    """Run a network in fp64 on the images in fp32 that augmentation makes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())  # type: ignore[no-any-return]


def nets(recipe: Recipe, seeds: Sequence[int], dtype: torch.dtype) -> list[ResNet]:
    torch.set_num_threads(1)
    return [build_resnet(recipe.model, seed=seed).to(dtype) for seed in seeds]


def take(stepper: Stepper, dtype: torch.dtype, steps: int = STEPS) -> None:
    run = stepper.trainer
    if dtype == torch.float64:
        run.forward = In64(run.net)
    stepper.begin_epoch()
    for _ in range(steps):
        stepper.take()
        run.step += 1


def alone(recipe: Recipe, seed: int, dtype: torch.dtype) -> Trainer:
    run = Trainer(recipe, seed, nets(recipe, [seed], dtype)[0], noise(recipe, IMAGES, CPU), "fp32")
    take(Stepper(run), dtype)
    return run


def stacked(recipe: Recipe, dtype: torch.dtype) -> StackedTrainer:
    net = stacked_seeds.grouped(nets(recipe, SEEDS, dtype), torch.channels_last)
    run = StackedTrainer(recipe, SEEDS, net, noise(recipe, IMAGES, CPU), "fp32")
    take(StackedStepper(run), dtype)
    return run


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_in_fp64_each_seed_has_the_losses_norms_and_weights_that_it_has_alone(recipe: Recipe) -> None:
    together = stacked(recipe, torch.float64)
    for i, seed in enumerate(SEEDS):
        one = alone(recipe, seed, torch.float64)
        torch.testing.assert_close(together.losses[:, i], one.losses, rtol=1e-6, atol=0)
        torch.testing.assert_close(together.norms[:, i], one.norms, rtol=1e-5, atol=0)
        mine = together.state_of(i)
        assert mine.keys() == one.net.state_dict().keys()
        for name, tensor in one.net.state_dict().items():
            torch.testing.assert_close(mine[name], tensor, rtol=1e-9, atol=1e-11)


def test_in_fp32_the_first_losses_agree_within_rounding() -> None:
    recipe = RECIPES["stem"]
    together = stacked(recipe, torch.float32)
    for i, seed in enumerate(SEEDS):
        losses = alone(recipe, seed, torch.float32).losses
        torch.testing.assert_close(together.losses[:3, i], losses[:3], rtol=1e-4, atol=0)


def test_a_graph_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in replays the step's own code; that kernels can be captured only a GPU can show."""
    recipe = RECIPES["stem"]
    run = StackedTrainer(
        recipe, SEEDS, stacked_seeds.grouped(nets(recipe, SEEDS, torch.float32), torch.channels_last),
        noise(recipe, 8 * 16, CPU), "fp32",
    )  # fmt: skip
    stepper, eager = StackedStepper(run), copy.deepcopy(run)
    stepper._wanted, eager_stepper = True, StackedStepper(eager)

    class Graph:
        def __init__(self, moves: bool) -> None:
            self.moves = moves

        def replay(self) -> None:
            stepper._step(stepper._offsets, self.moves)

    monkeypatch.setattr(stepper, "_capture", Graph)
    take(stepper, torch.float32, 8)
    take(eager_stepper, torch.float32, 8)
    assert stepper.captured, stepper.refused
    for mine, theirs in zip(run.tensors(), eager.tensors(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_seeds_differ() -> None:
    losses = stacked(RECIPES["stem"], torch.float32).losses
    assert len({*losses[0].tolist()}) == len(SEEDS)


@pytest.mark.parametrize(
    "diff",
    [{"model.dropout": 0.1}, {"data.cutmix": 1.0}, {"optim.clip.by": "norm"}, {"optim.name": "muon"},
     {"model.stem": "whitening"}],
)  # fmt: skip
def test_what_would_mix_seeds_is_refused(diff: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cannot stack"):
        stacked_seeds.refuse(EFFICIENT_RESNET.override(diff), "fp32")


def test_it_prints_one_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked_seeds, "EFFICIENT_RESNET", RECIPES["stem"])
    stacked_seeds.main(["--width", "8", "--seeds", "1,2", "--steps", "3", "--rounds", "2"])
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert rows == ["", "---", "one alone", "1 stacked", "2 stacked"]
