"""Stochastic weight averaging against torch's own, the rate under it, and what is evaluated when."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, update_bn
from unit.train.test_loop import Recorder, _dataset

from cifar_lab.config.recipe import Recipe
from cifar_lab.data import augmentation
from cifar_lab.data.splits import split
from cifar_lab.errors import RecipeError
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train.evaluate import evaluate_network
from cifar_lab.train.loop import fit
from cifar_lab.train.lr_schedule import averaged_after, lr_at, rate_at
from cifar_lab.train.trainer import Trainer

ON = Recipe().override(
    {
        "model.blocks": [1, 1], "model.width": 8, "train.epochs": 4, "train.batch_size": 16, "data.val_fraction": 0.2,
        "train.swa.enabled": True, "train.swa.start": 0.25, "data.mixup": 0.4,
    }
)  # fmt: skip
STEPS = 5  # 80 training images


def trainer(recipe: Recipe = ON) -> Trainer:
    torch.set_num_threads(1)
    parts = split(_dataset(), recipe.data, recipe.train.protocol, torch.device("cpu"))
    return Trainer(recipe, 0, build_resnet(recipe.model, seed=0), parts, "fp32")


class Follower(Recorder):
    """Feeds torch's average with the network at given numbers of steps."""

    def __init__(self, run: Trainer, points: set[int]) -> None:
        super().__init__()
        self.run, self.points, self.average = run, points, AveragedModel(run.net)
        self.taken: list[list[Tensor]] = []

    def step(self, epoch: int, step: int, steps: int) -> None:
        super().step(epoch, step, steps)
        if (epoch - 1) * steps + step in self.points:
            self.average.update_parameters(self.run.net)
            self.taken.append([parameter.detach().clone() for parameter in self.run.parameters])


@pytest.mark.parametrize(
    ("diff", "points"),
    [({}, {10, 15, 20}), ({"train.swa.schedule": "cyclic", "train.swa.cycle": 0.2}, {9, 13, 16, 20})],
    ids=["constant", "cyclic"],
)
def test_the_network_that_is_kept_is_torchs_average_with_statistics_of_the_training_images(
    diff: dict[str, object], points: set[int]
) -> None:
    recipe = ON.override(diff)
    run = trainer(recipe)
    follower = Follower(run, points)
    assert fit(run, follower).status == "finished"
    assert len(follower.taken) == len(points)
    for ours, *taken in zip(run.evaluated.parameters(), *follower.taken, strict=True):
        torch.testing.assert_close(ours, torch.stack(taken).mean(0), rtol=1e-5, atol=1e-6)
    draws = augmentation.draw_epoch(recipe.data, 80, seed=0, epoch=4)
    images = [
        augmentation.augment(*run.split.train.take(draws[at : at + 16].order), draws[at : at + 16], recipe.data)[0]
        for at in range(0, 80, 16)
    ]
    update_bn(images, follower.average)
    wanted = follower.average.module.state_dict()
    for name, value in run.evaluated.state_dict().items():
        assert torch.equal(value, wanted[name]), name


def test_statistics_of_the_mean_are_not_those_of_the_network() -> None:
    run = trainer()
    fit(run, Recorder())
    mean, last = run.evaluated.state_dict(), run.net.state_dict()
    assert all(not torch.equal(mean[name], last[name]) for name in mean if "running" in name)


def test_the_curve_is_that_of_the_network_until_the_last_epoch_and_ends_with_the_mean() -> None:
    run, recorder = trainer(), Recorder()
    other, plain = trainer(ON.override({"train.swa.start": 0.8})), Recorder()
    assert run.evaluated is run.net
    fit(run, recorder)
    fit(other, plain)
    assert recorder.values[1] == plain.values[1], "until weights are averaged the training is the same"
    judged = evaluate_network(run.evaluated, run.split.watched, run.recipe.data, "fp32")
    assert run.evaluated is not run.net
    assert recorder.values[4]["val/loss"] == judged.loss
    assert evaluate_network(run.net, run.split.watched, run.recipe.data, "fp32").loss != judged.loss


