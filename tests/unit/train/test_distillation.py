"""Knowledge distillation: loss and weights against a few lines of their own, and what a teacher must leave alone."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unit.train.test_step import trainer

from cifar_lab.config.distillation_config import DistillationConfig
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import augmentation
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train.distillation import Distillation
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

NAMES = ["a" * 64, "b" * 64]
PLAIN = {
    "model.width": 8, "model.blocks": [1, 1], "train.batch_size": 16, "train.epochs": 1, "data.val_fraction": 0.2,
    "optim.lookahead.enabled": False,
}  # fmt: skip
SMALL = PLAIN | {"train.distill.teacher": NAMES, "train.distill.weight": 0.7, "train.distill.temperature": 3.0}
MIXED = {"data.mixup": 0.4, "data.cutmix": 1.0, "train.label_smoothing": 0.1}
STEPS = 5


class Exact(nn.Module):
    """A network in fp64, in which rounding turns no ReLU."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())


def teacher(recipe: Recipe, seed: int) -> nn.Module:
    """A network of twice the width, sharper than a fresh one, whose running statistics are not those of a batch."""
    net = build_resnet(recipe.model.model_copy(update={"width": 16}), seed=seed)
    with torch.no_grad():
        net.train()(torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(seed)))
        net.classifier.weight.mul_(20)  # type: ignore[union-attr,operator]
    return net


def taught(teachers: int = 2, *, exact: bool = False, **diff: object) -> Trainer:
    recipe = Recipe().override(SMALL | {"train.distill.teacher": NAMES[:teachers]} | diff)
    plain = trainer(recipe.override({"train.distill.weight": 0.0}))
    nets = [teacher(recipe, seed) for seed in range(1, teachers + 1)]
    if exact:
        return Trainer(recipe, 0, Exact(plain.net), plain.split, "fp32", [Exact(net) for net in nets])
    return Trainer(recipe, 0, plain.net, plain.split, "fp32", nets)


def take(run: Trainer, steps: int = STEPS) -> None:
    stepper = Stepper(run)
    stepper.begin_epoch()
    for _ in range(steps):
        stepper.take()
        run.step += 1


def reference(run: Trainer, nets: list[nn.Module]) -> tuple[nn.Module, list[float]]:
    """Train `run`'s network on its batches by the paper's formula, and return it with its losses."""
    net, recipe = copy.deepcopy(run.net), run.recipe
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    draws = augmentation.draw_epoch(recipe.data, len(run.split.train), seed=0, epoch=0)
    losses = []
    for step in range(STEPS):
        here = draws[16 * step : 16 * (step + 1)]
        inputs, targets = augmentation.augment(*run.split.train.take(here.order), here, recipe.data, run.split.classes)
        with torch.no_grad():
            p = sum(torch.softmax(each.eval()(inputs) / 3.0, dim=1) for each in nets) / len(nets)
        logits = net(inputs).float()
        q = torch.softmax(logits / 3.0, dim=1)
        kl = (p * (p.log() - q.log())).sum(dim=1).mean()
        hard = F.cross_entropy(logits, targets, label_smoothing=recipe.train.label_smoothing)
        loss = 0.3 * hard + 0.7 * 3.0**2 * kl
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), recipe.optim.clip.threshold)
        optimizer.step()
        losses.append(loss.item())
    return net, losses


