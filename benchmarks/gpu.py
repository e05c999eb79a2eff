"""Check correctness, measure speed and train cells of the lab on one GPU, in one call.

    python benchmarks/gpu.py --out OUT --data cifar10-jpeg.zip --seconds 520
    python benchmarks/gpu.py --out OUT --data … --only cells --records EARLIER --cells stages1-4-seed0
    python benchmarks/gpu.py --out OUT --device cpu --tiny               # every path but the graphs, in two minutes
    python benchmarks/gpu.py --page OUT/gpu.json -o docs/gpu.md          # the page; later files replace earlier ones

Every stage has a share of the time and a process of its own, writes `gpu.json` at once, and fails or crashes alone:
`failed` holds the reason in one line, and `logs.tgz` the traceback. The table is printed last. Neither MLflow nor
Optuna is needed.
"""

from __future__ import annotations

import argparse
import faulthandler
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from on_gpu.pack import Pack

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
STAGES = {
    "machine": 25.0, "correctness": 150.0, "speed": 190.0, "processes": 60.0, "profile": 30.0, "beside": 45.0,
    "cells": float("inf"),
}  # fmt: skip
"""Stages in their order, and the seconds that each may take."""
LATE = 20.0
"""Seconds beyond its share after which a stage is killed."""


def main(words: Sequence[str]) -> int:
    """Run the stages, or write the page."""
    options = _parser().parse_args(words)
    if options.page is not None:
        from on_gpu import page

        options.o.write_text(page.page([page.read(Path(name)) for name in options.page]))
        return 0
    names = [name.strip() for name in options.only.split(",") if name.strip()] or list(STAGES)
    if unknown := [name for name in names if name not in STAGES]:
        print(f"gpu.py: no stage named '{unknown[0]}'; there are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    from on_gpu.pack import Pack

    if options.child:
        from on_gpu import child

        return child.main(Pack(options), options.child, options.width)
    if options.stage:
        return _run_stage(Pack(options, is_later=True), options.stage)
    return _run(Pack(options, command=["python", "benchmarks/gpu.py", *words]), words, names)


def _run(pack: Pack, words: Sequence[str], names: Sequence[str]) -> int:
    """Run each stage in its own process, so that a crash affects no other stage."""
    from on_gpu import page, records, speed

    pack.begin()
    ahead = speed.begin_compiling(pack) if {"speed", "correctness"} <= set(names) else []
    for name in STAGES:
        if name not in names:
            continue
        if name == "speed":
            speed.end_compiling(pack, ahead)
        if pack.left < 5 and not pack.is_tiny:
            pack.note("skipped", **{name: f"{pack.left:.0f} s left"})
            continue
        command = [sys.executable, str(Path(__file__)), *words, "--stage", name, "--began", str(pack.began)]
        process = subprocess.Popen(command)
        try:
            code = process.wait(timeout=limit(pack, name) + LATE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        pack.reload()
        if code:
            pack.note("failed", **{name: how_it_ended(code, pack.logs / f"crash-{name}.txt")})
    records.finish(pack)
    print("\n".join(["", *page.short(pack.results)]), flush=True)
    return 0


def limit(pack: Pack, name: str) -> float:
    """Return the seconds that a stage may take; a tiny one all that are left, as it has to come to its end."""
    return pack.left if pack.is_tiny else min(STAGES[name], pack.left)


def how_it_ended(code: int, log: Path) -> str:
    """Return one line about a process that failed: its signal, and where it was."""
    signals = {number.value: number.name for number in signal.Signals}
    where = [line.strip() for line in log.read_text().splitlines() if line.strip()] if log.exists() else []
    return f"its process ended with {signals.get(-code, f'code {code}')}; {' < '.join(where[:6]) or 'no trace'}"


def _run_stage(pack: Pack, name: str) -> int:
    from on_gpu import beside, cells, correctness, machine, speed, together, trace

    stages: dict[str, Callable[[Pack], None]] = {
        "machine": machine.machine, "correctness": correctness.correctness, "speed": speed.speed,
        "processes": together.processes, "profile": trace.profiled, "beside": beside.beside, "cells": cells.cells,
    }  # fmt: skip
    with (pack.logs / f"crash-{name}.txt").open("w") as log:
        faulthandler.enable(log)
        # A stage that hangs tells where before it is killed.
        faulthandler.dump_traceback_later(min(limit(pack, name), pack.left_in_all) + LATE / 2, file=log)
        _more_recompiles()
        pack.stage(name, limit(pack, name), stages[name])
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
    (pack.logs / f"crash-{name}.txt").unlink()
    return 0


def _more_recompiles() -> None:
    """Raise the limit of compilations per process; beyond it the compiler silently falls back to eager mode."""
    import torch._dynamo.config as dynamo

    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(dynamo, name):
            setattr(dynamo, name, 64)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu-out", help="folder for gpu.json, logs.tgz, runs.tgz and state.tgz.*")
    parser.add_argument(
        "--data", default="synthetic", help="images for the cells: cifar10, synthetic, a folder or a zip"
    )
    parser.add_argument("--seconds", type=float, default=520, help="time limit of the whole call")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--only", default="", help=f"stages, with commas between them: {', '.join(STAGES)}")
    parser.add_argument(
        "--tiny", action="store_true", help="take every path with the smallest sizes; the numbers mean nothing"
    )
    parser.add_argument("--cells", default="", metavar="NAME", help="the job to begin with; see on_gpu/cells.py")
    parser.add_argument("--records", action="append", default=[], metavar="DIR|TGZ", help="earlier records; repeatable")
    parser.add_argument("--runs", default=".gpu-runs", help="folder in which cells are trained")
    parser.add_argument("--page", nargs="*", metavar="JSON", help="write the page from these files, or from none")
    parser.add_argument("-o", type=Path, default=ROOT / "docs" / "gpu.md", help="the page")
    parser.add_argument("--stage", default="", choices=["", *STAGES], help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
