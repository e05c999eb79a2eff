"""Check, measure and train on one GPU in one call: is the lab right there, how fast is it, what do its cells reach?

    python benchmarks/gpu.py --out OUT --data cifar10-jpeg.zip --seconds 520
    python benchmarks/gpu.py --out OUT --data … --only cells --records EARLIER --cells stages1-4-seed0
    python benchmarks/gpu.py --out OUT --device cpu --tiny               # every path but the graphs, in two minutes
    python benchmarks/gpu.py --page OUT/gpu.json -o docs/gpu.md          # the page; later files replace earlier ones

Every stage has a share of the seconds, writes `gpu.json` at once, and fails alone: `failed` says why in a line, and
`logs.tgz` has the traceback. The table is printed last. Neither MLflow nor Optuna is needed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
STAGES = {
    "machine": 25.0, "correctness": 75.0, "speed": 200.0, "processes": 60.0, "profile": 25.0, "beside": 25.0,
    "cells": float("inf"),
}  # fmt: skip
"""Stages in their order, and the seconds that each may take."""


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

    pack = Pack(options, ["python", "benchmarks/gpu.py", *words])
    if options.child:
        from on_gpu import child

        return child.main(pack, options.child, options.width)
    return _run(pack, names)


def _run(pack: object, names: Sequence[str]) -> int:
    from on_gpu import beside, cells, correctness, machine, page, records, speed, together, trace
    from on_gpu.pack import Pack

    assert isinstance(pack, Pack)
    stages: dict[str, Callable[[Pack], None]] = {
        "machine": machine.machine, "correctness": correctness.correctness, "speed": speed.speed,
        "processes": together.processes, "profile": trace.profiled, "beside": beside.beside, "cells": cells.cells,
    }  # fmt: skip
    _more_recompiles()
    ahead = speed.begin_compiling(pack) if "speed" in names and "correctness" in names else []
    for name in stages:
        if name in names:
            if name == "speed":
                speed.end_compiling(pack, ahead)
            pack.stage(name, STAGES[name], stages[name])
    records.finish(pack)
    print("\n".join(["", *page.short(pack.results)]), flush=True)
    return 0


def _more_recompiles() -> None:
    """Let one process compile all networks that it measures; beyond its limit the compiler gives up in silence."""
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
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
