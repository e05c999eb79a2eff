"""Check that the lab computes the same on the GPU as on the CPU, twice, after a resume, and as a CUDA graph."""

from __future__ import annotations

import copy
import importlib.util
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lab.config.recipe import EFFICIENT_RESNET, Recipe
from cifar_lab.errors import Interrupted
from cifar_lab.models.resnet import build
from cifar_lab.train.loop import fit
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer
from on_gpu.machine import synchronise
from on_gpu.pack import Pack
from on_gpu.ways import RECIPES, TINY, noise, trainer_of

TRAJECTORY = Path(__file__).parents[2] / "tests/golden/test_trajectory.py"
GOLDEN = 1e-3
"""Largest relative distance of a loss from the golden trajectory, which was written on a CPU."""
FURTHER_THAN_CPU = 1.5
"""Maximum error of the device's logits and gradients against fp64, as a multiple of this machine's CPU's.

The error of a gradient exceeds rounding: a ReLU near zero may be active in one precision and not in another. For the
untrained width 64 it is 0.40 to 0.45 of the gradient's length in bf16 on a CPU too, so the CPU's error is the limit.
"""
CASES = {
    "efficient": RECIPES["efficient"],
    "mixed, dropout": RECIPES["mixed"].override({"model.dropout": 0.2}),
    "fast": RECIPES["fast"],
    "adam": EFFICIENT_RESNET.override({"optim.name": "adam", "optim.lr": 1e-3}),
    "pooled": RECIPES["fast"].override({"model.stem_pool": True}),
}
TRAININGS = {
    "eager": (False, None), "again": (False, None), "graph": (True, None), "resumed": (False, (2, 2)),
    "graph, resumed": (True, (2, 2)),
}  # fmt: skip
"""By name: whether with a graph, and the epoch and step after which the training is stopped and resumed."""
SAME = {
    "twice": "again", "killed and resumed": "resumed", "graph = eager": "graph",
    "graph, killed and resumed": "graph, resumed",
}  # fmt: skip
"""By check: the training that ends where the eager one does."""


class Watch:
    """Keep the last saved state in memory, and stop after a step."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.stop, self.now, self.state = stop, (0, 0), b""

    def step(self, epoch: int, step: int, steps: int) -> None:  # noqa: ARG002 (an Observer)
        self.now = (epoch, step)

    def epoch(self, epoch: int, values: dict[str, float]) -> None: ...

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None:  # noqa: ARG002 (an Observer)
        self.state = dumped(state)

    def wants_to_stop(self) -> bool:
        return self.now == self.stop


def dumped(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def load(trainer: Trainer, state: bytes) -> None:
    trainer.load_state_dict(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))


def run(pack: Pack) -> None:
    """Run all checks."""
    pack.attempt("golden", golden, pack)
    pack.attempt("fp64", against_fp64, pack)
    for name, recipe in CASES.items():
        for precision in ("bf16", "fp32"):
            pack.attempt(f"identity: {name}, {precision}", identity, pack, name, recipe, precision)


def golden(pack: Pack) -> None:
    """Compare the first losses with the golden trajectory, and with this machine's CPU."""
    place = importlib.util.spec_from_file_location("golden_trajectory", TRAJECTORY)
    written = importlib.util.module_from_spec(place)
    place.loader.exec_module(written)

    def furthest(losses: list[float], others: list[float]) -> float:
        return max(abs(a / b - 1) for a, b in zip(losses, others, strict=True))

    for name, diff in written.RECIPES.items():
        with one_thread():
            here, cpu = written.losses(diff, pack.device.type), written.losses(diff)
        off = furthest(here, written.GOLDEN[name])
        told = f"at most {off:.1e} from the file (limit {GOLDEN:g}), {furthest(here, cpu):.1e} from the CPU here"
        pack.check(f"golden trajectory: {name}", off < GOLDEN, told)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on the CPU with one thread, as the golden test does; with 16, torch 2.11 crashed in a backward pass."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def identity(pack: Pack, name: str, recipe: Recipe, precision: str) -> None:
    """Compare trainings of a recipe bit for bit: twice, stopped and resumed, eager and as a graph."""
    pack.needs(3, "four trainings")
    small = {**pack.size({"train.batch_size": 32}, TINY), "train.epochs": 2, "model.width": pack.size(16, 8)}
    recipe, data = recipe.override(small), noise(pack.size(400, 70))
    ends, refused = dict[str, list[Tensor]](), dict[str, str]()

    def make(graph: bool) -> Trainer:
        trainer = trainer_of(pack, recipe, precision, data=data)
        trainer.graph = graph
        return trainer

    for which, (graph, stop) in TRAININGS.items():
        trainer, watch = make(graph), Watch(stop)
        try:
            outcome = fit(trainer, watch)
        except Interrupted:
            trainer = make(graph)
            load(trainer, watch.state)
            outcome = fit(trainer, Watch())
        nets = [trainer.net] if trainer.evaluated is trainer.net else [trainer.net, trainer.evaluated]
        ends[which] = [tensor.detach().clone() for net in nets for tensor in net.state_dict().values()]
        refused[which] = outcome.eager
    for check, other in SAME.items():
        same = all(torch.equal(a, b) for a, b in zip(ends["eager"], ends[other], strict=True))
        told = f"{'bit-equal' if same else 'NOT bit-equal'} after {2 * trainer.steps_per_epoch} steps"
        if refused[other]:  # two eager trainings prove nothing of a graph
            same, told = (False if pack.is_cuda else None), f"{told}, but no graph: {refused[other]}"
        pack.check(f"{check}: {name}, {precision}", same, told)
    state = dumped(trainer.state_dict())
    for graph in (False, True):
        _no_wait(pack, f"{name}, {precision}", make, state, graph)


