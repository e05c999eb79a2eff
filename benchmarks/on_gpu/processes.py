"""Train in several processes on one GPU at a time, as `--cells-per-gpu` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from on_gpu import speed, ways
from on_gpu.machine import synchronise
from on_gpu.pack import OutOfTime, Pack, reset_process


def run(pack: Pack) -> None:
    """Start as many processes as the largest number, then let 1, 2, 4 (and 8) of them train at the same time."""
    is_compiled = speed.compiles_quickly(pack)
    full = (1, 2, 4) if is_compiled else (1, 2, 4, 8)  # eight that load compiled kernels take a minute to begin
    counts, seconds = pack.size(full, (1, 2)), pack.size(2.5, 0.2)
    kind = "graph + compiled" if is_compiled else "graph" if pack.is_cuda else "eager"
    threads = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // max(counts)))}
    words = ["--compiled"] if is_compiled else []
    workers = [
        speed.child(pack, "processes.worker", 0, *words, number=i, stdin=subprocess.PIPE, env=threads)
        for i in range(max(counts))
    ]
    pool = ThreadPoolExecutor(len(workers))
    try:
        for line in [pool.submit(_line, worker) for worker in workers]:
            if "ready" not in line.result(timeout=max(1.0, pack.size(pack.left - 10, 100))):
                raise RuntimeError("a process ended before it was ready; see logs/child-*.txt")
        for width in pack.widths:
            alone = 0.0
            for count in counts:
                pack.needs(2 * seconds, f"{count} processes, width {width}")
                rate = sum(pool.map(lambda worker, w=width: _ask(worker, w, seconds), workers[:count]))
                alone = alone or rate
                pack.row("processes", width=width, processes=count, way=kind, images_per_second=rate,
                         of_one=rate / alone)  # fmt: skip
    except TimeoutError:
        raise OutOfTime("the processes were not ready in time") from None
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        pool.shutdown(wait=False, cancel_futures=True)


def _line(worker: subprocess.Popen[str]) -> str:
    return next((line for line in worker.stdout or () if line.startswith("{")), "")


def _ask(worker: subprocess.Popen[str], width: int, seconds: float) -> float:
    worker.stdin.write(f"{width} {seconds}\n")
    worker.stdin.flush()
    return float(json.loads(_line(worker))["images_per_second"])


def worker(pack: Pack, _: int) -> None:
    """Be one of the processes: warm up at every width, then train for as long as each line of the input asks for."""
    reset_process(pack.device)
    way = ways.Way("", graph=pack.is_cuda, compile=pack.options.compiled)
    cells = {width: ways.begin(pack, way, width) for width in pack.widths}
    synchronise(pack.device)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        width, seconds = line.split()
        cell, steps, part = cells[int(width)], 0, pack.size(20, 1)
        began = time.perf_counter()
        with cell.around():
            while time.perf_counter() - began < float(seconds):
                cell.prepare(part)
                ways.repeat(cell, part)
                synchronise(pack.device)
                steps += part
        rate = steps * cell.trainer.recipe.train.batch_size / (time.perf_counter() - began)
        print(json.dumps({"images_per_second": rate}), flush=True)
