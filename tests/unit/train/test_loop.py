"""One loop: the same numbers twice, the same numbers after an interruption, and an end when the loss is not finite."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch

from cifar_lab.config.recipe import Recipe
from cifar_lab.data import augmentation
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.errors import Interrupted
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train import loop
from cifar_lab.train.evaluate import Evaluation, confusion, evaluate_network
from cifar_lab.train.loop import TrainingOutcome, fit
from cifar_lab.train.trainer import Trainer

TINY = Recipe().override(
    {
        "model.blocks": [1, 1],
        "model.width": 8,
        "model.dropout": 0.2,
        "train.epochs": 2,
        "train.batch_size": 16,
        "train.ema": 0.5,
        "data.val_fraction": 0.2,
        "data.mixup": 0.4,
        "data.cutmix": 1.0,
        "optim.lookahead.k": 3,
    }
)
"""Everything that holds state is on: momentum, Lookahead, moving average, dropout, mixing."""


def _dataset() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        name="noise",
        kind="synthetic",
        classes=tuple("abcdefghij"),
        train_images=rng.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8),
        train_labels=np.repeat(np.arange(10), 10),
        test_images=rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
        test_labels=np.repeat(np.arange(10), 2),
        hash="noise",
    )


class Recorder:
    """Keeps what it is told, and asks to stop at the steps that it is given."""

    def __init__(self, stop_at: set[tuple[int, int]] = frozenset()) -> None:  # type: ignore[assignment]
        self.values: dict[int, dict[str, float]] = {}
        self.state: bytes = b""
        self._stop_at, self._now = stop_at, (0, 0)

    def step(self, epoch: int, step: int, steps: int) -> None:
        self._now = (epoch, step)

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        timed = {"images_per_second", "seconds", "epoch_seconds"}
        self.values[epoch] = {key: value for key, value in values.items() if key not in timed}

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        file = io.BytesIO()
        torch.save(state, file)
        self.state = file.getvalue()

    def wants_to_stop(self) -> bool:
        return self._now in self._stop_at


def _trainer(recipe: Recipe = TINY, seed: int = 0) -> Trainer:
    torch.set_num_threads(1)
    parts = split(_dataset(), recipe.data, recipe.train.protocol, torch.device("cpu"))
    return Trainer(recipe, seed, build_resnet(recipe.model, seed=seed), parts, "fp32")


def _run(recipe: Recipe = TINY, seed: int = 0) -> tuple[Trainer, Recorder, TrainingOutcome]:
    trainer, recorder = _trainer(recipe, seed), Recorder()
    return trainer, recorder, fit(trainer, recorder)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Trainer, Recorder, TrainingOutcome]:
    return _run()


def test_every_epoch_has_its_metrics(undisturbed: tuple[Trainer, Recorder, TrainingOutcome]) -> None:
    trainer, recorder, outcome = undisturbed
    assert outcome == TrainingOutcome("finished", 2)
    assert set(recorder.values) == {1, 2}
    assert set(recorder.values[2]) == {
        "train/loss", "clean_train/loss", "clean_train/acc", "val/loss", "val/acc", "lr", "grad_norm", "images_seen",
    }  # fmt: skip
    assert recorder.values[2]["images_seen"] == 2 * 80
    assert recorder.values[1]["lr"] == pytest.approx(0.1)
    assert recorder.values[2]["lr"] == pytest.approx(0.05)


def test_recipe_and_seed_give_the_same_numbers_twice(undisturbed: tuple[Trainer, Recorder, TrainingOutcome]) -> None:
    trainer, recorder, _ = undisturbed
    again, same, _ = _run()
    assert same.values == recorder.values
    assert all(torch.equal(a, b) for a, b in zip(trainer.parameters, again.parameters, strict=True))


def test_another_seed_gives_others(undisturbed: tuple[Trainer, Recorder, TrainingOutcome]) -> None:
    assert _run(seed=1)[1].values != undisturbed[1].values


@pytest.mark.parametrize("stop_at", [{(1, 2)}, {(1, 1), (2, 4)}, {(2, 1), (2, 2), (2, 3)}], ids=str)
def test_stopped_and_loaded_it_ends_with_the_same_numbers(
    undisturbed: tuple[Trainer, Recorder, TrainingOutcome], stop_at: set[tuple[int, int]]
) -> None:
    values: dict[int, dict[str, float]] = {}
    state = b""
    for _ in range(len(stop_at) + 1):
        trainer, recorder = _trainer(), Recorder(stop_at)
        if state:
            trainer.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        try:
            fit(trainer, recorder)
        except Interrupted:
            state, stop_at = recorder.state, stop_at - {(trainer.epoch + 1, trainer.step)}
        values |= recorder.values
    assert values == undisturbed[1].values
    assert all(torch.equal(a, b) for a, b in zip(undisturbed[0].parameters, trainer.parameters, strict=True))
    ours, theirs = undisturbed[0].evaluated.state_dict(), trainer.evaluated.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_long_epoch_is_saved_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    saved: list[tuple[int, int]] = []
    trainer, recorder = _trainer(TINY.override({"train.epochs": 1})), Recorder()
    monkeypatch.setattr(recorder, "saved", lambda epoch, step, state: saved.append((epoch, step)))
    fit(trainer, recorder)
    assert saved == [(0, 1), (0, 2), (0, 3), (0, 4)], "the result follows the last step at once"


def test_a_loss_that_is_not_finite_ends_the_training_at_its_step() -> None:
    recipe = TINY.override({"optim.lr": 1e30, "optim.clip.by": "none", "model.batch_norm": False, "train.ema": 0.0})
    trainer, recorder, outcome = _run(recipe)
    assert outcome.status == "diverged"
    assert outcome.epoch == 1
    assert outcome.step is not None
    losses = trainer.losses[: trainer.step]
    assert not math.isfinite(losses[outcome.step - 1])
    assert losses[: outcome.step - 1].isfinite().all()
    assert recorder.values == {}


def test_under_the_writeups_protocol_all_images_train_and_test_is_watched() -> None:
    trainer, recorder, _ = _run(TINY.override({"train.protocol": "writeup", "train.epochs": 1}))
    assert recorder.values[1]["images_seen"] == 100
    assert "test/acc" in recorder.values[1]
    assert not any(name.startswith("val/") for name in recorder.values[1])


def test_under_holdout_no_test_image_is_seen_before_the_end() -> None:
    trainer = _trainer()
    trainer.split.test.images.zero_()
    blanked, recorder = trainer, Recorder()
    fit(blanked, recorder)
    assert recorder.values == _run()[1].values


def test_val_images_never_train() -> None:
    parts = _trainer().split
    assert not set(parts.train.index.tolist()) & set(parts.watched.index.tolist())
    assert set(parts.clean_train.index.tolist()) <= set(parts.train.index.tolist())
    assert torch.bincount(parts.watched.labels[parts.watched.index]).tolist() == [2] * 10


def test_an_evaluation_is_what_numpy_makes_of_the_logits(
    undisturbed: tuple[Trainer, Recorder, TrainingOutcome],
) -> None:
    trainer = undisturbed[0]
    judged = evaluate_network(trainer.evaluated, trainer.split.test, trainer.recipe.data, "fp32")
    dataset = _dataset()
    pixels = (dataset.test_images / 255 - np.array(augmentation.MEAN)) / np.array(augmentation.STD)  # (N, 32, 32, 3)
    with torch.no_grad():
        logits = trainer.evaluated.eval()(torch.from_numpy(pixels).float().permute(0, 3, 1, 2)).double().numpy()
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    assert judged.predictions.tolist() == logits.argmax(1).tolist()
    assert judged.accuracy == (logits.argmax(1) == dataset.test_labels).mean()
    assert judged.loss == pytest.approx(-np.log(shares[np.arange(20), dataset.test_labels]).mean(), abs=1e-5)
    assert judged.confidence.numpy() == pytest.approx(shares.max(1), abs=1e-5)


def test_curves_are_measured_with_one_view_whatever_is_done_at_test_time(
    undisturbed: tuple[Trainer, Recorder, TrainingOutcome],
) -> None:
    _, recorder, _ = _run(TINY.override({"train.tta": "flip_shift"}))
    assert recorder.values == undisturbed[1].values


def test_the_confusion_matrix_has_labels_down_and_predictions_across() -> None:
    labels, predictions = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 2, 1, 1])
    judged = Evaluation(0.0, 0.5, predictions, labels, torch.ones(4, 3))
    assert confusion(judged, classes=3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]


def test_evaluating_changes_nothing(undisturbed: tuple[Trainer, Recorder, TrainingOutcome]) -> None:
    trainer = _trainer()
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    trainer.net.train()
    evaluate_network(trainer.net, trainer.split.test, trainer.recipe.data, "fp32")
    assert trainer.net.training
    assert all(torch.equal(before[name], value) for name, value in trainer.net.state_dict().items())


@pytest.mark.parametrize("batch", [16, 128], ids=["five steps an epoch", "one step an epoch"])
def test_a_stop_at_the_end_of_an_epoch_is_honoured_there(batch: int) -> None:
    recipe = TINY.override({"train.batch_size": batch})
    first = math.ceil(80 / batch)
    trainer, recorder = _trainer(recipe), Recorder({(1, first)})
    with pytest.raises(Interrupted, match="after epoch 1"):
        fit(trainer, recorder)
    assert (trainer.epoch, trainer.step) == (1, 0)
    resumed, rest = _trainer(recipe), Recorder()
    resumed.load_state_dict(torch.load(io.BytesIO(recorder.state), weights_only=True))
    fit(resumed, rest)
    whole, _, _ = _run(recipe)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, resumed.parameters, strict=True))


def test_checkpoints_take_at_most_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of a second and checkpoints of 0.29 seconds: the first is saved, then every fifteenth."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    trainer, recorder, saved = _trainer(TINY.override({"train.epochs": 40, "train.batch_size": 128})), Recorder(), []

    def measured(run: Trainer) -> dict[str, float]:
        now[0] += 1.0
        return {}

    def save(epoch: int, step: int, state: dict[str, Any]) -> None:
        saved.append(epoch)
        now[0] += 0.29

    monkeypatch.setattr(loop, "_measure", measured)
    monkeypatch.setattr(recorder, "saved", save)
    monkeypatch.setattr(loop.Stepper, "take", lambda self: None)
    fit(trainer, recorder)
    assert saved == [1, 16, 31]
    assert 0.29 * (len(saved) - 1) <= loop.SAVING_SHARE * now[0]
