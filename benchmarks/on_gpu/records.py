"""Move the records of trained cells to a machine and back, in archives of limited size."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cifar_lab.ablation import registry
from on_gpu.pack import Pack

MIB = 2**20
PART = 15 * MIB
"""Maximum bytes of a part of a split archive."""
FILES = 7
"""Maximum number of files in the output folder; one more is reserved for the printed output."""
LARGEST = 16 * MIB
IN_ALL = 62 * MIB
NOT_RECORDS = ("lock", "owner.json", "checkpoint.pt", "weights.safetensors")


def restore(sources: Iterable[str], runs: Path) -> int:
    """Unpack earlier records into `runs`; return how many cells lie there.

    A source is an archive, a folder of records, or a folder that holds `runs.tgz` and the parts of `state.tgz`.
    """
    runs.mkdir(parents=True, exist_ok=True)
    for source in map(Path, sources):
        if source.is_file():
            _extract(source.read_bytes(), runs)
            continue
        archives = sorted(source.glob("runs*.tgz"))
        for archive in archives:
            _extract(archive.read_bytes(), runs)
        if parts := sorted(source.glob("state.tgz.*")):
            archives += parts
            _extract(b"".join(part.read_bytes() for part in parts), runs)
        if not archives:
            shutil.copytree(source, runs, dirs_exist_ok=True)
    return len(list(runs.glob("*/cell.json")))


def _extract(data: bytes, runs: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(runs, filter="data")


def store(pack: Pack, runs: Path) -> None:
    """Write `runs.tgz`, records without weights, and the state that the next machine needs as `state.tgz.00`, …"""
    if not runs.exists():
        return
    files = [path for path in sorted(runs.rglob("*")) if path.is_file() and path.name not in NOT_RECORDS]
    _archive(pack.out / "runs.tgz", files, runs)
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
    if taken:
        _archive(pack.out / "state.tgz", taken, runs)
        data = (pack.out / "state.tgz").read_bytes()
        (pack.out / "state.tgz").unlink()
        for i in range(0, len(data), PART):
            (pack.out / f"state.tgz.{i // PART:02}").write_bytes(data[i : i + PART])
    pack.note(
        "records", cells=len(list(runs.glob("*/result.json"))), state=[str(p.relative_to(runs)) for p in taken],
        state_mib=round(size / MIB, 1), left_out=left_out,
    )  # fmt: skip


def _archive(target: Path, files: Iterable[Path], root: Path) -> None:
    with tarfile.open(target, "w:gz", compresslevel=1) as archive:
        for path in files:
            archive.add(path, str(path.relative_to(root)))


def needed(runs: Path) -> Iterator[Path]:
    """Yield checkpoints of cells that are not finished, then weights that a cell of a chain still has to start from."""
    for record in sorted(runs.glob("*/cell.json"), key=lambda path: -path.stat().st_mtime):
        checkpoint = record.parent / "checkpoint.pt"
        if checkpoint.exists() and not (record.parent / "result.json").exists():
            yield checkpoint
    begun = {
        _recipe(path).get("init_from") for path in runs.glob("*/cell.json") if (path.parent / "result.json").exists()
    }
    for fingerprint in sorted(_parents(runs) - begun):
        weights = runs / fingerprint / "weights.safetensors"
        if weights.exists():
            yield weights


def _recipe(cell: Path) -> dict[str, str]:
    recipe: dict[str, str] = json.loads(cell.read_text())["recipe"]
    return recipe


def _parents(runs: Path) -> set[str]:
    """Return the fingerprints of the cells that another stage of their chain continues."""
    fingerprints = set[str]()
    for path in (runs / "invocations").glob("*.json"):
        note = json.loads(path.read_text())
        try:
            variants = registry.discover().find(note["ablation"]).variants
        except Exception:  # noqa: BLE001 (a note of `train`, or of an ablation that is gone, continues nothing)
            continue
        continued = {variant.continues for variant in variants if variant.continues}
        fingerprints |= {cell["fingerprint"] for cell in note["cells"] if cell["variant"] in continued}
    return fingerprints


def finish(pack: Pack) -> None:
    """Put all logs into `logs.tgz`, and say which files are too many or too large to travel."""
    if any(pack.logs.iterdir()):
        _archive(pack.out / "logs.tgz", sorted(pack.logs.iterdir()), pack.out)
    shutil.rmtree(pack.logs)
    files = sorted((path for path in pack.out.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    total = sum(path.stat().st_size for path in files)
    large = [path.name for path in files if path.stat().st_size > LARGEST]
    if large or len(files) > FILES or total > IN_ALL:
        pack.note("output", too_large=large, files=len(files), mib=round(total / MIB, 1))
