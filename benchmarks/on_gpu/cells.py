"""Train cells of the writeup with the product's command line, in order of their importance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from on_gpu import records
from on_gpu.pack import Pack

STOP = 25.0
"""Seconds before the end at which cells are asked to save and stop."""
PACKING = 8.0
"""Seconds reserved for the archives."""
INTERRUPTED = 130
"""Exit code of a command that was asked to stop and did."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command: `cifar-lab run-ablation` with `words`."""

    name: str
    words: str
    per_gpu: int = 1
    compile: bool = True
    why: str = ""


WRITEUP = "train.protocol=writeup"
JOBS = (
    Job(name="precision", words="precision model.width=32 train.epochs=5 --seeds 0-5", per_gpu=3, compile=False,
        why="what bf16 costs"),
    Job(name="stages1-4-seed0", words=f"writeup_ladder {WRITEUP} --variants s1,s2,s3,s4 --seeds 0",
        why="88, 92 and 92.5 %, and 'similar'"),
    Job(name="stages1-4-seed1", words=f"writeup_ladder {WRITEUP} --variants s1,s2,s3,s4 --seeds 1"),
    Job(name="stages1-4-seed2", words=f"writeup_ladder {WRITEUP} --variants s1,s2,s3,s4 --seeds 2"),
    Job(name="stage8-seed0", words=f"writeup_ladder {WRITEUP} --variants s8 --seeds 0", why="97.08 %, the headline"),
    Job(name="stage5-seed0", words=f"writeup_ladder {WRITEUP} --variants s5 --seeds 0", why="95.87 %"),
    Job(name="batch-norm", words="batch_norm train.epochs=45 --seeds 0-2", why="'faster with batch norm'"),
    Job(name="optimizers", words="optimizers train.epochs=45 --variants sgd_nesterov,sgd,adagrad,adam --seeds 0-2",
        why="the choice of Nesterov"),
    Job(name="weight-decay", words="weight_decay train.epochs=45 --variants wd5e-4,none --seeds 0-2"),
    Job(name="augmentation", words="augmentation train.epochs=45 --variants both,none --seeds 0-2", why="'crucial'"),
    Job(name="se-ratio", words="se_ratio model.width=32 train.epochs=60 --variants none,r16,r4 --seeds 0-9", per_gpu=3,
        compile=False, why="squeeze and excitation, and its ratio"),
    Job(name="lookahead", words="lookahead model.width=32 train.epochs=60 --seeds 0-9", per_gpu=3, compile=False),
    Job(name="noise-floor", words="noise_floor model.width=32 train.epochs=60 --seeds 0-9", per_gpu=3, compile=False),
    Job(name="registry-small", words="all --scale small --seeds 0-4", per_gpu=8, compile=False, why="every ablation"),
)  # fmt: skip
TINY = (
    Job(name="precision", words="precision model.width=8 train.epochs=1 model.blocks=[1] --seeds 0", compile=False),
    Job(name="stages1-4-seed0", compile=False,
        words="writeup_ladder model.width=8 train.epochs=1 --variants s1,s2 --seeds 0"),
)  # fmt: skip


def jobs_of(pack: Pack) -> tuple[Job, ...]:
    """Return the jobs from the one named by `--cells` on."""
    every = TINY if pack.is_tiny else JOBS
    first = pack.options.cells or every[0].name
    names = [job.name for job in every]
    if first not in names:
        raise ValueError(f"--cells {first}: there are {', '.join(names)}")
    return every[names.index(first) :]


def cells(pack: Pack) -> None:
    """Restore earlier records, train what is missing until the time is up, and pack everything for the way back."""
    runs = Path(pack.options.runs).resolve()
    there = records.restore(pack.options.records, runs)
    pack.note("cells", restored=there)
    for job in jobs_of(pack):
        if not pack.is_tiny and pack.left < STOP + PACKING + 20:
            pack.note("skipped", **{f"cells: {job.name} and later": f"{pack.left:.0f} s left"})
            break
        pack.attempt(f"cells: {job.name}", lambda j=job: _train(pack, j, runs))
        records.store(pack, runs)


def _train(pack: Pack, job: Job, runs: Path) -> None:
    command = [
        sys.executable, "-m", "cifar_lab", "run-ablation", *job.words.split(), "--data", pack.options.data,
        "--runs", str(runs), "--device", pack.options.device, "--workers", "auto", "--cells-per-gpu", str(job.per_gpu),
        "--compile" if job.compile and pack.is_cuda else "--no-compile", "--offline", "-y",
    ]  # fmt: skip
    before, began = len(list(runs.glob("*/result.json"))), time.monotonic()
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    log = pack.logs / f"cells-{job.name}.txt"
    with log.open("w") as output:
        output.write(" ".join(command) + "\n")
        output.flush()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "160", "NO_COLOR": "1"},
        )  # fmt: skip
        ended = _wait(process, pack.left - STOP - PACKING if not pack.is_tiny else 300)
    trained = len(list(runs.glob("*/result.json"))) - before
    pack.row(
        "cells", job=job.name, command=" ".join(["cifar-lab", *command[3:]]),
        seconds=round(time.monotonic() - began, 1), trained=trained, ended=ended, code=process.returncode,
        why=job.why, table=_tail(log),
    )  # fmt: skip
    if process.returncode not in (0, INTERRUPTED):
        raise RuntimeError(f"its command ended with {process.returncode}: {' '.join(_tail(log)[-1:])}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Return how the process ended: by itself, or told to save and stop, or killed."""
    for how, patience in (("by itself", seconds), ("told to save and stop", STOP - 5), ("killed", 5)):
        try:
            process.wait(timeout=max(0.1, patience))
        except subprocess.TimeoutExpired:
            if how == "by itself":
                process.send_signal(signal.SIGINT)
            else:
                process.kill()
            continue
        return how
    return "killed"


def _tail(log: Path) -> list[str]:
    """Return the last lines of a log: the table that the command prints."""
    return [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-25:]
