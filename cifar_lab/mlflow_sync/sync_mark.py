"""Mark of an experiment that has everything of a runs folder, so that the next `sync` reads neither records nor runs.

After an upload that left nothing of an ablation, its experiment gets a tag of three parts: a digest of the sizes, times
and inodes of notes and records, a digest of the experiment's description, its views and the last page of its runs, and
the token of that page. Whatever changes leads to a full look: a record that was changed or redone, a new note, a run
that was deleted (those after it move up, so that the last page is another one), and another store, which has no such
tag. The tag is written last, so that an upload that broke off has none of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cifar_lab import __version__
from cifar_lab.mlflow_sync import ui_view
from cifar_lab.mlflow_sync.client import ExistingRun, MLflowStore, experiment_name
from cifar_lab.mlflow_sync.run_fields import NOTE
from cifar_lab.mlflow_sync.server_errors import CallRefused, StoreUnavailable
from cifar_lab.mlflow_sync.tag_names import SYNCED
from cifar_lab.store.invocation import invocation_paths
from cifar_lab.store.invocation_index import InvocationIndex
from cifar_lab.store.kept_objects import version_of

READ = ("cell.json", "result.json", "failure.json", "journal.jsonl")
"""Files of a record by which the upload knows what the store lacks; `result.json` has the checksums of the others."""


class SyncMarks:
    """Marks of the experiments of a runs folder in one store.

    The disk is looked at when the object is made: what changes during an upload is looked at again by the next one.
    """

    def __init__(self, runs: Path, index: InvocationIndex, store: MLflowStore) -> None:
        self._store = store
        self._tag = SYNCED + hashlib.sha256(str(runs).encode()).hexdigest()[:12]
        ablations = dict.fromkeys(invocation.ablation for invocation in index.invocations)
        self._disk = {ablation: _state_on_disk(runs, index, ablation) for ablation in ablations}

    @property
    def ablations(self) -> Iterable[str]:
        """Return the names of all ablations of the folder."""
        return self._disk.keys()

    def holds(self, ablation: str) -> bool:
        """Tell whether the store has everything of an ablation, by its mark; False if that cannot be told."""
        try:
            experiment = self._experiment(ablation)
            mark = experiment.tags.get(self._tag) if experiment is not None else None
            if mark is None or not mark.startswith(f"{self._disk[ablation]} "):
                return False
            runs, _ = self._store.list_runs(ablation, mark.split(" ")[2] or None)
        except (CallRefused, StoreUnavailable):  # a token that is valid no more; or the upload will say it
            return False
        return bool(mark.split(" ")[1] == _state_in_store(experiment, runs))

    def write(self, ablation: str, page: str | None) -> None:
        """Mark the experiment of an ablation; `page`: token of the last page of its runs, which is read again.

        Raises:
            StoreUnavailable, StoreRefuses: the store does not answer, or refuses.
        """
        experiment = self._experiment(ablation)
        runs, last = self._store.list_runs(ablation, page)
        if experiment is not None and last == page:  # else another program began a page meanwhile
            mark = f"{self._disk[ablation]} {_state_in_store(experiment, runs)} {page or ''}"
            with suppress(CallRefused):  # a token that is too long for a tag: the next upload looks at everything
                self._store.call(lambda client: client.set_experiment_tag(experiment.experiment_id, self._tag, mark))

    def _experiment(self, ablation: str) -> Any:
        found = self._store.call(lambda client: client.get_experiment_by_name(experiment_name(ablation)))
        return found if found is not None and found.lifecycle_stage == "active" else None


def _state_on_disk(runs: Path, index: InvocationIndex, ablation: str) -> str:
    """Return a digest of the versions of an ablation's notes, damaged ones included, and of its cells' records."""
    ids = {invocation.id for invocation in index.of_ablation(ablation)}
    notes = [path for path in invocation_paths(runs) if path.stem in ids or path.stem.partition("-")[2] == ablation]
    cells = sorted({cell.fingerprint for each in index.of_ablation(ablation) for cell in each.cells})
    files = [*notes, *(runs / cell / name for cell in cells for name in READ)]
    return _digest_of([__version__, *((path.relative_to(runs).as_posix(), version_of(path)) for path in files)])


def _state_in_store(experiment: Any, runs: Iterable[ExistingRun]) -> str:
    """Return a digest of an experiment's description and views, and of the runs on its last page."""
    own = {key: text for key, text in experiment.tags.items() if key == NOTE or key.startswith(ui_view.TAGS)}
    return _digest_of([own, [[run.id, run.status, dict(run.tags)] for run in runs]])


def _digest_of(tree: object) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]