@pytest.mark.parametrize("teachers", [1, 2])
@pytest.mark.parametrize("diff", [{}, MIXED], ids=["plain", "mixed"])
def test_losses_and_weights_are_those_of_the_papers_formula(teachers: int, diff: dict[str, object]) -> None:
    run = taught(teachers, exact=True, **diff)
    assert run.distillation is not None
    expected, losses = reference(run, copy.deepcopy(run.distillation.teachers))
    take(run)
    torch.testing.assert_close(run.losses[:STEPS], torch.tensor(losses), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(run.net.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_loss_of_one_teacher_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    own = Distillation([nn.Identity()], DistillationConfig(temperature=2.0, weight=0.25))
    soft = own.soft_targets(torch.tensor([[0.0, 4.0], [0.0, 1.0]]), "fp32")
    hard = F.cross_entropy(logits, labels)
    first = 0.119203 * (-2.126928 - -0.313262) + 0.880797 * (-0.126928 - -1.313262)  # the second image's is 0
    assert own.loss(logits, soft, hard).item() == pytest.approx(0.75 * hard.item() + 0.25 * 4 * first / 2, abs=1e-5)


def test_a_student_that_answers_as_its_teacher_has_no_soft_loss() -> None:
    own = Distillation([nn.Identity()], DistillationConfig(temperature=4.0, weight=1.0))
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = own.loss(logits, own.soft_targets(logits, "fp32"), torch.tensor(7.0))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_an_ensemble_is_the_mean_of_probabilities_however_sure_one_of_them_is() -> None:
    class Says(nn.Module):
        def __init__(self, *logits: float) -> None:
            super().__init__()
            self.logits = torch.tensor([logits])

        def forward(self, x: Tensor) -> Tensor:
            return self.logits

    both = Distillation([Says(0.0, 2000.0), Says(2.0, 0.0)], DistillationConfig(temperature=1.0, weight=0.5))
    soft = both.soft_targets(torch.zeros(1, 2), "fp32").exp()
    torch.testing.assert_close(soft, torch.tensor([[0.5 * 0.880797, 1 - 0.5 * 0.880797]]), rtol=1e-5, atol=1e-6)


def test_teachers_are_never_changed_and_are_no_part_of_a_checkpoint() -> None:
    run = taught()
    assert run.distillation is not None
    before = [tensor.clone() for net in run.distillation.teachers for tensor in net.state_dict().values()]
    take(run)
    after = [tensor for net in run.distillation.teachers for tensor in net.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "running statistics too"
    assert not any(parameter.requires_grad for net in run.distillation.teachers for parameter in net.parameters())
    assert run.state_dict().keys() == trainer(Recipe().override(PLAIN)).state_dict().keys()


def test_a_student_sees_the_images_that_it_would_see_without_a_teacher() -> None:
    alone, run = trainer(Recipe().override(PLAIN | MIXED)), taught(**MIXED)
    seen: dict[str, list[Tensor]] = {"alone": [], "student": [], "teacher": []}
    assert run.distillation is not None
    for name, net in (("alone", alone.net), ("student", run.net), ("teacher", run.distillation.teachers[0])):
        net.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0].clone()))
    take(alone, 2)
    take(run, 2)
    for images in zip(*seen.values(), strict=True):
        assert torch.equal(images[0], images[1])
        assert torch.equal(images[0], images[2])


@pytest.mark.parametrize("diff", [{}, {"optim.sam.rho": 0.05, "model.dropout": 0.5}])
def test_a_resumed_training_is_the_same_bit_by_bit(diff: dict[str, object]) -> None:
    straight, first, second = (taught(**diff) for _ in range(3))
    take(straight, 5)
    take(first, 2)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    take(second, 3)
    assert all(torch.equal(a, b) for a, b in zip(straight.tensors(), second.tensors(), strict=True))


def test_sharpness_aware_minimization_asks_a_teacher_once_in_a_step() -> None:
    run = taught(1, **{"optim.sam.rho": 0.05})
    calls = []
    assert run.distillation is not None
    run.distillation.teachers[0].register_forward_hook(lambda *_: calls.append(1))
    take(run, 2)
    assert len(calls) == 2
    assert all(loss.isfinite() for loss in run.losses[:2])


def test_a_recipe_that_distills_is_not_trained_without_its_teachers() -> None:
    recipe = Recipe().override(SMALL)
    plain = trainer(Recipe().override(PLAIN))
    with pytest.raises(AssertionError, match="teachers"):
        Trainer(recipe, 0, plain.net, plain.split, "fp32")
    with pytest.raises(AssertionError, match="teachers"):
        Trainer(recipe, 0, plain.net, plain.split, "fp32", [teacher(recipe, 1)])
