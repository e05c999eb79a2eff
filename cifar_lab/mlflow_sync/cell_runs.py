"""Runs of an experiment as the store lists them: those of each cell, without surplus ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from cifar_lab.mlflow_sync.client import ExistingRun, MLflowStore
from cifar_lab.mlflow_sync.tag_names import BEGAN, NOTED, PARENT, SHIPPED_TO, UNBEGUN, WITHOUT_FILES
from cifar_lab.text import many


class CellRuns:
    """Runs of cells in the store by fingerprint; each experiment is read once, and again after cells were shipped.

    A cell has several runs if several runs folders trained it. Runs of a former version get the present names of their
    tags, by which views select them; surplus runs are tagged as superseded (see `surplus_of`).
    """

    def __init__(self, store: MLflowStore, say: Callable[[str], None]) -> None:
        self._store, self._say = store, say
        self._known, self._pages = dict[str, dict[str, list[ExistingRun]]](), dict[str, str | None]()

    def of(self, ablation: str) -> Mapping[str, Sequence[ExistingRun]]:
        """Return the runs of an ablation's cells."""
        if ablation not in self._known:
            every, self._pages[ablation] = self._store.list_runs(ablation)
            surplus = surplus_of(every)
            for run in surplus:
                self._store.tag(run.id, {"role": "superseded"})
            if surplus:
                self._say(
                    f"{many(len(surplus), 'run')} in MLflow had a second run of the same, as after a deleted one is "
                    "restored: tagged as superseded"
                )
            gone = {run.id for run in surplus}
            cells = [run for run in every if run.tags.get("role") == "cell" and run.id not in gone]
            for run in cells:
                if run.outdated:
                    self._store.tag(run.id, run.outdated)
            self._known[ablation] = by_fingerprint(cells)
        return self._known[ablation]

    def last_page(self, ablation: str) -> str | None:
        """Return the token of the last page of an ablation's runs, as they were read last."""
        return self._pages[ablation]

    def forget(self, ablation: str) -> None:
        """Read the runs of an ablation anew when they are next needed."""
        self._known.pop(ablation, None)


def by_fingerprint(runs: Iterable[ExistingRun]) -> dict[str, list[ExistingRun]]:
    """Return the runs of cells by fingerprint, in their order; several runs folders may have trained one cell."""
    found: dict[str, list[ExistingRun]] = {}
    for run in runs:
        found.setdefault(run.tags.get("fingerprint", ""), []).append(run)
    return found


def surplus_of(runs: Sequence[ExistingRun]) -> list[ExistingRun]:
    """Return the runs of a training or an invocation that has another run, which stays.

    Two of one come about if a run is deleted, uploaded again and restored. The one that stays has ended, has everything
    and has runs below it, as far as these can tell them apart.
    """
    below = Counter(run.tags.get(PARENT) for run in runs)
    groups: dict[tuple[str | None, ...], list[ExistingRun]] = {}
    for run in runs:
        tags, role = run.tags, run.tags.get("role")
        if role == "cell" and tags.get(BEGAN, UNBEGUN) != UNBEGUN:
            groups.setdefault((role, tags.get("fingerprint"), tags[BEGAN]), []).append(run)
        elif role == "invocation":
            groups.setdefault((role, tags.get("invocation")), []).append(run)

    def rank(run: ExistingRun) -> tuple[bool, bool, int]:
        mark = run.tags.get(SHIPPED_TO if run.tags["role"] == "cell" else NOTED)
        return run.status != "RUNNING", mark not in {None, WITHOUT_FILES}, below[run.id]

    return [run for same in groups.values() for stays in [max(same, key=rank)] for run in same if run is not stays]
