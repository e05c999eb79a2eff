"""Train the seeds of one variant stacked into one network, and compare their speed with that of one seed alone.

    python benchmarks/stacked_seeds.py --device cpu --width 16 --seeds 1,2,4 --steps 20
    python benchmarks/stacked_seeds.py --device cuda --width 16 --seeds 1,2,4,8 --steps 500 --layout contiguous

An experiment that is not part of the lab. k seeds are one network of k × C channels whose convolutions have k groups.
Batch norm over k × C channels is each seed's own, and so are the gates of SE; the classifiers are one batched product.
The loss is the sum of the seeds' losses, so the gradients of each are its own. All that follows is elementwise and
needs no change: clipping by value, SGD with momentum and weight decay, Lookahead. Every seed sees the images in the
order, and with the draws, that it has in the lab. What would mix seeds is refused (`refuse`).

k seeds trained one after the other take k times one's time, so their images/s are those of one alone.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

import torch
import torch.nn.functional as F
from markdown_table import table
from on_gpu import ways
from on_gpu.machine import milliseconds
from side_by_side.results import Spread, ratio
from torch import Tensor, nn

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.images import CIFAR10_SHAPE
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import augmentation
from cifar_lab.data.augmentation import AugmentationDraws
from cifar_lab.data.splits import Split, split
from cifar_lab.models.resnet import ResNet, build_resnet
from cifar_lab.train.precision import Precision, autocast
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

CLASSES = CIFAR10_SHAPE.classes
WARM = {"cpu": 2, "cuda": 10}
"""Warm-up steps; on CUDA two graphs are captured during them, with and without Lookahead's interpolation."""


def refuse(recipe: Recipe, precision: Precision) -> None:
    """Raise ValueError for a recipe that would mix the seeds, or that is not implemented."""
    model, data, optim = recipe.model, recipe.data, recipe.optim
    reasons = {
        "dropout draws in the step": model.dropout > 0,
        "whitening and a second linear layer are not stacked": model.stem == "whitening" or model.extra_fc is not None,
        "the partner in a mix is the image before": data.mixup > 0 or data.cutmix > 0,
        "clipping by norm scales all gradients by one factor": optim.clip.by == "norm",
        "Muon multiplies whole matrices": optim.name == "muon",
        "fp16 has one scale for all losses": precision == "fp16",
    }
    if any(reasons.values()):
        raise ValueError(f"cannot stack the seeds: {'; '.join(reason for reason, is_so in reasons.items() if is_so)}")


class Linears(nn.Module):
    """Apply the linear layer of each seed to its own features, as one batched product."""

    def __init__(self, seeds: int, features: int, out: int) -> None:
        super().__init__()
        self.seeds = seeds
        self.weight = nn.Parameter(torch.empty(seeds * out, features))
        self.bias = nn.Parameter(torch.empty(seeds * out))

    def forward(self, x: Tensor) -> Tensor:  # (B, seeds * features) -> (B, seeds * out)
        weight = self.weight.unflatten(0, (self.seeds, -1)).transpose(1, 2)  # (seeds, features, out)
        bias = self.bias.view(self.seeds, 1, -1)
        return torch.baddbmm(bias, x.unflatten(1, (self.seeds, -1)).transpose(0, 1), weight).transpose(0, 1).flatten(1)


