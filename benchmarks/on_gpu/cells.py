"""Train cells of the writeup with the product's command line, and move their records to a machine and back."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.ablation import registry
from on_gpu.pack import Pack

STOP = 25.0
"""Seconds before the end at which cells are asked to save and stop."""
PACKING = 8.0
"""Seconds reserved for the archives."""
INTERRUPTED = 130
"""Exit code of a command that was asked to stop and did."""
ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
PART, FILES, LARGEST, IN_ALL = 15 * MIB, 7, 16 * MIB, 62 * MIB
"""Bytes of a part of a split archive; files in the output folder, bytes of one, and of all together, at most."""
NOT_RECORDS = ("lock", "owner.json", "checkpoint.pt", "weights.safetensors")


@dataclass(frozen=True)
class Job:
    """One command: `cifar-lab run-ablation` with `words`; compiled where one cell at a time is trained on a GPU."""

    name: str
    words: str
    per_gpu: int = 1


LADDER = "writeup_ladder train.protocol=writeup --variants"
SMALL = "model.width=32 train.epochs=60 --seeds 0-9"
JOBS = (
    Job("precision", "precision model.width=32 train.epochs=5 --seeds 0-5", per_gpu=3),
    *(Job(f"stages1-4-seed{seed}", f"{LADDER} s1,s2,s3,s4 --seeds {seed}") for seed in range(3)),
    Job("stage8-seed0", f"{LADDER} s8 --seeds 0"),
    Job("stage5-seed0", f"{LADDER} s5 --seeds 0"),
    Job("batch-norm", "batch_norm train.epochs=45 --seeds 0-2"),
    Job("optimizers", "optimizers train.epochs=45 --variants sgd_nesterov,sgd,adagrad,adam --seeds 0-2"),
    Job("weight-decay", "weight_decay train.epochs=45 --variants wd5e-4,none --seeds 0-2"),
    Job("augmentation", "augmentation train.epochs=45 --variants both,none --seeds 0-2"),
    Job("se-ratio", f"se_ratio {SMALL} --variants none,r16,r4", per_gpu=3),
    Job("lookahead", f"lookahead {SMALL}", per_gpu=3),
    Job("noise-floor", f"noise_floor {SMALL}", per_gpu=3),
    Job("registry-small", "all --scale small --seeds 0-4", per_gpu=8),
)
"""Jobs in order of their importance."""
TINY = (
    Job("precision", "precision model.width=8 train.epochs=1 model.blocks=[1] --seeds 0"),
    Job("stages1-4-seed0", "writeup_ladder model.width=8 train.epochs=1 --variants s1,s2 --seeds 0"),
)


def run(pack: Pack) -> None:
    """Restore earlier records, train what is missing until the time is up, and pack everything for the way back."""
    runs, every = Path(pack.options.runs).resolve(), pack.size(JOBS, TINY)
    names = [job.name for job in every]
    first = pack.options.cells or names[0]
    if first not in names:
        raise ValueError(f"--cells {first}: there are {', '.join(names)}")
    pack.note("cells", restored=restore(pack.options.records, runs))
    for job in every[names.index(first) :]:
        if not pack.is_tiny and pack.left < STOP + PACKING + 20:
            pack.note("skipped", **{f"cells: {job.name} and later": f"{pack.left:.0f} s left"})
            break
        pack.attempt(f"cells: {job.name}", train, pack, job, runs)
        store(pack, runs)


def train(pack: Pack, job: Job, runs: Path) -> None:
    command = [
        sys.executable, "-m", "cifar_lab", "run-ablation", *job.words.split(), "--data", pack.options.data,
        "--runs", str(runs), "--device", pack.device.type, "--workers", "auto", "--cells-per-gpu", str(job.per_gpu),
        "--compile" if job.per_gpu == 1 and pack.is_cuda else "--no-compile", "--offline", "-y",
    ]  # fmt: skip
    before, began, log = len(list(runs.glob("*/result.json"))), time.monotonic(), pack.logs / f"cells-{job.name}.txt"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "160", "NO_COLOR": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        ended = _wait(process, pack.size(pack.left - STOP - PACKING, 300))
    # The last lines are the table that the command prints.
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-25:]
    pack.row(
        "cells", job=job.name, command=" ".join(["cifar-lab", *command[3:]]),
        seconds=round(time.monotonic() - began, 1), trained=len(list(runs.glob("*/result.json"))) - before,
        ended=ended, code=process.returncode, table=lines,
    )  # fmt: skip
    if process.returncode not in (0, INTERRUPTED):
        raise RuntimeError(f"its command ended with {process.returncode}: {' '.join(lines[-1:])}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Return how the process ended: by itself, or told to save and stop, or killed."""
    for how, patience in (("by itself", seconds), ("told to save and stop", STOP - 5), ("killed", 5)):
        try:
            process.wait(timeout=max(0.1, patience))
            return how
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT if how == "by itself" else signal.SIGKILL)
    return "killed"


