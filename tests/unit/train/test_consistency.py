"""AugMix's consistency: the divergence against the authors' formula, and steps against a plain loop."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unit.train.test_step import trainer

from cifar_lab.config.recipe import Recipe
from cifar_lab.data import augmentation
from cifar_lab.train.consistency import consistency_loss
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

SMALL = {
    "model.width": 8, "model.blocks": [1, 1], "train.batch_size": 16, "train.epochs": 1, "data.val_fraction": 0.2,
    "optim.lookahead.enabled": False, "train.label_smoothing": 0.1, "data.cutout": 8, "optim.lr": 0.01,
    "data.policy.name": "augmix", "data.policy.consistency": 12.0,
}  # fmt: skip
STEPS = 5


def outputs(views: int, seed: int = 0, spread: float = 3.0) -> list[Tensor]:
    made = spread * torch.randn(views, 16, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [each.requires_grad_() for each in made]


def by_hand(logits: list[Tensor]) -> float:
    """Entropy of the mean prediction, less the mean entropy: another form of the divergence."""
    p = np.stack([torch.softmax(each.detach(), dim=1).numpy() for each in logits])
    mean = p.mean(axis=0)
    return float((-(mean * np.log(mean)).sum(axis=1) + (p * np.log(p)).sum(axis=2).mean(axis=0)).mean())


def authors(clean: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The divergence as in the paper's code, whose mean prediction is at least 1e-7."""
    p = [F.softmax(each, dim=1) for each in (clean, first, second)]
    mixture = torch.clamp(sum(p) / 3.0, 1e-7, 1).log()  # type: ignore[call-overload]
    return sum(F.kl_div(mixture, each, reduction="batchmean") for each in p) / 3.0  # type: ignore[return-value]


@pytest.mark.parametrize("views", [2, 3])
def test_the_divergence_is_entropy_of_the_mean_less_mean_entropy(views: int) -> None:
    logits = outputs(views)
    assert consistency_loss(logits).item() == pytest.approx(by_hand(logits), rel=1e-9)


def test_value_and_gradients_are_those_of_the_papers_code() -> None:
    ours, theirs = outputs(3), outputs(3)
    value, expected = consistency_loss(ours), authors(*theirs)
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    for mine, other in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-12)


def test_equal_predictions_have_none_and_contrary_ones_the_most() -> None:
    (same,) = outputs(1)
    assert consistency_loss([same, same + 5.0, same]).item() == pytest.approx(0.0, abs=1e-12)
    sure = [1e4 * F.one_hot(torch.full((4,), place), 10).float().requires_grad_() for place in range(3)]
    value = consistency_loss(sure)
    assert value.item() == pytest.approx(math.log(3), rel=1e-6)
    assert all(each.isfinite().all() for each in torch.autograd.grad(value, sure))


class Exact(nn.Module):
    """A network in fp64, in which rounding turns no ReLU."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())


def exact(**diff: object) -> Trainer:
    recipe = Recipe().override(SMALL | diff)
    plain = trainer(recipe)
    return Trainer(recipe, 0, Exact(plain.net), plain.split, "fp32")


def test_losses_and_weights_are_those_of_a_plain_loop() -> None:
    run = exact()
    net, recipe = copy.deepcopy(run.net).train(), run.recipe
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    draws = augmentation.draw_epoch(recipe.data, len(run.split.train), seed=0, epoch=0)
    losses = []
    for step in range(STEPS):
        here = draws[16 * step : 16 * (step + 1)]
        images, labels = run.split.train.take(here.order)
        inputs, targets = augmentation.augment(images, labels, here, recipe.data)
        assert (len(inputs), len(targets)) == (48, 16)
        clean, first, second = torch.split(net(inputs).float(), 16)
        loss = F.cross_entropy(clean, targets, label_smoothing=0.1) + 12 * authors(clean, first, second)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), recipe.optim.clip.threshold)
        optimizer.step()
        losses.append(loss.item())
    stepper = Stepper(run)
    stepper.begin_epoch()
    for _ in range(STEPS):
        stepper.take()
        run.step += 1
    torch.testing.assert_close(run.losses[:STEPS], torch.tensor(losses), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(run.net.state_dict().values(), net.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_views_share_crop_flip_and_cutout_and_the_first_is_without_the_policy() -> None:
    recipe = Recipe().override(SMALL)
    plain = recipe.override({"data.policy.name": "none"}).data
    once = recipe.override({"data.policy.consistency": 0.0}).data
    run = trainer(recipe)
    draws = {name: augmentation.draw_epoch(data, 120, seed=3, epoch=1) for name, data in
             (("views", recipe.data), ("plain", plain), ("once", once))}  # fmt: skip
    images, labels = run.split.train.take(draws["views"].order[:32])
    views, targets = augmentation.augment(images, labels, draws["views"][:32], recipe.data)
    clean, first, second = views.chunk(3)
    assert torch.equal(targets, labels)
    assert torch.equal(clean, augmentation.augment(images, labels, draws["plain"][:32], plain)[0])
    assert torch.equal(first, augmentation.augment(images, labels, draws["once"][:32], once)[0])
    assert not any(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    blank = (clean == 0).all(dim=1)
    assert (blank == (second == 0).all(dim=1)).float().mean() > 0.99
    assert blank.any(dim=(1, 2)).all()


def test_a_step_of_a_smaller_batch_and_one_with_every_other_method_is_finite() -> None:
    diff = {"optim.sam.rho": 0.05, "model.dropout": 0.2, "train.swa.enabled": True, "optim.lookahead.enabled": True}
    recipe = Recipe().override(SMALL | diff | {"train.distill.teacher": ["a" * 64], "train.distill.weight": 0.5})
    assert recipe.passes == 6
    run = trainer(recipe)
    stepper = Stepper(run)
    stepper.begin_epoch()
    for _ in range(run.steps_per_epoch):
        stepper.take()
        run.step += 1
    assert run.images_seen == 120
    assert run.losses[: run.steps_per_epoch].isfinite().all()
    assert run.swa is not None
    run.swa.step(run.steps_per_epoch)
    run.swa.complete(run.split, "fp32", 0)
    assert all(each.isfinite().all() for each in run.swa.module.state_dict().values())
