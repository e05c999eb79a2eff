"""Run one measurement in a separate process, and print the result as a line of JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cifar_lab.train import muon
from on_gpu import speed, together, ways
from on_gpu.pack import Pack, reset_process
from on_gpu.timing import synchronise
from on_gpu.ways import Lab, Loader, Way

PROGRAMS = Path(__file__).parents[1] / "programs"


def main(pack: Pack, kind: str, width: int) -> int:
    """Run the measurement named `kind`."""
    reset_process(pack.device)
    KINDS[kind](pack, width)
    return 0


def answer(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


def _compile(pack: Pack, width: int) -> None:
    """Fill the compiler's cache on disk with the network of `width`."""
    began = time.perf_counter()
    steps, _ = ways.begin(pack, Way(title="compiled", compile=True), width)
    synchronise(pack.device)
    assert isinstance(steps, Lab)
    steps.stepper.close()
    answer({"seconds": round(time.perf_counter() - began, 1)})


def _loader(pack: Pack, width: int) -> None:
    workers = loader_workers()
    recipe = ways.recipe_of(pack, "efficient", width)
    answer({**speed.timed(pack, lambda: Loader(pack, recipe, workers)), "workers": workers})


def loader_workers() -> int:
    """Return the number of workers of a textbook loader: half of the cores, between 2 and 8."""
    return max(2, min(8, (os.cpu_count() or 2) // 2))


def _benchmark(pack: Pack, width: int) -> None:
    """Time the graph with cuDNN's benchmark mode; its choices hold for the whole process."""
    torch.backends.cudnn.benchmark = True
    _answer_for(pack, Way(title="", graph=pack.is_cuda), width)


def _undetermined(pack: Pack, width: int) -> None:
    """Time the best way with the compiler as torch configures it, which may choose kernels by timing them."""
    import torch._inductor.config as inductor

    original = ways.compiled

    def without_promise(net: torch.nn.Module) -> torch.nn.Module:
        module = original(net)
        if not getattr(inductor, "deterministic", False):
            answer({"skipped": "the lab does not tell the compiler to be deterministic"})
            raise SystemExit(0)
        inductor.deterministic = False
        return module

    ways.compiled = without_promise
    _answer_for(pack, Way(title="", graph=pack.is_cuda, compile=True), width)


def _muon(pack: Pack, width: int) -> None:
    """Time the fast recipe with Muon's products in bf16."""
    exact = muon.orthogonalise
    muon.orthogonalise = lambda matrices, steps=5: exact(matrices.bfloat16(), steps).to(matrices.dtype)
    _answer_for(pack, Way(title="", recipe="fast", graph=pack.is_cuda), width)


def _answer_for(pack: Pack, way: Way, width: int) -> None:
    answer(speed.timed(pack, lambda: Lab(pack, way, ways.recipe_of(pack, way.recipe, width))))


def _lightning(pack: Pack, width: int) -> None:
    """Run the Lightning program of `make bench` on this device."""
    if importlib.util.find_spec("lightning") is None:
        answer({"skipped": "not installed"})
        return
    words = ["--accelerator", "gpu", "--precision", "bf16-mixed"] if pack.is_cuda else []
    warmup, steps = pack.size((30, 100), (1, 2))
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [sys.executable, str(PROGRAMS / "lightning_loop.py"), "--width", str(width), "--warmup", str(warmup),
             "--steps", str(steps), "--workers", str(loader_workers()), *words],
            capture_output=True, text=True, cwd=scratch, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    rate = json.loads(done.stdout.strip().splitlines()[-1])["images_per_second"]
    batch = 128
    answer({"ms": [1000 * batch / rate], "workers": loader_workers()})


KINDS: dict[str, Callable[[Pack, int], None]] = {
    "compile": _compile,
    "loader": _loader,
    "benchmark": _benchmark,
    "undetermined": _undetermined,
    "muon": _muon,
    "lightning": _lightning,
    "together": together.worker,
}
