"""A runs folder made by hand: what an invocation and its cells would leave there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef, Invocation

CIFAR10 = {"name": "CIFAR-10", "kind": "cifar10", "hash": "c" * 64, "source": "cifar10"}
CPU = {"device": "cpu", "threads": 2, "precision": "bf16", "compile": False}
PROVENANCE = {
    "git_commit": "0123456789abcdef" * 2 + "01234567",
    "git_dirty": True,
    "versions": {"torch": "2.9.1"},
    "hardware": {"processor": "EPYC", "cores": 2, "memory_gib": 8, "gpus": []},
}
R16, R4 = (0.90, 0.92, 0.91), (0.89, 0.90, 0.915)


class Runs:
    """A runs folder, and the notes and cells that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked_so_far = folder, 0

    def cell(self, variant: str, seed: int, recipe: str = "") -> CellRef:
        """A cell that is asked for; its fingerprint follows from variant, seed and recipe."""
        digest = hashlib.sha256(f"{recipe}/{variant}".encode()).hexdigest()
        return CellRef(
            variant=variant, seed=seed, fingerprint=hashlib.sha256(f"{digest}/{seed}".encode()).hexdigest(),
            recipe=digest, parameters=4_697_742, parameters_trained=295_000, macs=50_000_000,
        )  # fmt: skip

    def record(
        self, asked: CellRef, execution: dict[str, Any] = CPU, protocol: str = "holdout", precision: str = "auto"
    ) -> CellRecord:
        """The record of a cell that was begun."""
        record = CellRecord(self.folder / asked.fingerprint)
        record.folder.mkdir(parents=True, exist_ok=True)
        tree = {"fingerprint": asked.fingerprint, "seed": asked.seed, "execution": execution, "provenance": PROVENANCE}
        record.write_cell({**tree, "recipe": {"train": {"protocol": protocol, "precision": precision}}})
        return record

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
        tree = {"status": status, "epoch": epoch, "step": 0, "time": 1_790_000_000_000, "metrics": own | metrics}
        record.write_result(tree)
        return record

    def ask(self, cells: list[CellRef], **changed: Any) -> str:
        """One more call of `run-ablation` for `cells`, later than those before; its id."""
        self.asked_so_far += 1
        fields: dict[str, Any] = {
            "id": f"20261122T2100{self.asked_so_far:02}.000-{changed.get('ablation', 'se_ratio')}",
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
        }
        Invocation(**(fields | changed), cells=tuple(cells)).write(self.folder)
        return str((fields | changed)["id"])

    def study(self, r16: tuple[float, ...] = R16, r4: tuple[float, ...] = R4, recipe: str = "", **changed: Any) -> str:
        """Ask for as many seeds of `r16` and `r4` as there are accuracies, and end them so."""
        ends = {self.cell(name, seed, recipe): value for name, values in (("r16", r16), ("r4", r4))
                for seed, value in enumerate(values)}  # fmt: skip
        for asked, value in ends.items():
            self.end(asked, value, protocol=changed.get("protocol", "holdout"))
        return self.ask(list(ends), **changed)
