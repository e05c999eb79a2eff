"""Check that the lab computes the same on the GPU as on the CPU, twice, after a resume, and as a CUDA graph."""

from __future__ import annotations

import copy
import importlib.util
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lab.config.recipe import EFFICIENT_RESNET, Recipe
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.errors import Interrupted
from cifar_lab.models.resnet import build_network
from cifar_lab.train.loop import fit
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer
from on_gpu.pack import Pack
from on_gpu.timing import synchronise
from on_gpu.ways import RECIPES, TINY, noise, trainer_of

ROOT = Path(__file__).parents[2]
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
TESTS_LIMIT = 140.0


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


def loaded(state: bytes) -> dict[str, Any]:
    tree: dict[str, Any] = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
    return tree


def correctness(pack: Pack) -> None:
    """Run all checks; the test suite's own run beside them in a process."""
    tests = _begin_tests(pack)
    pack.attempt("golden", lambda: golden(pack))
    pack.attempt("fp64", lambda: against_fp64(pack))
    for name, recipe in CASES.items():
        for precision in ("bf16", "fp32"):
            pack.attempt(
                f"identity: {name}, {precision}", lambda r=recipe, n=name, p=precision: identity(pack, n, r, p)
            )
    _end_tests(pack, tests)


def golden(pack: Pack) -> None:
    """Compare the first losses with the golden trajectory, and with this machine's CPU."""
    place = importlib.util.spec_from_file_location("golden_trajectory", ROOT / "tests/golden/test_trajectory.py")
    assert place is not None
    assert place.loader is not None
    written = importlib.util.module_from_spec(place)
    place.loader.exec_module(written)
    for name, diff in written.RECIPES.items():
        losses = {device: _golden_losses(diff, torch.device(device)) for device in {"cpu", pack.device.type}}
        here, cpu = losses[pack.device.type], losses["cpu"]
        off = _furthest(here, written.GOLDEN[name])
        pack.row(
            "correctness", check=f"golden trajectory: {name}", passed=off < GOLDEN,
            detail=f"at most {off:.1e} from the file (limit {GOLDEN:g}), {_furthest(here, cpu):.1e} from the CPU here",
        )  # fmt: skip


def _furthest(losses: list[float], others: list[float]) -> float:
    return max(abs(a / b - 1) for a, b in zip(losses, others, strict=True))