def restore(sources: Iterable[str], runs: Path) -> int:
    """Unpack earlier records into `runs`; return how many cells lie there.

    A source is an archive, a folder of records, or a folder that holds `runs.tgz` and the parts of `state.tgz`.
    """
    runs.mkdir(parents=True, exist_ok=True)
    for source in map(Path, sources):
        archives = [source] if source.is_file() else sorted(source.glob("runs*.tgz"))
        parts = sorted(source.glob("state.tgz.*"))
        for data in (*(archive.read_bytes() for archive in archives), b"".join(part.read_bytes() for part in parts)):
            if data:
                with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                    archive.extractall(runs, filter="data")
        if not archives and not parts:
            shutil.copytree(source, runs, dirs_exist_ok=True)
    return len(list(runs.glob("*/cell.json")))


def store(pack: Pack, runs: Path) -> None:
    """Write `runs.tgz`, records without weights, and the state that the next machine needs as `state.tgz.00`, …"""
    if not runs.exists():
        return
    files = [path for path in sorted(runs.rglob("*")) if path.is_file() and path.name not in NOT_RECORDS]
    (pack.out / "runs.tgz").write_bytes(_archive(files, runs))
    for part in pack.out.glob("state.tgz.*"):
        part.unlink()
    taken, left_out, size = list[Path](), list[str](), 0
    room = min((FILES - 3) * PART, IN_ALL - (pack.out / "runs.tgz").stat().st_size - 2 * MIB)
    for path in needed(runs):
        if size + path.stat().st_size > room:
            left_out.append(f"{path.relative_to(runs)} ({path.stat().st_size / MIB:.1f} MiB)")
        else:
            taken.append(path)
            size += path.stat().st_size
    data = _archive(taken, runs) if taken else b""
    for i in range(0, len(data), PART):
        (pack.out / f"state.tgz.{i // PART:02}").write_bytes(data[i : i + PART])
    pack.note(
        "records", cells=len(list(runs.glob("*/result.json"))), state=[str(p.relative_to(runs)) for p in taken],
        state_mib=round(size / MIB, 1), left_out=left_out,
    )  # fmt: skip


def _archive(files: Iterable[Path], root: Path) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=1) as archive:
        for path in files:
            archive.add(path, str(path.relative_to(root)))
    return target.getvalue()


def needed(runs: Path) -> Iterator[Path]:
    """Yield checkpoints of cells that are not finished, then weights that a cell starts from or learns from."""
    finished, continued = set[str](), set[str]()
    for record in sorted(runs.glob("*/cell.json"), key=lambda path: -path.stat().st_mtime):
        if (record.parent / "result.json").exists():
            finished.add(json.loads(record.read_text())["recipe"].get("init_from"))
        elif (record.parent / "checkpoint.pt").exists():
            yield record.parent / "checkpoint.pt"
    for path in (runs / "invocations").glob("*.json"):
        note = json.loads(path.read_text())
        try:
            variants = registry.discover().find(note["ablation"]).variants
            parents = {name for variant in variants for name in (variant.continues, *variant.teachers)}
        except Exception:  # noqa: BLE001 (a note of `train`, or of an ablation that is gone, continues nothing)
            continue
        continued |= {cell["fingerprint"] for cell in note["cells"] if cell["variant"] in parents}
    weights = (runs / fingerprint / "weights.safetensors" for fingerprint in sorted(continued - finished))
    yield from (path for path in weights if path.exists())


def finish(pack: Pack) -> None:
    """Put all logs into `logs.tgz`, and say which files are too large to travel."""
    (pack.out / "logs.tgz").write_bytes(_archive(sorted(pack.logs.iterdir()), pack.out))
    shutil.rmtree(pack.logs)
    if large := [path.name for path in pack.out.iterdir() if path.stat().st_size > LARGEST]:
        pack.note("output", too_large=large)
