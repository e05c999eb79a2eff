"""Write records of cells as a training would leave them, without training."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from cifar_lab.config.recipe import NUMERICS
from cifar_lab.data.dataset import Dataset
from cifar_lab.execution.settings import resolved
from cifar_lab.execution.worker import CellJob
from cifar_lab.models.cost import network_cost
from cifar_lab.store.record_files import CellFile, DataIdentity, StoredExecution, StoredRecipe


def cell_file(job: CellJob, dataset: Dataset) -> CellFile:
    """Return the content of `cell.json`."""
    counted = network_cost(job.recipe.model)
    return CellFile(
        fingerprint=job.fingerprint,
        seed=job.seed,
        recipe=StoredRecipe.of(job.recipe),
        data=DataIdentity(name=dataset.name, kind=dataset.kind, hash=dataset.hash),
        classes=tuple(dataset.classes),
        parameters=counted.parameters,
        macs=counted.macs,
        numerics=NUMERICS,
        execution=StoredExecution.of(resolved(job.execution, job.recipe)),
        provenance=job.provenance,
    )


def write_finished(job: CellJob, dataset: Dataset, accuracy: float) -> None:
    """Write a cell with `accuracy`, a fraction, in all epochs, without forcing it to the disk."""
    folder = job.record.folder
    folder.mkdir(parents=True, exist_ok=True)
    now, epochs = time.time_ns() // 1_000_000, job.recipe.train.epochs
    (folder / "cell.json").write_text(json.dumps(cell_file(job, dataset).as_json(), indent=1))
    events = [
        {"event": "start", "execution": job.execution.as_dict(), "provenance": job.provenance.as_json()},
        {"event": "resume", "epoch": 0, "step": 0},
        *(event for epoch in range(1, epochs + 1) for event in _epoch(epoch, accuracy * epoch / epochs)),
        {"event": "end", "status": "finished", "epoch": epochs, "step": None},
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps({"time": now, **event}) + "\n" for event in events))
    metrics = {"test/acc": accuracy, "test/loss": -math.log(accuracy), "val/acc": accuracy, "val/auc": accuracy / 2}
    metrics |= {"gap": 0.01, "rise": 0.001, "seconds": 60.0, "images_seen": 1e5, "images_per_second": 1700.0}
    result = {"status": "finished", "epoch": epochs, "step": None, "time": now, "metrics": metrics}
    (folder / "result.json").write_text(json.dumps(result, indent=1))


def _epoch(epoch: int, accuracy: float) -> list[dict[str, Any]]:
    values = {f"{name}/acc": accuracy for name in ("clean_train", "val")}
    values |= {f"{name}/loss": 1 - accuracy for name in ("train", "clean_train", "val")}
    values |= {"lr": 0.1, "grad_norm": 1.0, "images_seen": 1e4 * epoch, "images_per_second": 1700.0, "seconds": 6.0}
    return [{"event": "points", "epoch": epoch, "values": values}, {"event": "checkpoint", "epoch": epoch, "step": 0}]
