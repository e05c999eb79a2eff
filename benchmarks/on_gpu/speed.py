"""Time a training step in several ways, in turns, together with a matrix product."""

from __future__ import annotations

import gc
import time
from statistics import median
from typing import Any

import torch

from on_gpu import ways
from on_gpu.machine import Product, host_milliseconds, milliseconds, smi, synchronise
from on_gpu.pack import Pack, reset_process
from on_gpu.ways import Steps, Way

ROUNDS = 5
TURN = 0.25
"""Seconds that a turn should take."""


def compile(pack: Pack, width: int) -> None:
    """Fill the compiler's cache on disk with the network of `width`."""
    reset_process(pack.device)
    ways.begin(pack, Way("compiled", compile=True), width).close()


def run(pack: Pack) -> None:
    """Time all ways at each width; then a loop with a loader and what other recipes cost."""
    for width in pack.widths:
        compare(pack, width, ways.WAYS)
    pack.attempt("prices", compare, pack, pack.widths[0], (ways.LOADER, *ways.PRICES))


def compare(pack: Pack, width: int, chosen: tuple[Way, ...]) -> None:
    """Build every way, then let them take turns; a ratio is one of numbers of the same round."""
    product = Product(pack)
    milliseconds(pack.device, product, pack.size(10, 1))
    ready: list[tuple[Way, Steps, dict[str, Any]]] = []

    def build(way: Way) -> None:
        pack.needs(35 if way.compile else 12, f"width {width}, {way.title}")
        ready.append((way, *_built(pack, way, width)))

    for way in chosen:
        pack.attempt(f"width {width}, {way.title}", build, way)
    rates, times = list[float](), {way.title: list[float]() for way, _, _ in ready}
    count = {way.title: _steps_a_turn(pack, steps) for way, steps, _ in ready}
    for _ in range(pack.size(ROUNDS, 2)):
        rates.append(product.tflops(milliseconds(pack.device, product, pack.size(20, 1))))
        for way, steps, _ in ready:
            times[way.title].append(_turn(pack, steps, count[way.title]))
    for way, steps, more in ready:
        report(pack, width, way.title, way.recipe, times[way.title], product=median(rates), remark=steps.remark, **more)
        steps.close()
    if pack.is_cuda:
        pack.note("machine", **{f"clock after width {width}": smi("clocks.sm")})


def _built(pack: Pack, way: Way, width: int) -> tuple[Steps, dict[str, Any]]:
    """Return the steps of a way, with the memory that they took and the seconds to their first ones."""
    gc.collect()
    allocated = reserved = 0
    if pack.is_cuda:
        torch.cuda.empty_cache()
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    steps = ways.begin(pack, way, width)
    synchronise(pack.device)
    more: dict[str, Any] = {"seconds_to_begin": round(time.perf_counter() - began, 2)}
    if pack.is_cuda:
        more["allocated_mib"] = round((torch.cuda.max_memory_allocated() - allocated) / 2**20)
        more["reserved_mib"] = round((torch.cuda.max_memory_reserved() - reserved) / 2**20)
    if not way.is_textbook:
        with steps.around():
            more["host_ms"] = host_milliseconds(pack.device, steps, pack.size(15, 1))
    return steps, more


def _turn(pack: Pack, steps: Steps, count: int) -> float:
    steps.prepare(count)
    with steps.around():
        return milliseconds(pack.device, steps, count)


def _steps_a_turn(pack: Pack, steps: Steps) -> int:
    return 1 if pack.is_tiny else max(10, min(200, int(1000 * TURN / _turn(pack, steps, 10))))


def report(pack: Pack, width: int, title: str, recipe: str, times: list[float], **more: Any) -> None:
    """Store a row of the speed table: milliseconds of every round, and rates of the median."""
    asked, ms = ways.recipe_of(pack, recipe, width), median(times)
    tflops, batch = ways.flops_of(asked) / ms / 1e9, asked.train.batch_size
    product = more.pop("product", None) or pack.results.get("ceilings", {}).get("bf16")
    pack.row(
        "speed", width=width, way=title, recipe=recipe, batch=batch, ms=times, images_per_second=1000 * batch / ms,
        tflops=tflops, product=product, share=tflops / product if product else None,
        **{key: value for key, value in more.items() if value != ""},
    )  # fmt: skip
