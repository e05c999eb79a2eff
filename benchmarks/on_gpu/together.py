"""Train in several processes on one GPU at a time, as `--cells-per-gpu` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from on_gpu import speed, ways
from on_gpu.pack import OutOfTime, Pack
from on_gpu.timing import synchronise
from on_gpu.ways import Lab


def processes(pack: Pack) -> None:
    """Start as many processes as the largest number, then let 1, 2, 4 (and 8) of them train at the same time."""
    is_compiled = speed.compiles_quickly(pack)
    full = (1, 2, 4) if is_compiled else (1, 2, 4, 8)  # eight that load compiled kernels take a minute to begin
    counts: tuple[int, ...] = pack.size(full, (1, 2))
    kind = "graph + compiled" if is_compiled else "graph" if pack.is_cuda else "eager"
    threads = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // max(counts)))}
    words = ["--compiled"] if is_compiled else []
    workers = [
        speed.child(pack, "together", *words, stdin=subprocess.PIPE, env=threads, errors=pack.logs / f"worker-{i}.txt")
        for i in range(max(counts))
    ]  # fmt: skip
    seconds = pack.size(2.5, 0.2)
    pool = ThreadPoolExecutor(len(workers))
    try:
        _ready(pack, pool, workers)
        for width in speed.widths(pack):
            alone = 0.0
            for count in counts:
                pack.needs(2 * seconds, f"{count} processes, width {width}")
                rates = list(pool.map(lambda worker, w=width: _ask(worker, w, seconds), workers[:count]))
                alone = alone or sum(rates)
                pack.row(
                    "processes", width=width, processes=count, way=kind, images_per_second=sum(rates),
                    of_one=sum(rates) / alone,
                )  # fmt: skip
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        pool.shutdown(wait=False, cancel_futures=True)


def _ready(pack: Pack, pool: ThreadPoolExecutor, workers: list[subprocess.Popen[str]]) -> None:
    """Wait until every process is warmed up."""
    lines = [pool.submit(_line, worker) for worker in workers]
    for line in lines:
        try:
            left = max(1.0, pack.left - 10) if not pack.is_tiny else 100
            if "ready" not in line.result(timeout=left):
                raise RuntimeError("a process ended before it was ready; see logs/worker-*.txt")
        except TimeoutError:
            raise OutOfTime("the processes were not ready in time") from None


def _line(worker: subprocess.Popen[str]) -> str:
    output: IO[str] | None = worker.stdout
    assert output is not None
    for line in output:
        if line.startswith("{"):
            return line
    return ""


def _ask(worker: subprocess.Popen[str], width: int, seconds: float) -> float:
    assert worker.stdin is not None
    worker.stdin.write(f"{width} {seconds}\n")
    worker.stdin.flush()
    return float(json.loads(_line(worker))["images_per_second"])


def worker(pack: Pack, width: int) -> None:  # noqa: ARG001 (as all children are called)
    """Be one of the processes: warm up at every width, then train for as long as each line of the input asks for."""
    way = ways.Way(title="", graph=pack.is_cuda, compile=pack.options.compiled)
    cells: dict[int, Lab] = {}
    for each in speed.widths(pack):
        steps, _ = ways.begin(pack, way, each)
        assert isinstance(steps, Lab)
        cells[each] = steps
    synchronise(pack.device)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        chosen, seconds = int(line.split()[0]), float(line.split()[1])
        cell, batch = cells[chosen], cells[chosen].trainer.recipe.train.batch_size
        count, began = 0, time.perf_counter()
        with cell.around():
            while time.perf_counter() - began < seconds:
                cell.prepare(pack.size(20, 1))
                ways.repeat(cell, pack.size(20, 1))
                synchronise(pack.device)
                count += pack.size(20, 1)
        rate = count * batch / (time.perf_counter() - began)
        print(json.dumps({"images_per_second": rate}), flush=True)
