"""`doctor`: check the environment: devices, stores and folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.errors import CifarLabError, UsageError, first_line
from cifar_lab.redaction import redacted
from cifar_lab.text import printable

if TYPE_CHECKING:
    import torch


class DoctorCheck(NamedTuple):
    """One row: the item, whether it is usable, and the finding; `values` are its numbers, for JSON."""

    name: str
    ok: bool
    finding: str
    values: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"check": self.name, "ok": self.ok, "found": self.finding, **(self.values or {})}


def doctor(
    device: o.Device = "auto", runs: o.Runs = o.DEFAULT_RUNS, ablations: o.Folders = None, as_json: o.Json = False
) -> int:
    """Check devices and measure their speed, check stores and folders; exit code 1 when something is not usable."""
    rows = list(_checks(device, runs.resolve(), ablations or []))
    if as_json:
        console.print_json([row.as_dict() for row in rows])
    else:
        shown = [(row.name, "ok" if row.ok else "NOT OK", row.finding) for row in rows]
        console.out.print(console.table("", ("check", "", "found"), shown))
    return 0 if all(row.ok for row in rows) else 1


def _checks(device: str, runs: Path, folders: list[Path]) -> Iterator[DoctorCheck]:
    from cifar_lab.ablation import registry
    from cifar_lab.data.cache import root
    from cifar_lab.execution.device import find_device
    from cifar_lab.execution.provenance import provenance
    from cifar_lab.object_store import with_addresses
    from cifar_lab.store.runs_folder import require_writable

    chosen = find_device(device)  # an invalid name is rejected before any output
    versions, hardware = provenance().versions, provenance().hardware
    yield DoctorCheck("versions", True, ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    yield DoctorCheck("processor", True, f"{hardware.processor}, {hardware.cores} cores, {hardware.memory_gib} GiB")
    yield from _gpus()
    yield from _execution(device, chosen.kind)
    ablations = registry.discover(*folders)
    places = ", ".join(map(str, [registry.built_in(), *folders]))
    broken = "; ".join(entry.reason for entry in ablations.broken())
    yield DoctorCheck("ablations", not broken, broken or f"{len(ablations.names())} from {places} and packages")
    yield from _extensions()
    yield DoctorCheck("runs folder", *_usable(lambda: require_writable(runs), with_addresses(str(runs))))
    yield _store()
    yield DoctorCheck("data cache", *_usable(lambda: require_writable(root()), str(root())))


def _extensions() -> Iterator[DoctorCheck]:
    """Yield a row for each kind of extension that packages register."""
    from cifar_lab import extension
    from cifar_lab.config.built_in_names import BUILT_IN
    from cifar_lab.data import NAMES

    for group in extension.GROUPS:
        names = extension.registered(group)
        broken = list(extension.find_broken(group, BUILT_IN.get(group, NAMES)))
        if names or broken:
            usable = sorted(names.keys() - {entry.name for entry in broken})
            found = [entry.reason for entry in broken]
            found += [", ".join(f"{name} = {names[name]}" for name in usable)] if usable else []
            yield DoctorCheck(f"own {group}", not broken, "; ".join(found), {"registered": names})


def _gpus() -> Iterator[DoctorCheck]:
    """Yield a row for each GPU, and one for the driver."""
    import torch

    from cifar_lab.execution import nvml
    from cifar_lab.execution.device import gpus, missing_kernels

    if not torch.cuda.is_available():
        yield DoctorCheck("GPUs", True, "none that torch can use")
        return
    driver, cuda, cudnn = nvml.driver(), torch.version.cuda, torch.backends.cudnn.version()
    versions = {"driver": driver, "cuda": cuda, "cudnn": cudnn}
    said = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield DoctorCheck("GPU software", True, said or "unknown", versions)
    for index in range(gpus()):
        missing = missing_kernels(index)
        properties = torch.cuda.get_device_properties(index)
        values = {
            "gpu": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
        }
        line = "{gpu}, {memory_gib} GiB, compute capability {capability}".format(**values)
        yield DoctorCheck(f"cuda:{index}", missing is None, missing or line, values)


def _execution(name: str, kind: str) -> Iterator[DoctorCheck]:
    """Yield the execution settings on the chosen device, and its speed."""
    import torch

    from cifar_lab.execution.device import find_device, places
    from cifar_lab.execution.settings import choose_execution
    from cifar_lab.train.precision import resolve_precision

    try:
        execution, workers = choose_execution(name, "auto", 100)
        usable = places(find_device(name))
    except UsageError as error:
        yield DoctorCheck("execution", False, str(error))
        return
    device = torch.device(usable[0] if usable else kind)
    precision = resolve_precision("auto", device)
    line = f"{usable[0] if len(usable) == 1 else kind}, {precision}, {workers} workers of {execution.threads} threads"
    yield DoctorCheck("execution", True, line, {"device": execution.device, "precision": precision, "workers": workers})
    yield _speed(device, precision)


def _speed(device: torch.device, precision: str) -> DoctorCheck:
    """Measure matrix products in fp32 and in the precision of cells, and a GPU's memory bandwidth."""
    from cifar_lab.execution.device_rates import bandwidth, product
    from cifar_lab.execution.out_of_memory import is_out_of_memory

    used = ["fp32", precision] if precision != "fp32" else ["fp32"]
    try:
        gflops = {each: round(product(device, each) / 1e9, 1) for each in used}  # type: ignore[arg-type]
        gbytes = round(bandwidth(device) / 1e9, 1) if device.type == "cuda" else None
    except RuntimeError as error:
        reason = "no memory is free" if is_out_of_memory(error) else first_line(error)
        return DoctorCheck("speed", False, f"{device}: could not be measured: {reason}")
    said = [f"{rate:,.0f} GFLOP/s in {name}" for name, rate in gflops.items()]
    said += [f"{gbytes:,.0f} GB/s of memory"] if gbytes is not None else []
    values = {"device": str(device), "gflops": gflops, **({"gb_per_s": gbytes} if gbytes is not None else {})}
    return DoctorCheck("speed", True, f"{device}: {', '.join(said)} (measured)", values)


def _store() -> DoctorCheck:
    """Check that the tracking store answers, and accepts runs. A missing SQLite store is not created."""
    from cifar_lab.mlflow_sync.client import MLflowStore
    from cifar_lab.mlflow_sync.uri import require_usable, resolve_uri, sqlite_path

    if find_spec("mlflow") is None:
        return DoctorCheck(
            "MLflow store", False, "mlflow is not installed: `pip install mlflow`, or work with --offline"
        )
    uri = resolve_uri()
    path = sqlite_path(uri)

    def check() -> None:
        require_usable(uri)
        if path is None or path.exists():
            MLflowStore.open(uri).shown()

    new = " (made by the first run)" if path is not None and not path.exists() else ""
    return DoctorCheck("MLflow store", *_usable(check, printable(redacted(uri)) + new))


def _usable(check: Callable[[], None], place: str) -> tuple[bool, str]:
    try:
        check()
    except CifarLabError as error:
        return False, str(error)
    return True, place
