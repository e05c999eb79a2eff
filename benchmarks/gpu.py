"""Check correctness, measure speed and train cells of the lab on one GPU, in one call.

    python benchmarks/gpu.py --out OUT --data cifar10-jpeg.zip.xz --seconds 520
    python benchmarks/gpu.py --out OUT --data … --only cells --records EARLIER --cells stages1-4-seed0
    python benchmarks/gpu.py --out OUT --device cpu --tiny               # every path but the graphs, in two minutes
    python benchmarks/gpu.py --page OUT/gpu.json -o docs/gpu.md          # the page; later files replace earlier ones

Every stage has a share of the time and a process of its own, writes `gpu.json` at once, and fails or crashes alone:
`failed` holds the reason in one line, and `logs.tgz` the traceback. The page is printed last. Neither MLflow nor
Optuna is needed.
"""

from __future__ import annotations

import argparse
import importlib
import lzma
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from on_gpu.pack import Pack

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
STAGES = {
    "machine": 25.0, "correctness": 150.0, "speed": 190.0, "profile": 30.0, "beside": 45.0,
    "cells": float("inf"),
}  # fmt: skip
"""Stages in their order, each a module of `on_gpu` and its function `run`, and the seconds that each may take."""
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

    options.data = unpacked(options.data)
    if options.width:
        importlib.import_module("on_gpu.speed").compile(Pack(options), options.width)
        return 0
    if options.stage:
        return _run_stage(Pack(options, is_later=True), options.stage)
    return _run(Pack(options, command=["python", "benchmarks/gpu.py", *words]), words, names)


def unpacked(data: str) -> str:
    """Return the path of an archive without its `.xz`; it is unpacked beside that one, unless it is there already."""
    if not data.endswith(".xz"):
        return data
    target = Path(data).with_suffix("")
    if not target.exists():
        target.write_bytes(lzma.decompress(Path(data).read_bytes()))
    return str(target)


def _run(pack: Pack, words: Sequence[str], names: Sequence[str]) -> int:
    """Run each stage in its own process, so that a crash affects no other stage."""
    from on_gpu import cells, page

    pack.write()
    # Fill the compiler's cache on disk beside stages that time nothing.
    filling = pack.is_cuda and not pack.is_tiny and {"speed", "correctness"} <= set(names)
    command = [sys.executable, __file__, "--out", str(pack.out), "--width"]
    ahead = [subprocess.Popen([*command, str(width)]) for width in pack.widths if filling]
    for name in (name for name in STAGES if name in names):
        while name == "speed" and ahead:
            _wait(ahead.pop(), max(1.0, min(60.0, pack.left / 4)))
        if pack.left < 5 and not pack.is_tiny:
            pack.note("skipped", **{name: f"{pack.left:.0f} s left"})
            continue
        command = [sys.executable, __file__, *words, "--stage", name, "--began", str(pack.began)]
        with (pack.logs / f"stage-{name}.txt").open("w") as log:
            process = subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONFAULTHANDLER": "1"})
            code = _wait(process, limit(pack, name) + LATE)
        pack.reload()
        if code:
            pack.note("failed", **{name: how_it_ended(code, Path(log.name))})
    cells.finish(pack)
    print(f"\n{page.page([pack.results])}", flush=True)
    return 0


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Return the code of a process; after so many seconds it has to tell where it is, and is killed."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            seconds = 5
    return process.wait()


def limit(pack: Pack, name: str) -> float:
    """Return the seconds that a stage may take; a tiny one all that are left, as it has to come to its end."""
    return pack.left if pack.is_tiny else min(STAGES[name], pack.left)


def how_it_ended(code: int, log: Path) -> str:
    """Return one line about a process that failed: its signal, and where it was."""
    signals = {number.value: number.name for number in signal.Signals}
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()] if log.exists() else []
    fatal = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
    where = lines[fatal[0] : fatal[0] + 6] if fatal else lines[-1:]
    return f"its process ended with {signals.get(-code, f'code {code}')}; {' < '.join(where) or 'no trace'}"


def _run_stage(pack: Pack, name: str) -> int:
    import torch._dynamo.config

    torch._dynamo.config.recompile_limit = 64  # beyond it the compiler silently falls back to eager mode
    pack.stage(name, limit(pack, name), importlib.import_module(f"on_gpu.{name}").run)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", default="gpu-out", help="folder for gpu.json, logs.tgz, runs.tgz and state.tgz.*")
    add("--data", default="synthetic", help="images for the cells: cifar10, synthetic, a folder, a zip or a zip.xz")
    add("--seconds", type=float, default=520, help="time limit of the whole call")
    add("--device", default="cuda", choices=["cuda", "cpu"])
    add("--only", default="", help=f"stages, with commas between them: {', '.join(STAGES)}")
    add("--tiny", action="store_true", help="take every path with the smallest sizes; the numbers mean nothing")
    add("--cells", default="", metavar="NAME", help="the job to begin with; see on_gpu/cells.py")
    add("--records", action="append", default=[], metavar="DIR|TGZ", help="earlier records; repeatable")
    add("--runs", default=".gpu-runs", help="folder in which cells are trained")
    add("--page", nargs="+", metavar="JSON", help="write the page from these files")
    add("-o", type=Path, default=ROOT / "docs" / "gpu.md", help="the page")
    for name, kind in {"--stage": str, "--began": float, "--width": int}.items():  # of a process that it starts
        add(name, type=kind, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
