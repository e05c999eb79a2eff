"""Records and notes as a runner and its workers write them: through the types and the writers of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef, Invocation
from cifar_lab.store.record_files import (
    CellFile,
    CrossedVariants,
    DataIdentity,
    DataSource,
    FailureFile,
    Hardware,
    Provenance,
    ResultFile,
    StoredExecution,
    StoredRecipe,
)

SYNTHETIC = DataSource(name="synthetic", kind="synthetic", hash="d" * 64, source="synthetic")
CIFAR10 = DataSource(name="CIFAR-10", kind="cifar10", hash="c" * 64, source="cifar10")
CPU = Execution(device="cpu", threads=2, precision="bf16")
PROVENANCE = Provenance(
    git_commit="0123456789abcdef" * 2 + "01234567",
    git_dirty=True,
    versions={"torch": "2.9.1"},
    hardware=Hardware(processor="EPYC", cores=2, memory_gib=8.0, gpus=()),
)
MOMENT = 1_790_000_000_000
"""Time in ms at which cells end."""
Settings = Execution | Mapping[str, Any]
"""Execution, or the fields in which one of an older version differs from device cpu, 2 threads, precision bf16."""


def stored_execution(execution: Settings) -> StoredExecution:
    """Return an execution as some version stored it."""
    if isinstance(execution, Execution):
        return StoredExecution.of(execution)
    return StoredExecution.model_validate({"device": "cpu", "threads": 2, "precision": "bf16", **execution})


def cell_file(
    fingerprint: str, *, seed: int = 0, recipe: Recipe | Mapping[str, Any] | None = None, data: DataSource = SYNTHETIC,
    execution: Settings = CPU, provenance: Provenance = PROVENANCE, **more: Any,
) -> CellFile:  # fmt: skip
    """Return the content of `cell.json`; `recipe` may be the JSON of another version."""
    is_json = isinstance(recipe, Mapping)
    return CellFile(
        fingerprint=fingerprint,
        seed=seed,
        recipe=StoredRecipe.model_validate(recipe) if is_json else StoredRecipe.of(recipe or Recipe()),
        data=DataIdentity(name=data.name, kind=data.kind, hash=data.hash),
        execution=stored_execution(execution),
        provenance=provenance,
        **{"classes": ("cat", "dog"), "parameters": 295_000, "macs": 50_000_000, "numerics": 1, **more},
    )


def begin(record: CellRecord, **fields: Any) -> CellRecord:
    """Write `cell.json`; `fields` as for `cell_file`."""
    record.folder.mkdir(parents=True, exist_ok=True)
    record.write_cell(cell_file(record.fingerprint, **fields))
    return record


def result_file(metrics: Mapping[str, float] | None = None, **changed: Any) -> ResultFile:
    """Return the content of `result.json`: one epoch, finished."""
    fields = {"status": "finished", "epoch": 1, "step": None, "time": MOMENT, "metrics": dict(metrics or {})}
    return ResultFile(**(fields | changed))


def end(record: CellRecord, metrics: Mapping[str, float] | None = None, **changed: Any) -> CellRecord:
    """Write `result.json` of a cell that has begun, or begin it first; `changed`: fields of the result."""
    if not (record.folder / "cell.json").exists():
        begin(record)
    record.write_result(result_file(metrics, **changed))
    return record


def fail(record: CellRecord, error: str = "RuntimeError: broke", trace: str = "", **changed: Any) -> CellRecord:
    """Write `failure.json`."""
    record.folder.mkdir(parents=True, exist_ok=True)
    record.write_failure(FailureFile(error=error, trace=trace, **{"time": 1, **changed}))
    return record


def cell_ref(fingerprint: str, variant: str = "r16", seed: int = 0, **changed: Any) -> CellRef:
    """Return the entry of a cell in a note."""
    fields = {"recipe": variant, "parameters": 1, "parameters_trained": 1, "macs": 1}
    return CellRef(variant=variant, seed=seed, fingerprint=fingerprint, **(fields | changed))


def invocation(*cells: CellRef, **changed: Any) -> Invocation:
    """Return a note of `run-ablation se_ratio`; `execution` may be the fields of an older version."""
    fields: dict[str, Any] = {
        "id": "20261122T210000.000-se_ratio",
        "ablation": "se_ratio",
        "question": "Which reduction?",
        "factors": ("model.se.reduction",),
        "control": "r16",
        "scale": "small",
        "protocol": "holdout",
        "data": CIFAR10,
        "overrides": {},
        "command": "cifar-lab run-ablation se_ratio",
        "execution": CPU,
        **changed,
    }
    if fields["execution"] is not None:
        fields["execution"] = stored_execution(fields["execution"])
    if isinstance(crossing := fields.get("crossing"), Mapping):
        fields["crossing"] = CrossedVariants.model_validate(crossing)
    return Invocation(**fields, cells=cells)