def grouped(nets: Sequence[ResNet], layout: torch.memory_format) -> nn.Module:
    """Return one network that holds `nets` side by side: (B, k * 3, 32, 32) -> (B, k * 10).

    Its parameters have the names of one network's, and those of seed i are the i-th of k equal parts.
    """
    k, stacked = len(nets), copy.deepcopy(nets[0])
    for module in list(stacked.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                side = child.kernel_size[0]
                wide: nn.Module = nn.Conv2d(
                    k * child.in_channels, k * child.out_channels, side, stride=child.stride[0], padding=side // 2,
                    groups=k, bias=child.bias is not None,
                )  # fmt: skip
            elif isinstance(child, nn.BatchNorm2d):
                wide = nn.BatchNorm2d(k * child.num_features)
            elif isinstance(child, nn.Linear):
                wide = Linears(k, child.in_features, child.out_features)
            else:
                continue
            setattr(module, name, wide)
    states = [net.state_dict() for net in nets]
    first = next(nets[0].parameters())
    stacked.to(device=first.device, dtype=first.dtype)
    stacked.load_state_dict(
        # batch norm counts its batches in a tensor without dimensions, and the same in every seed
        {name: torch.cat([state[name] for state in states]) if one.ndim else one for name, one in states[0].items()}
    )
    stacked.memory_format = layout
    return stacked.to(memory_format=layout)


class StackedTrainer(Trainer):
    """Train several seeds as one; the optimizer and Lookahead need no change."""

    def __init__(
        self, recipe: Recipe, seeds: Sequence[int], net: nn.Module, split: Split, precision: Precision
    ) -> None:
        refuse(recipe, precision)
        super().__init__(recipe, seeds[0], net, split, precision)
        self.seeds = list(seeds)
        self.losses = torch.zeros(self.steps_per_epoch, len(seeds), device=self.device)
        self.norms = torch.zeros_like(self.losses)

    def state_of(self, i: int) -> dict[str, Tensor]:
        """Return the parameters and buffers of the i-th seed, named and shaped as in a network of its own."""
        state, k = self.net.state_dict(), len(self.seeds)
        return {name: tensor.chunk(k)[i] if tensor.ndim else tensor for name, tensor in state.items()}


class StackedStepper(Stepper):
    """Take the steps of all seeds of a `StackedTrainer` at once, eagerly or as one CUDA graph."""

    run: StackedTrainer

    def _drawn(self, epoch: int) -> AugmentationDraws:
        """Return the draws of every seed, (n, k, …)."""
        run = self.trainer
        each = [
            augmentation.draw_epoch(run.recipe.data, len(run.split.train), seed=seed, epoch=epoch) for seed in run.seeds
        ]
        return _of_draws(lambda *tensors: torch.stack(tensors, 1), *each)

    def _step(self, offsets: Tensor, moves: bool) -> None:
        run, recipe, k = self.trainer, self.trainer.recipe, len(self.trainer.seeds)
        assert self._draws is not None, "begin_epoch comes first"
        here = _of_draws(lambda tensor: tensor.flatten(0, 1), self._draws.at(self._at * len(self._offsets) + offsets))
        self._set_rate()
        images, labels = run.split.train.take(here.order)  # (B * k, …): the seeds of one position are neighbours
        inputs, targets = augmentation.augment(images, labels, here, recipe.data)
        inputs = inputs.unflatten(0, (-1, k)).flatten(1, 2)  # (B, k * 3, 32, 32)
        with autocast(run.precision, run.device):
            logits = run.forward(inputs).view(-1, CLASSES)
        smoothing = recipe.train.label_smoothing
        each = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing, reduction="none")
        losses = each.view(-1, k).mean(0)
        run.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        gradients = [parameter.grad for parameter in run.parameters if parameter.grad is not None]
        parts = torch._foreach_norm([part for gradient in gradients for part in gradient.chunk(k)])
        norms = torch.linalg.vector_norm(torch.stack(parts).view(-1, k), dim=0)
        if recipe.optim.clip.by == "value":
            nn.utils.clip_grad_value_(run.parameters, recipe.optim.clip.threshold)
        run.optimizer.step()
        if moves and run.lookahead is not None:
            run.lookahead.interpolate()
        if run.ema is not None:
            run.ema.step()
        run.losses.index_copy_(0, self._at, losses.detach().to(run.losses.dtype)[None])
        run.norms.index_copy_(0, self._at, norms.detach().to(run.norms.dtype)[None])
        self._at.add_(1)


def _of_draws(change: Callable[..., Tensor], *draws: AugmentationDraws) -> AugmentationDraws:
    return AugmentationDraws(
        **{each.name: change(*(getattr(one, each.name) for one in draws)) for each in fields(AugmentationDraws)}
    )


def noise(recipe: Recipe, images: int, device: torch.device) -> Split:
    """Return `images` random training images; the speed of a step does not depend on their content."""
    return split(ways.noise(images), recipe.data, "writeup", device)


