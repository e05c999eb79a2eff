"""One training step, from the images to the updated weights: taken eagerly, or replayed as one CUDA graph.

A step does not use the host. Image indices, learning rate, and the position of the loss are read from tensors on the
device, which the step itself advances. Random numbers are drawn for a whole epoch ahead (`augmentation.draw_epoch`);
only dropout and stochastic depth draw in the step, from a generator that is seeded before each one. So the same code
runs eagerly on every device, and is captured on CUDA, where launching its roughly 500 kernels one by one takes longer
than computing them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lab.config.built_in_names import MODELS
from cifar_lab.config.recipe import ModelConfig
from cifar_lab.config.seeding import stream
from cifar_lab.data import augmentation
from cifar_lab.data.augmentation import AugmentationDraws
from cifar_lab.errors import first_line
from cifar_lab.train.consistency import consistency_loss
from cifar_lab.train.grad_clip import clip
from cifar_lab.train.precision import autocast
from cifar_lab.train.trainer import Trainer

EAGER_FIRST = 3
"""Eager steps before a capture, during which cuDNN, cuBLAS, a compiler and the optimizer allocate their state."""


class Stepper:
    """Take the training steps of `trainer`, whose state stays in `trainer` and is saved and loaded there.

    With `graph`, full batches are replayed as a CUDA graph from the fourth one on. Each graph is compared with the
    eager step that it replaces, bit for bit, when it is captured; if it differs, or cannot be captured, all steps stay
    eager and `refused` says why. The last, smaller batch of an epoch is always eager.

    Attributes:
        refused: reason why no graph is used; empty if there is none.
    """

    def __init__(self, trainer: Trainer, *, graph: bool = False) -> None:
        self.trainer = trainer
        self.refused = why_no_graph(trainer) if graph else ""
        graph = graph and not self.refused
        self._draws_in_step = _draws_in_step(trainer.recipe.model)
        self._wanted = graph
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        """Graphs by whether Lookahead interpolates in the step."""
        self._stream = torch.cuda.Stream(trainer.device) if graph else None
        self._eager = 0
        batch = trainer.recipe.train.batch_size
        self._offsets = torch.arange(batch, device=trainer.device)
        self._at = torch.zeros(1, dtype=torch.int64, device=trainer.device)
        """Step of the epoch, (1,), equal to `trainer.step` on the host."""
        self._numbers: list[float] = []
        self._rates = torch.zeros(trainer.steps_per_epoch, device=trainer.device)
        """Learning rate of each step of the epoch, (steps,)."""
        self._draws: AugmentationDraws | None = None
        self._ahead: tuple[int, Future[AugmentationDraws]] | None = None
        self._drawer = ThreadPoolExecutor(1, "draws") if trainer.device.type == "cuda" else None

    @property
    def captured(self) -> bool:
        """Tell whether a graph is replayed."""
        return bool(self._graphs)

    def begin_epoch(self) -> None:
        """Draw the random numbers of the epoch `trainer.epoch`, and set the position to its step `trainer.step`."""
        trainer = self.trainer
        trainer.net.train()
        with self.on_its_stream():
            drawn = self._drawn(trainer.epoch)
            if self._draws is None or not self._wanted:
                self._draws = _moved(drawn, trainer.device)
            else:  # a graph reads the memory that it was captured with
                for field in fields(AugmentationDraws):
                    getattr(self._draws, field.name).copy_(getattr(drawn, field.name))
            self._numbers = [trainer.lr(step) for step in range(trainer.steps_per_epoch)]
            if trainer.rate is not None:
                self._rates.copy_(torch.tensor(self._numbers))
            self._at.fill_(trainer.step)

    def take(self) -> None:
        """Take the step `trainer.step` of the current epoch; the caller increments it."""
        trainer, batch = self.trainer, self.trainer.recipe.train.batch_size
        left = len(trainer.split.train) - trainer.step * batch
        moves = trainer.lookahead is not None and trainer.lookahead.advance()
        with self.on_its_stream():
            if not self._wanted or left < batch:
                self._take_eagerly(self._offsets[:left], moves)
            elif self._eager < EAGER_FIRST:
                self._eager += 1
                self._take_eagerly(self._offsets, moves)
            elif moves in self._graphs:
                self._seed_draws()
                self._graphs[moves].replay()
            else:
                self._take_and_capture(moves)
        trainer.images_seen += min(left, batch)

    @contextmanager
    def on_its_stream(self) -> Iterator[None]:
        """Run the context on the stream on which graphs are captured; each step does so itself.

        Entered around a whole training, it avoids switching streams in each step.
        """
        if self._stream is None or self._stream == (here := torch.cuda.current_stream(self.trainer.device)):
            yield
            return
        self._stream.wait_stream(here)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            here.wait_stream(self._stream)

    def close(self) -> None:
        """End the thread that draws in advance."""
        if self._drawer is not None:
            self._drawer.shutdown(cancel_futures=True)
            self._drawer = self._ahead = None

    def _drawn(self, epoch: int) -> AugmentationDraws:
        """Return the draws of `epoch` on the CPU; with a GPU, those of the next epoch are made in parallel."""
        trainer = self.trainer

        def draw(epoch: int) -> AugmentationDraws:
            count, side = len(trainer.split.train), trainer.split.shape.side
            return augmentation.draw_epoch(
                trainer.recipe.data, count, seed=trainer.seed_of_draws, epoch=epoch, side=side
            )

        if self._drawer is None:
            return draw(epoch)
        ahead, self._ahead = self._ahead, None
        drawn = ahead[1].result() if ahead is not None and ahead[0] == epoch else draw(epoch)
        if epoch + 1 < trainer.recipe.train.epochs:
            self._ahead = epoch + 1, self._drawer.submit(draw, epoch + 1)
        return drawn

    def _take_and_capture(self, moves: bool) -> None:
        """Take one step eagerly and once more as a new graph, which is kept if both give the same bits."""
        trainer = self.trainer
        state = [*trainer.tensors(), self._at]
        before = [tensor.clone() for tensor in state]
        self._take_eagerly(self._offsets, moves)
        eager = [tensor.clone() for tensor in state]
        try:
            torch._foreach_copy_(state, before)
            graph = self._capture(moves)
            self._seed_draws()
            graph.replay()
            same = all(_same(mine, theirs) for mine, theirs in zip(state, eager, strict=True))
            if not same:
                self.refused = "its numbers differ from the eager step's"
        except RuntimeError as error:  # torch has no narrower class for a failed capture
            self.refused = first_line(error) or type(error).__name__
        if self.refused:
            self._wanted = False
            self._graphs.clear()
            torch._foreach_copy_(state, eager)
            trainer.optimizer.zero_grad(set_to_none=True)
            if trainer.scaler is not None:  # it keeps state on the host
                trainer.scaler._per_optimizer_states.clear()
            if trainer.device.type == "cuda":
                _end_capture_of_chance(trainer.device)
            return
        self._graphs[moves] = graph

    def _capture(self, moves: bool) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        pool = next((other.pool() for other in self._graphs.values()), None)
        self.trainer.optimizer.zero_grad(set_to_none=True)  # a graph keeps its gradients in its own memory
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            self._step(self._offsets, moves)
        return graph

    def _take_eagerly(self, offsets: Tensor, moves: bool) -> None:
        self._seed_draws()
        self._step(offsets, moves)

    def _seed_draws(self) -> None:
        """Seed the generator from which the layers that draw do so in their order, stochastic depth before dropout."""
        trainer = self.trainer
        if self._draws_in_step:
            torch.manual_seed(stream(trainer.seed_of_draws, "dropout", trainer.epoch, trainer.step))

    def _step(self, offsets: Tensor, moves: bool) -> None:
        """Train on the images at `offsets`, (B,), of the batch; `moves`: whether Lookahead interpolates."""
        trainer, recipe, draws = self.trainer, self.trainer.recipe, self._draws
        assert draws is not None, "begin_epoch comes first"
        here = draws.at(self._at * recipe.train.batch_size + offsets)
        self._set_rate()
        images, labels = trainer.split.train.take(here.order)
        inputs, targets = augmentation.augment(images, labels, here, recipe.data, trainer.split.classes)
        trainer.optimizer.zero_grad(set_to_none=True)
        taught = trainer.distillation
        seen = inputs[: len(labels)]  # without the views of AugMix's consistency
        # The soft targets are the same for both passes of SAM.
        soft = taught.soft_targets(seen, trainer.precision) if taught is not None else None
        loss = self._pass(inputs, targets, soft)
        if trainer.sam is not None:
            self._seed_draws()  # both passes have one mask
            trainer.sam.second_pass(lambda: self._pass(inputs, targets, soft))
        if trainer.scaler is not None:
            trainer.scaler.unscale_(trainer.optimizer)
        if trainer.callbacks.after_each_backward:
            trainer.callbacks.after_backward(trainer)
        norm = clip(trainer.parameters, recipe.optim.clip)
        if trainer.scaler is None:
            trainer.optimizer.step()
        else:
            trainer.scaler.step(trainer.optimizer)
            trainer.scaler.update()
        if moves and trainer.lookahead is not None:
            trainer.lookahead.interpolate()
        if trainer.ema is not None:
            trainer.ema.step()
        if trainer.callbacks.after_each_step:
            trainer.callbacks.after_step(trainer)
        trainer.losses.index_copy_(0, self._at, loss.detach().to(trainer.losses.dtype).reshape(1))
        trainer.norms.index_copy_(0, self._at, norm.detach().to(trainer.norms.dtype).reshape(1))
        self._at.add_(1)

    def _pass(self, inputs: Tensor, targets: Tensor, soft_targets: Tensor | None) -> Tensor:
        """Take a forward and a backward pass, and return the loss, (); gradients are scaled in fp16.

        `soft_targets`: log-probabilities of the teachers, (B, classes); None without teachers.
        """
        trainer, policy = self.trainer, self.trainer.recipe.data.policy
        with autocast(trainer.precision, trainer.device):
            logits = trainer.forward(inputs)
        views = logits.float().chunk(policy.views)
        loss = F.cross_entropy(views[0], targets, label_smoothing=trainer.recipe.train.label_smoothing)
        if trainer.distillation is not None and soft_targets is not None:
            loss = trainer.distillation.loss(views[0], soft_targets, loss)
        if policy.views > 1:
            loss = loss + policy.consistency * consistency_loss(views)
        (loss if trainer.scaler is None else trainer.scaler.scale(loss)).backward()
        return loss

    def _set_rate(self) -> None:
        trainer = self.trainer
        if trainer.rate is not None:
            trainer.rate.copy_(self._rates.index_select(0, self._at).squeeze(0))
            return
        for group in trainer.optimizer.param_groups:
            group["lr"] = self._numbers[trainer.step]


def why_no_graph(trainer: Trainer) -> str:
    """Return the reason why a training's steps cannot be a CUDA graph, or an empty string."""
    name = trainer.recipe.optim.name
    if trainer.device.type != "cuda":
        return f"a {trainer.device.type} device has no CUDA graphs"
    if trainer.rate is None:
        return f"{name} takes its learning rate from the host"
    if trainer.scaler is not None and not getattr(trainer.optimizer, "_step_supports_amp_scaling", False):
        # torch's gradient scaler waits for the device before each step of such an optimizer
        return f"{name} in fp16 waits to know whether a step is left out"
    if trainer.sam is not None and _draws_in_step(trainer.recipe.model):
        return "sharpness-aware minimization seeds dropout's generator twice in a step"
    return trainer.callbacks.why_eager


def _draws_in_step(model: ModelConfig) -> bool:
    """Tell whether a network draws random numbers in training, as a user's may."""
    return bool(model.dropout or model.stochastic_depth) or model.name not in MODELS.built_in


def _same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are equal, with NaN in the same places, as in skipped fp16 steps."""
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _moved(draws: AugmentationDraws, device: torch.device) -> AugmentationDraws:
    return AugmentationDraws(
        **{field.name: getattr(draws, field.name).to(device) for field in fields(AugmentationDraws)}
    )


def _end_capture_of_chance(device: torch.device) -> None:
    """Reset the device's generator after a failed capture: torch leaves it waiting for the capture's end.

    Otherwise dropout would raise "Offset increment outside graph capture" (seen with torch 2.11).
    """
    index = device.index if device.index is not None else torch.cuda.current_device()
    generator = torch.cuda.default_generators[index]
    generator.graphsafe_set_state(generator.clone_state())
