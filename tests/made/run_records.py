"""A runs folder with what an invocation and its cells leave there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from made import records
from made.records import CIFAR10

from cifar_lab.config.recipe import Recipe
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef

CPU = {"device": "cpu", "threads": 2, "precision": "bf16", "compile": False}
"""Execution as stored by a version without CUDA graphs."""
R16, R4 = (0.90, 0.92, 0.91), (0.89, 0.90, 0.915)


class Runs:
    """A runs folder, and the notes and cells that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked_so_far = folder, 0
        self.lineages: dict[str, str] = {}
        """Digest of the recipe by variant, that of a declaration; others are made up."""

    def cell(self, variant: str, seed: int, recipe: str = "") -> CellRef:
        """A cell that is asked for; its fingerprint follows from variant, seed and recipe."""
        digest = self.lineages.get(variant) or hashlib.sha256(f"{recipe}/{variant}".encode()).hexdigest()
        return CellRef(
            variant=variant, seed=seed, fingerprint=hashlib.sha256(f"{digest}/{seed}".encode()).hexdigest(),
            recipe=digest, parameters=4_697_742, parameters_trained=295_000, macs=50_000_000,
        )  # fmt: skip

    def record(
        self, asked: CellRef, execution: dict[str, Any] = CPU, protocol: str = "holdout", precision: str = "auto"
    ) -> CellRecord:
        """The record of a cell that was begun."""
        recipe = Recipe().override({"train.protocol": protocol, "train.precision": precision})
        record = CellRecord(self.folder / asked.fingerprint)
        return records.begin(record, seed=asked.seed, recipe=recipe, execution=execution, data=CIFAR10)

    def end(
        self, asked: CellRef, accuracy: float, *, status: str = "finished", execution: dict[str, Any] = CPU,
        protocol: str = "holdout", precision: str = "auto", epoch: int = 10, **metrics: float,
    ) -> CellRecord:  # fmt: skip
        """`asked` came to its end with this test accuracy and `metrics`; under `writeup` its peak was 0.01 higher."""
        own = {"test/acc": accuracy, "seconds": 60.0, "images_seen": 1000.0}
        if protocol == "writeup":
            own["test/peak_acc"] = accuracy + 0.01
        if status == "diverged":
            own = {"seconds": 6.0, "images_seen": 100.0}
        record = self.record(asked, execution, protocol, precision)
        return records.end(record, own | metrics, status=status, epoch=epoch, step=0)

    def ask(self, cells: list[CellRef], **changed: Any) -> str:
        """One more call of `run-ablation` for `cells`, later than those before; its id."""
        self.asked_so_far += 1
        id = f"20261122T2100{self.asked_so_far:02}.000-{changed.get('ablation', 'se_ratio')}"
        note = records.invocation(*cells, **{"id": id, "execution": CPU, **changed})
        note.write(self.folder)
        return note.id

    def study(self, r16: tuple[float, ...] = R16, r4: tuple[float, ...] = R4, recipe: str = "", **changed: Any) -> str:
        """Ask for as many seeds of `r16` and `r4` as there are accuracies, and end them so."""
        ends = {self.cell(name, seed, recipe): value for name, values in (("r16", r16), ("r4", r4))
                for seed, value in enumerate(values)}  # fmt: skip
        for asked, value in ends.items():
            self.end(asked, value, protocol=changed.get("protocol", "holdout"))
        return self.ask(list(ends), **changed)
