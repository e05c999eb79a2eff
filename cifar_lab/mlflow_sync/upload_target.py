"""Place of an invocation in a tracking store: its experiment and its run, each found or created once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from cifar_lab.mlflow_sync import run_fields
from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.mlflow_sync.client import ExistingRun, MLflowStore
from cifar_lab.store import search_data
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.lock_on_store import locked_on_store
from cifar_lab.text import printable

Say = Callable[[str], None]


@dataclass(frozen=True)
class UploadTarget:
    """Destination of an invocation's cells: an experiment, and the parent run of the invocation."""

    experiment: str
    parent: str
    found: ExistingRun | None
    """Existing parent run; None if it was created now."""
    parents: dict[str, str | None] = field(default_factory=dict)
    """Runs of other invocations found so far, by the id of the invocation."""

    @classmethod
    def of(
        cls, invocation: Invocation, store: MLflowStore, runs: Path, history: InvocationHistory, say: Say
    ) -> UploadTarget:
        """Find the place, create it, or restore its experiment, which is said."""
        asked, seen = run_fields.of_invocation(invocation), history.view(invocation)
        with locked(runs / "shipping.lock", store):
            tags = {run_fields.NOTE: run_fields.experiment_note(invocation), seen.tag: seen.value()}
            experiment = store.experiment(invocation.ablation, tags, say)
            found = store.find(experiment, **asked.identity)
            place = cls(experiment, store.start(experiment, asked, found), found)
            place.renew(invocation, store)
            return place

    def renew(self, invocation: Invocation, store: MLflowStore) -> None:
        """Update the command and the counts in the run of a study that continues."""
        if search_data.is_search(invocation) and self.found is not None:
            tags = run_fields.of_invocation(invocation).tags
            now = {name: tags[name] for name in search_data.LATEST}
            if not now.items() <= self.found.tags.items():
                store.tag(self.parent, now)

    def parent_of(self, invocation: str, store: MLflowStore) -> str | None:
        """Return the run of another invocation, if it exists."""
        if invocation not in self.parents:
            identity = {"role": "invocation", "invocation": printable(invocation)}
            found = store.find(self.experiment, **identity)
            self.parents[invocation] = found.id if found is not None else None
        return self.parents[invocation]


@contextmanager
def locked(path: Path, store: MLflowStore) -> Iterator[None]:
    """Hold the lock for finding or creating a run, so that two runners do not create it twice."""
    lock = FileLock(path)
    with store.outside():
        lock.acquire()
    try:
        with locked_on_store(path):
            yield
    finally:
        lock.release()
