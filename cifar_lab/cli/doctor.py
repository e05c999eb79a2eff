"""`doctor`: what this machine has, and whether what cifar-lab needs is usable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.errors import CifarLabError


def doctor(runs: o.Runs = o.DEFAULT_RUNS, ablations: o.Folders = None, as_json: o.Json = False) -> int:
    """Check devices, precision, stores and folders; exit code 1 when something is not usable."""
    rows = _checks(runs.resolve(), ablations or [])
    if as_json:
        console.print_json([{"check": name, "ok": ok, "found": found} for name, ok, found in rows])
    else:
        shown = [(name, "ok" if ok else "NOT OK", found) for name, ok, found in rows]
        console.out.print(console.table("", ("check", "", "found"), shown))
    return 0 if all(ok for _, ok, _ in rows) else 1


def _checks(runs: Path, folders: list[Path]) -> list[tuple[str, bool, str]]:
    from cifar_lab import registry
    from cifar_lab.data.cache import root
    from cifar_lab.run.execution import choose
    from cifar_lab.run.provenance import provenance
    from cifar_lab.tracking import mlflow, record

    found: dict[str, Any] = provenance()
    hardware, versions = found["hardware"], found["versions"]
    execution, workers = choose("auto", "auto", 100)
    import torch

    from cifar_lab.train.precision import resolve

    precision = resolve("auto", torch.device(execution.device))
    ablations = registry.discover(*folders)
    broken = "; ".join(entry.reason for entry in ablations.broken())
    uri = mlflow.resolve_uri()
    return [
        ("versions", True, ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("processor", True, f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB"),
        ("GPUs", True, ", ".join(hardware["gpus"]) or "none"),
        ("execution", True, f"{execution.device}, {precision}, {workers} workers of {execution.threads} threads"),
        (
            "ablations",
            not broken,
            broken
            or f"{len(ablations.names())} from {', '.join(map(str, [registry.built_in(), *folders]))} and packages",
        ),
        ("runs folder", *_usable(lambda: record.require_writable(runs), str(runs))),
        ("MLflow store", *_usable(lambda: mlflow.require_usable(uri), mlflow.redacted(uri))),
        ("data cache", *_usable(lambda: record.require_writable(root()), str(root()))),
    ]


def _usable(check: Any, found: str) -> tuple[bool, str]:
    try:
        check()
    except CifarLabError as error:
        return False, str(error)
    return True, found