@pytest.mark.parametrize("stop", [(1, 3), (2, 5), (3, 2), (4, 4)], ids=str)
@pytest.mark.parametrize("schedule", ["constant", "cyclic"])
def test_stopped_and_resumed_it_ends_with_the_same_bits(stop: tuple[int, int], schedule: str) -> None:
    from cifar_lab.errors import Interrupted

    recipe = ON.override({"train.swa.schedule": schedule, "train.swa.cycle": 0.1, "model.stochastic_depth": 0.3})
    straight, stopped, resumed = (trainer(recipe) for _ in range(3))
    fit(straight, Recorder())
    recorder = Recorder({stop})
    with pytest.raises(Interrupted):
        fit(stopped, recorder)
    torch.manual_seed(5)  # another process
    resumed.load_state_dict(torch.load(io.BytesIO(recorder.state), weights_only=True))
    fit(resumed, Recorder())
    ours, theirs = straight.evaluated.state_dict(), resumed.evaluated.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def rates(**diff: Any) -> list[float]:
    recipe = Recipe().override(
        {"train.epochs": 10, "train.swa.enabled": True, "train.swa.start": 0.6, "optim.lr": 1.0, **diff}
    )
    return [rate_at(recipe, step, 10) for step in range(100)]


def test_until_it_starts_the_rate_is_the_schedules_and_then_constant() -> None:
    schedule = Recipe().schedule
    scheduled = [lr_at(schedule, 1.0, step=step, steps_per_epoch=10, epochs=10) for step in range(100)]
    assert rates()[:60] == scheduled[:60]
    assert set(rates()[60:]) == {scheduled[60]}
    assert set(rates(**{"train.swa.rate": 0.5})[60:]) == {0.5}
    assert rates(**{"train.swa.enabled": False}) == scheduled


def test_a_cyclic_rate_falls_linearly_in_each_cycle() -> None:
    cyclic = rates(
        **{"train.swa.schedule": "cyclic", "train.swa.rate": 0.8, "train.swa.cycle": 0.1, "train.swa.final": 0.25}
    )
    fall = [0.8 - step * 0.6 / 9 for step in range(10)]
    assert cyclic[60:] == pytest.approx(fall * 4)


@pytest.mark.parametrize("cycle", [0.001, 0.03, 0.07, 0.3, 1.0])
@pytest.mark.parametrize("start", [0.0, 0.33, 0.75, 0.999])
def test_cycles_divide_the_rest_of_the_training_and_the_last_ends_with_it(cycle: float, start: float) -> None:
    recipe = Recipe().override(
        {
            "train.epochs": 7, "train.swa.enabled": True, "train.swa.start": start, "train.swa.schedule": "cyclic",
            "train.swa.cycle": cycle,
        }
    )  # fmt: skip
    ends = averaged_after(recipe, 13)
    assert list(ends) == sorted(set(ends))
    assert ends[-1] == 91
    first = min(90, round(start * 91))
    lengths = [after - before for before, after in zip((first, *ends), ends, strict=False)]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1
    tops = [rate_at(recipe, end, 13) for end in (first, *ends[:-1])]
    assert tops == pytest.approx([rate_at(recipe, first, 13)] * len(tops))


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_however_short_a_training_is_its_end_is_averaged(epochs: int) -> None:
    recipe = ON.override({"train.epochs": epochs, "train.swa.start": 0.99})
    assert averaged_after(recipe, 5) == (5 * epochs,)


@pytest.mark.parametrize(
    ("diff", "rule"),
    [
        ({"train.ema": 0.99}, "train.ema=0.99 and train.swa.enabled=true both replace the evaluated network"),
        ({"schedule.warmup": 0.5}, "train.swa.start=0.25 lies within schedule.warmup=0.5"),
        ({"train.swa.start": 1.0}, "train.swa.start=1.0"),
        ({"train.swa.rate": 0.0}, "train.swa.rate=0.0"),
        ({"train.swa.schedule": "cylic"}, "did you mean 'cyclic'?"),
    ],
)
def test_combinations_without_a_meaning_are_refused_in_one_line(diff: dict[str, object], rule: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ON.override(diff)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)
