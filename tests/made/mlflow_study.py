"""Runs folders as a runner and its workers leave them, for what a store has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from made import records

from cifar_lab.config.recipe import Recipe
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef, Invocation
from cifar_lab.store.journal import Journal
from cifar_lab.store.journal_events import JournalEvent
from cifar_lab.store.record_files import Hardware, Provenance

DATA = records.SYNTHETIC
EXECUTION = {"device": "cpu", "threads": 1, "precision": "fp32", "compile": False}
PROVENANCE = Provenance(
    git_commit="c0ffee", git_dirty=False, versions={"torch": "2.9"}, hardware=Hardware(cores=2, gpus=())
)
CONFUSION = "label,cat,dog\ncat,3,1\ndog,0,4\n"


class Study:
    """Writes what a runner and its workers would leave in `runs`."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.recipes = {f"r{n}": Recipe().override({"model.se.reduction": n}) for n in (4, 16)}

    def asked(self, variant: str, seed: int) -> CellRef:
        recipe = self.recipes[variant]
        return CellRef(
            variant=variant,
            seed=seed,
            fingerprint=recipe.fingerprint(seed=seed, data_hash=DATA.hash),
            recipe=recipe.digest(),
            parameters=1000,
            parameters_trained=100,
            macs=5000,
        )

    def invocation(
        self, ablation: str = "se_ratio", *, time: str = "20260101T000000.000", seeds: int = 2,
        variants: tuple[str, ...] | None = None, **fields: Any,
    ) -> Invocation:  # fmt: skip
        """Both variants, or some, with `seeds` seeds, asked for long before any cell is begun."""
        standard = {
            "id": f"{time}-{ablation}",
            "ablation": ablation,
            "question": "Which ratio?\nSource: the writeup",
            "scale": "smoke",
            "data": DATA,
            "command": f"cifar-lab run-ablation {ablation}",
            "execution": EXECUTION,
            "provenance": PROVENANCE,
        }
        cells = (self.asked(variant, seed) for seed in range(seeds) for variant in variants or self.recipes)
        invocation = records.invocation(*cells, **(standard | fields))
        invocation.write(self.runs)
        return invocation

    def record(self, variant: str, seed: int) -> CellRecord:
        return CellRecord(self.runs / self.asked(variant, seed).fingerprint)

    def begin(self, variant: str = "r4", seed: int = 0) -> Journal:
        record = records.begin(
            self.record(variant, seed), seed=seed, recipe=self.recipes[variant], execution=EXECUTION,
            provenance=PROVENANCE,
        )  # fmt: skip
        journal = Journal(record.folder)
        journal.write("start")
        journal.write("resume", epoch=0, step=0)
        return journal

    def train(self, journal: Journal, epochs: range) -> None:
        for epoch in epochs:
            journal.points(epoch, {"val/acc": epoch / 10, "val/loss": 1 / epoch, "train/loss": 2 / epoch, "lr": 0.1})
            journal.write("checkpoint", epoch=epoch, step=0)

    def finish(
        self, variant: str = "r4", seed: int = 0, *, status: str = "finished", epoch: int = 3,
        accuracy: float | None = None, more: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        record = self.record(variant, seed)
        record.weights.write_bytes(b"weights")
        record.predictions.write_bytes(b"predictions")
        record.confusion.write_text(CONFUSION)
        journal = Journal(record.folder)
        journal.write("end", status=status)
        time = 1 + max(event.time for event in events(record))
        metrics = {"test/acc": 0.25 + seed if accuracy is None else accuracy, "val/acc": 0.3, "val/best_acc": 0.3}
        metrics |= more or {}
        records.end(record, metrics, status=status, epoch=epoch, time=time)

    def whole(self, variant: str = "r4", seed: int = 0, **end: Any) -> None:
        """A cell from its begin to its end, after three epochs."""
        self.train(self.begin(variant, seed), range(1, 4))
        self.finish(variant, seed, **end)

    def all(self) -> None:
        for variant in self.recipes:
            for seed in (0, 1):
                self.whole(variant, seed)


def events(record: CellRecord) -> list[JournalEvent]:
    from cifar_lab.store.journal import read_events

    return read_events(record.folder)