class Contender:
    """One way to train, which stands where timing may begin, with the images/s of all its seeds by round."""

    def __init__(self, name: str, run: Trainer, kind: type[Stepper], options: argparse.Namespace, graph: bool) -> None:
        self.trainer, self.rates, self.seeds = run, list[float](), len(getattr(run, "seeds", [0]))
        if options.compile:
            run.forward = torch.compile(run.net, dynamic=False)
        self.name, self.stepper = f"{name}{', graph' * graph}", kind(run, graph=graph)
        self.stepper.begin_epoch()
        self.take(WARM[options.device])
        if graph and not self.stepper.captured:
            print(f"{self.name}: no graph, {self.stepper.refused}")

    def take(self, steps: int) -> None:
        """Take steps of the running epoch, timed by the device's clock."""

        def step() -> None:
            self.stepper.take()
            self.trainer.step += 1

        with self.stepper.on_its_stream():
            seconds = milliseconds(self.trainer.device, step, steps) / 1000
        self.rates.append(self.trainer.recipe.train.batch_size * self.seeds / seconds)


def contenders(options: argparse.Namespace) -> list[Contender]:
    """Return one seed alone, as the lab trains it, and then the stacked ones."""
    device = torch.device(options.device)
    precision: Precision = options.precision or ("bf16" if device.type == "cuda" else "fp32")
    recipe = EFFICIENT_RESNET.override({"model.width": options.width, "train.protocol": "writeup"})
    images = noise(recipe, (WARM[device.type] + options.steps) * recipe.train.batch_size, device)
    layout = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format
    graphs, made = ((False, True) if device.type == "cuda" else (False,)), list[Contender]()
    for graph in graphs:
        net = build_resnet(recipe.model, seed=0, device=device)
        made.append(Contender("one alone", Trainer(recipe, 0, net, images, precision), Stepper, options, graph))
    for k in options.counts:
        net = grouped([build_resnet(recipe.model, seed=seed, device=device) for seed in range(k)], layout)
        run = StackedTrainer(recipe, range(k), net, images, precision)
        made.append(Contender(f"{k} stacked", run, StackedStepper, options, graphs[-1]))
    return made


def lines(made: Sequence[Contender]) -> Iterator[str]:
    """Yield a table of images/s and their ratios to each way of one alone: medians over the rounds, with extremes."""
    rates = {one.name: Spread(tuple(one.rates)) for one in made}
    alone = [name for name in rates if name.startswith("one alone")]
    rows = ([name, mine, *(ratio(mine, rates[other]) for other in alone)] for name, mine in rates.items())
    return table(["", "images/s", *(f"÷ {name}" for name in alone)], rows)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(WARM), default="cpu")
    parser.add_argument("--width", type=int, default=16, help="of the network")
    parser.add_argument("--seeds", default="1,2,4", help="how many are stacked")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each way; on a GPU take hundreds")
    parser.add_argument("--rounds", type=int, default=10, help="parts of the steps, in which the ways take turns")
    parser.add_argument("--layout", choices=["channels_last", "contiguous"], default="channels_last")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: bf16 on CUDA, fp32 on a CPU")
    parser.add_argument("--compile", action="store_true", help="compile the networks of all ways")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; the lab's workers have one each")
    options = parser.parse_args(words)
    options.counts = [int(count) for count in options.seeds.split(",")]
    torch.set_num_threads(options.threads)
    if options.compile:
        torch._dynamo.config.recompile_limit = 64  # every network is compiled from the same lines
    made, rounds = contenders(options), max(1, min(options.rounds, options.steps))
    for one in made:
        one.rates.clear()  # those of the warm-up
    steps = options.steps // rounds
    for _ in range(rounds):
        for one in made:
            one.take(steps)
    print(
        f"width {options.width}, {options.device}, {made[0].trainer.precision}, {options.layout}"
        f"{', compiled' * options.compile}; {rounds} rounds of {steps} steps; torch {torch.__version__}\n"
    )
    print("\n".join(lines(made)))


if __name__ == "__main__":
    main()