def _golden_losses(diff: dict[str, object], device: torch.device) -> list[float]:
    """Return five losses of the golden trajectory's recipe on `device`; data and sizes are those of the golden test."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    data = Dataset(
        name="noise", kind="synthetic", classes=tuple("abcdefghij"), hash="noise", train_images=images,
        train_labels=np.repeat(np.arange(10), 6),
        test_images=rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8), test_labels=np.arange(10),
    )  # fmt: skip
    small = {"model.width": 8, "model.blocks": [1, 1, 1], "train.batch_size": 10, "data.val_fraction": 0.17}
    recipe = Recipe().override({**small, **diff})
    parts = split(data, recipe.data, recipe.train.protocol, device)
    trainer = Trainer(recipe, 0, build_network(recipe.model, seed=0, device=device), parts, "fp32")
    stepper = Stepper(trainer, graph=False)
    with one_thread():
        stepper.begin_epoch()
        take(trainer, stepper, 5)
        losses: list[float] = trainer.losses[:5].tolist()
    stepper.close()
    return losses


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on the CPU with one thread, as the golden test does; with 16, torch 2.11 crashed in a backward pass."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def take(trainer: Trainer, stepper: Stepper, steps: int) -> None:
    for _ in range(steps):
        stepper.take()
        trainer.step += 1


def identity(pack: Pack, name: str, recipe: Recipe, precision: str) -> None:
    """Compare trainings of a recipe bit for bit: twice, stopped and resumed, eager and as a graph."""
    pack.needs(3, "four trainings")
    recipe = recipe.override({**(TINY if pack.is_tiny else {"train.batch_size": 32}), "train.epochs": 2,
                              "model.width": pack.size(16, 8)})  # fmt: skip
    data = noise(pack.size(400, 70))
    ends, refused, steps = dict[str, list[Tensor]](), dict[str, str](), 0
    for which, graph, stop in (
        ("eager", False, None), ("again", False, None), ("graph", True, None), ("resumed", False, (2, 2)),
        ("graph, resumed", True, (2, 2)),
    ):  # fmt: skip
        trainer, watch = _trainer(pack, recipe, precision, data, graph), Watch(stop)
        try:
            outcome = fit(trainer, watch)
        except Interrupted:
            trainer = _trainer(pack, recipe, precision, data, graph)
            trainer.load_state_dict(loaded(watch.state))
            outcome = fit(trainer, Watch())
        ends[which], refused[which] = tensors(trainer), outcome.eager
        steps = trainer.steps_per_epoch * 2
    for check, one, other in (
        ("twice", "eager", "again"), ("killed and resumed", "eager", "resumed"), ("graph = eager", "eager", "graph"),
        ("graph, killed and resumed", "eager", "graph, resumed"),
    ):  # fmt: skip
        same = all(torch.equal(a, b) for a, b in zip(ends[one], ends[other], strict=True))
        bits = f"{'bit-equal' if same else 'NOT bit-equal'} after {steps} steps"
        if refused[other]:  # two eager trainings prove nothing of a graph
            passed, bits = (False if pack.is_cuda else None), f"{bits}, but no graph: {refused[other]}"
        else:
            passed = same
        pack.row("correctness", check=f"{check}: {name}, {precision}", passed=passed, detail=bits)
    state = dumped(trainer.state_dict())
    for graph in (False, True):
        _no_wait(pack, f"{name}, {precision}", lambda g=graph: _trainer(pack, recipe, precision, data, g), state, graph)


def _trainer(pack: Pack, recipe: Recipe, precision: str, data: Dataset, graph: bool) -> Trainer:
    trainer = trainer_of(pack, recipe, precision, data=data)
    trainer.graph = graph
    return trainer


def tensors(trainer: Trainer) -> list[Tensor]:
    """Return copies of everything that a training leaves: weights, buffers, and the average of the weights."""
    nets = [trainer.net] if trainer.evaluated is trainer.net else [trainer.net, trainer.evaluated]
    return [tensor.detach().clone() for net in nets for tensor in net.state_dict().values()]


def _no_wait(pack: Pack, name: str, make: Callable[[], Trainer], state: bytes, graph: bool) -> None:
    """Take steady steps, and steps after a resume, while torch raises an error for each wait of the host."""
    way = "graph" if graph else "eager"
    for when in ("from the start", "after a resume"):
        trainer = make()
        if when == "after a resume":
            trainer.load_state_dict(loaded(state))
            trainer.epoch, trainer.step = 1, 0
        stepper = Stepper(trainer, graph=graph)
        stepper.begin_epoch()
        before = trainer.steps_per_epoch - 3 if not pack.is_tiny else 1
        refusal = ""
        take(trainer, stepper, before)
        synchronise(pack.device)
        try:
            if pack.is_cuda:
                torch.cuda.set_sync_debug_mode("error")
            take(trainer, stepper, 2)
        except RuntimeError as error:
            refusal = str(error).splitlines()[0][:200]
        finally:
            if pack.is_cuda:
                torch.cuda.set_sync_debug_mode("default")
        stepper.close()
        asked = "" if stepper.captured or not graph else f"; no graph: {stepper.refused or 'not captured yet'}"
        pack.row(
            "correctness", check=f"no wait in a step, {way}, {when}: {name}", detail=(refusal or "2 steps") + asked,
            passed=not refusal if pack.is_cuda else None,
        )  # fmt: skip


def against_fp64(pack: Pack) -> None:
    """Compare logits and gradients with those in fp64, and how far off they are with the CPU in the same precision."""
    pack.needs(8, "a step in fp64")
    recipe = EFFICIENT_RESNET.override(TINY if pack.is_tiny else {})
    torch.manual_seed(0)
    net, images, labels = build_network(recipe.model, seed=0), torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    exact = copy.deepcopy(net).double()
    with one_thread():
        logits = exact(images.double())
        F.cross_entropy(logits, labels).backward()
    gradient = torch.cat([p.grad.flatten() for p in exact.parameters() if p.grad is not None])

    def off(device: torch.device, precision: str) -> list[float]:
        mine = copy.deepcopy(net).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            out = mine(images.to(device))
        F.cross_entropy(out.float(), labels.to(device)).backward()
        got = torch.cat([p.grad.flatten() for p in mine.parameters() if p.grad is not None])
        return [_distance(out, logits), _distance(got, gradient)]

    for precision in ("fp32", "bf16"):
        mine, cpu = off(pack.device, precision), off(torch.device("cpu"), precision)
        pack.row(
            "correctness", check=f"logits and gradients against fp64: {precision}",
            passed=all(here < FURTHER_THAN_CPU * there for here, there in zip(mine, cpu, strict=True)),
            detail=f"logits {mine[0]:.1e} ({cpu[0]:.1e} on the CPU), gradients {mine[1]:.1e} ({cpu[1]:.1e} on the CPU)",
        )  # fmt: skip


def _distance(out: Tensor, exact: Tensor) -> float:
    return float((out.detach().cpu().double() - exact.detach()).norm() / exact.detach().norm())


def _begin_tests(pack: Pack) -> tuple[subprocess.Popen[str], float, Any] | None:
    """Start `pytest -m gpu tests/gpu` beside the other checks; None where there are no such tests, or no GPU."""
    folder = ROOT / "tests/gpu"
    if not folder.exists() or not pack.is_cuda:
        pack.note("skipped", **{"pytest -m gpu": "no tests/gpu" if not folder.exists() else "no GPU"})
        return None
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(folder), "-p", "no:cacheprovider", "--tb=short"]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", "4"]
    log = (pack.logs / "pytest.txt").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    return process, time.monotonic(), log


def _end_tests(pack: Pack, begun: tuple[subprocess.Popen[str], float, Any] | None) -> None:
    if begun is None:
        return
    process, began, log = begun
    late = ""
    try:
        process.wait(timeout=max(1.0, min(pack.left, TESTS_LIMIT - (time.monotonic() - began))))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        late = "stopped at its time limit: "
    log.close()
    lines = [line for line in (pack.logs / "pytest.txt").read_text().splitlines() if line.strip()]
    pack.row(
        "correctness", check="pytest -m gpu tests/gpu", passed=process.returncode == 0,
        detail=late + (lines[-1].strip("= ") if lines else "no output"),
    )  # fmt: skip
    pack.note("tests", seconds=round(time.monotonic() - began, 1), last_lines=lines[-12:])
