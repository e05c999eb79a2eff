"""Time a training step in several ways, in turns, together with a matrix product."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from on_gpu import ways
from on_gpu.machine import Product, smi
from on_gpu.pack import OutOfTime, Pack, reset_process
from on_gpu.timing import host_milliseconds, milliseconds, synchronise
from on_gpu.ways import Lab, Steps, Way

ROUNDS = 5
WARM = 30.0
"""Longest seconds to a first compiled step whose kernels lay in the compiler's cache."""
TURN = 0.25
"""Seconds that a turn should take."""
ENTRY = Path(__file__).resolve().parents[1] / "gpu.py"


def widths(pack: Pack) -> tuple[int, ...]:
    result: tuple[int, ...] = pack.size((64, 16), (8,))
    return result


def begin_compiling(pack: Pack) -> list[subprocess.Popen[str]]:
    """Start a process for each width that fills the compiler's cache on disk, beside stages that time nothing."""
    if pack.is_tiny or not pack.is_cuda:
        return []
    return [child(pack, "compile", "--width", str(width)) for width in widths(pack)]


def end_compiling(pack: Pack, processes: list[subprocess.Popen[str]]) -> None:
    for process, width in zip(processes, widths(pack), strict=False):
        try:
            out, _ = process.communicate(timeout=max(1.0, min(60.0, pack.left_in_all / 4)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            pack.note("skipped", **{f"compiling width {width} ahead": "not done in time"})
            continue
        for answer in answers(out):
            pack.note("compile", **{f"width {width}, first": answer})


def speed(pack: Pack) -> None:
    """Time all ways at each width; then what single choices cost, lanes, and loops that need their own process."""
    for width in widths(pack):
        compare(pack, width, ways.WAYS)
    first, last = widths(pack)[0], widths(pack)[-1]
    apart = {
        "loader": ("textbook, PIL images, loader with workers", 25),
        "benchmark": ("lab, graph, cudnn.benchmark on", 20),
        "lightning": ("Lightning, bf16-mixed, the same loader", 40),
        "muon": ("fast: lab, graph, Newton-Schulz in bf16", 25),
        "undetermined": ("lab, graph + compiled, compiler not told to be deterministic", 70),
    }

    def by_itself(kind: str) -> None:
        title, seconds = apart[kind]
        pack.attempt(title, lambda: alone(pack, kind, title, first, seconds))

    by_itself("loader")
    pack.attempt("prices", lambda: compare(pack, first, ways.PRICES))
    pack.attempt(f"lanes, width {first}", lambda: lanes(pack, first))
    by_itself("benchmark")
    by_itself("lightning")
    if last != first:
        pack.attempt(f"lanes, width {last}", lambda: lanes(pack, last))
    by_itself("muon")
    by_itself("undetermined")


def compare(pack: Pack, width: int, chosen: tuple[Way, ...]) -> None:
    """Build every way, then let them take turns; a ratio is one of numbers of the same round."""
    product = Product(pack)
    milliseconds(pack.device, product, pack.size(10, 1))
    ready: list[tuple[Way, Steps, dict[str, Any]]] = []
    for way in chosen:
        try:
            pack.needs(35 if way.compile else 12, f"width {width}, {way.title}")
            ready.append((way, *_built(pack, way, width)))
        except OutOfTime as late:
            pack.note("skipped", **{f"width {width}, {way.title}": str(late)})
        except Exception as error:  # noqa: BLE001 (a way that fails stops no other)
            pack.failed(f"width {width}, {way.title}", error)
    rates = list[float]()
    times: dict[str, list[float]] = {way.title: [] for way, _, _ in ready}
    count = {way.title: _steps_a_turn(pack, steps) for way, steps, _ in ready}
    for _ in range(pack.size(ROUNDS, 2)):
        rates.append(product.tflops(milliseconds(pack.device, product, pack.size(20, 1))))
        for way, steps, _ in ready:
            times[way.title].append(_turn(pack, steps, count[way.title]))
    for way, steps, more in ready:
        report(pack, width, way.title, way.recipe, times[way.title], product=rates, remark=steps.remark, **more)
    if pack.is_cuda:
        pack.note("machine", **{f"clock after width {width}": smi("clocks.sm")})
    for _, steps, _ in ready:
        if isinstance(steps, Lab):
            steps.stepper.close()
    del ready, product
    gc.collect()
    if pack.is_cuda:
        torch.cuda.empty_cache()


def _built(pack: Pack, way: Way, width: int) -> tuple[Steps, dict[str, Any]]:
    """Return the steps of a way, with the memory that they took and the seconds to their first ones."""
    gc.collect()
    allocated = reserved = 0
    if pack.is_cuda:
        torch.cuda.empty_cache()
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    steps, _ = ways.begin(pack, way, width)
    synchronise(pack.device)
    more: dict[str, Any] = {"seconds_to_begin": round(time.perf_counter() - began, 2)}
    if pack.is_cuda:
        more["allocated_mib"] = round((torch.cuda.max_memory_allocated() - allocated) / 2**20)
        more["reserved_mib"] = round((torch.cuda.max_memory_reserved() - reserved) / 2**20)
    if way.loop == "lab":
        with steps.around():
            more["host_ms"] = median(host_milliseconds(pack.device, steps, pack.size(15, 1)))
    return steps, more


def _turn(pack: Pack, steps: Steps, count: int) -> float:
    steps.prepare(count)
    with steps.around():
        return milliseconds(pack.device, steps, count)


def _steps_a_turn(pack: Pack, steps: Steps) -> int:
    if pack.is_tiny:
        return 1
    return max(10, min(200, int(1000 * TURN / _turn(pack, steps, 10))))


def compiles_quickly(pack: Pack) -> bool:
    """Return whether the compiler's cache has the networks: by their first seconds, else by whether there is one."""
    begun = [row.get("seconds_to_begin") for row in pack.rows("speed") if row["way"] == ways.BEST.title]
    if begun:
        return pack.is_cuda and all(seconds is not None and seconds < WARM for seconds in begun)
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return pack.is_cuda and (Path(cache_dir()) / "fxgraph").exists()


def report(
    pack: Pack, width: int, title: str, recipe: str, times: list[float], *, product: list[float] | None = None,
    **more: Any,
) -> None:  # fmt: skip
    """Store a row of the speed table: milliseconds of every round, and rates of the median."""
    asked = ways.recipe_of(pack, recipe, width)
    ms = median(times)
    tflops = ways.flops_of(asked) / ms / 1e9
    ceiling = median(product) if product else pack.results.get("ceilings", {}).get("bf16")
    pack.row(
        "speed", width=width, way=title, recipe=recipe, batch=asked.train.batch_size, ms=times,
        images_per_second=1000 * asked.train.batch_size / ms, tflops=tflops, product=ceiling,
        share=tflops / ceiling if ceiling else None, **{key: value for key, value in more.items() if value != ""},
    )  # fmt: skip


def lanes(pack: Pack, width: int) -> None:
    """Replay the graphs of several cells on streams of their own in one process."""
    for count in pack.size((1, 2, 4), (1, 2)):
        pack.needs(15, f"{count} lanes")
        cells = [Lab(pack, ways.BEST if pack.is_cuda else ways.LAB, ways.recipe_of(pack, "efficient", width), seed)
                 for seed in range(count)]  # fmt: skip
        for cell in cells:
            with cell.around():
                ways.repeat(cell, pack.size(15, 1))
        if pack.is_cuda and not all(cell.stepper.captured for cell in cells):
            raise RuntimeError(f"no graph: {cells[0].remark}")
        times = []
        for _ in range(pack.size(3, 1)):
            steps = pack.size(100, 1)
            for cell in cells:
                cell.prepare(steps)
            times.append(_lanes_turn(pack, cells, steps))
        report(pack, width, f"{count} lanes, graph + compiled, a step of one", "efficient", times)
        for cell in cells:
            cell.stepper.close()
        del cells
        gc.collect()


def _lanes_turn(pack: Pack, cells: list[Lab], steps: int) -> float:
    """Return the milliseconds in which one step of one cell is done while all cells are replayed."""
    streams = [getattr(cell.stepper, "_stream", None) for cell in cells]
    synchronise(pack.device)
    began = time.perf_counter()
    for _ in range(steps):
        for cell, stream in zip(cells, streams, strict=True):
            if stream is None:
                cell()
            else:
                with torch.cuda.stream(stream):
                    cell()
    synchronise(pack.device)
    return 1000 * (time.perf_counter() - began) / steps / len(cells)


def alone(pack: Pack, kind: str, title: str, width: int, seconds: float) -> None:
    """Time a way in a process of its own: its flags or its workers would touch the others'."""
    pack.needs(seconds, title)
    process = child(pack, kind, "--width", str(width))
    try:
        out, error = process.communicate(timeout=max(5.0, pack.left if not pack.is_tiny else 100))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise OutOfTime(f"{title}: not done in time") from None
    for answer in answers(out):
        if "skipped" in answer:
            pack.note("skipped", **{title: answer["skipped"]})
        else:
            recipe = "fast" if title.startswith("fast") else "efficient"
            report(pack, width, title, recipe, answer.pop("ms"), **answer)
        return
    (pack.logs / f"child-{kind}.txt").write_text(out + error)
    raise RuntimeError((error.strip().splitlines() or ["no answer"])[-1])


def answers(text: str) -> list[Any]:
    """Return what a child printed as JSON, a line each."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def child(pack: Pack, kind: str, *words: str, errors: Path | None = None, **how: Any) -> subprocess.Popen[str]:
    """Start a process that answers in JSON; `errors`: the file that takes what it says beside."""
    command = [
        sys.executable,
        str(ENTRY),
        "--child",
        kind,
        "--device",
        pack.options.device,
        "--out",
        str(pack.out),
        *words,
    ]
    if pack.is_tiny:
        command.append("--tiny")
    if errors is None:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)
    with errors.open("w") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, **how)


def timed(pack: Pack, make: Callable[[], Steps]) -> dict[str, Any]:
    """Build and time one way in this process: the answer of a child."""
    steps = make()
    with steps.around():
        ways.repeat(steps, pack.size(15, 1))
    count = _steps_a_turn(pack, steps)
    times = [_turn(pack, steps, count) for _ in range(pack.size(ROUNDS, 2))]
    reset_process(pack.device)
    return {"ms": times, **({"remark": steps.remark} if steps.remark else {})}