def _no_wait(pack: Pack, name: str, make: Callable[[bool], Trainer], state: bytes, graph: bool) -> None:
    """Take steady steps, and steps after a resume, while torch raises an error for each wait of the host."""
    for when in ("from the start", "after a resume"):
        trainer, refusal = make(graph), ""
        if when == "after a resume":
            load(trainer, state)
            trainer.epoch, trainer.step = 1, 0
        stepper = Stepper(trainer, graph=graph)
        stepper.begin_epoch()

        def take(steps: int, trainer: Trainer = trainer, stepper: Stepper = stepper) -> None:
            for _ in range(steps):
                stepper.take()
                trainer.step += 1

        take(pack.size(trainer.steps_per_epoch - 3, 1))
        synchronise(pack.device)
        try:
            if pack.is_cuda:
                torch.cuda.set_sync_debug_mode("error")
            take(2)
        except RuntimeError as error:
            refusal = str(error).splitlines()[0][:200]
        finally:
            if pack.is_cuda:
                torch.cuda.set_sync_debug_mode("default")
        stepper.close()
        asked = "" if stepper.captured or not graph else f"; no graph: {stepper.refused or 'not captured yet'}"
        check = f"no wait in a step, {'graph' if graph else 'eager'}, {when}: {name}"
        pack.check(check, not refusal if pack.is_cuda else None, (refusal or "2 steps") + asked)


def against_fp64(pack: Pack) -> None:
    """Compare logits and gradients with those in fp64, and how far off they are with the CPU in the same precision."""
    pack.needs(8, "a step in fp64")
    torch.manual_seed(0)
    net = build(EFFICIENT_RESNET.override(pack.size({}, TINY)).model, seed=0)
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10

    def step(net: torch.nn.Module, images: Tensor, precision: str) -> list[Tensor]:
        """Return logits and gradient, in fp64 on the CPU."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            out = net(images)
        loss = F.cross_entropy(out.double() if precision == "fp64" else out.float(), labels.to(images.device))
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        return [each.detach().cpu().double() for each in (out, gradient)]

    with one_thread():
        exact = step(copy.deepcopy(net).double(), images.double(), "fp64")

    def off(device: str, precision: str) -> list[float]:
        mine = copy.deepcopy(net).to(device, memory_format=torch.channels_last)
        found = step(mine, images.to(device), precision)
        return [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]

    for precision in ("fp32", "bf16"):
        mine, cpu = off(pack.device.type, precision), off("cpu", precision)
        passed = all(here < FURTHER_THAN_CPU * there for here, there in zip(mine, cpu, strict=True))
        what = ("logits {:.1e} ({:.1e} on the CPU)", "gradients {:.1e} ({:.1e} on the CPU)")
        told = ", ".join(text.format(*pair) for text, pair in zip(what, zip(mine, cpu, strict=True), strict=True))
        pack.check(f"logits and gradients against fp64: {precision}", passed, told)
