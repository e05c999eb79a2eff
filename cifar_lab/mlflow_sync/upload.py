"""Upload journals to MLflow, for the runner and `sync`, with figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.registry import Registry
from cifar_lab.errors import CifarLabError, RegistryError
from cifar_lab.execution.upload import NoUpload, Upload
from cifar_lab.mlflow_sync.cell_runs import by_fingerprint
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import SyncOutcome, has_all, sync_invocations
from cifar_lab.mlflow_sync.logged_model import ModelLogging
from cifar_lab.mlflow_sync.parent_run import ComparisonFiles, Tabulate
from cifar_lab.mlflow_sync.shipped_mark import result_mark, whole_run
from cifar_lab.mlflow_sync.sync_mark import SyncMarks
from cifar_lab.mlflow_sync.uploader import Uploader
from cifar_lab.mlflow_sync.uri import require_usable, resolve_uri, sqlite_path
from cifar_lab.report import table_formats
from cifar_lab.report.ablation_page import load_ablation_page
from cifar_lab.report.charts import cell_png
from cifar_lab.report.html import render_ablations
from cifar_lab.results import compare
from cifar_lab.store.cell_record import ENDED, CellRecord
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.journal import read_points
from cifar_lab.text import many_are

Files = Callable[[Invocation], Mapping[str, str]]
"""Function that returns further artifacts of an invocation, by file name."""
DRAIN_SECONDS = 60.0
"""Maximum time that a run waits for a responsive MLflow after its last cell."""


class MLflowUpload:
    """Upload of a runner's results to MLflow, by a thread that follows the journals of its cells.

    What is not uploaded within `DRAIN_SECONDS` after the last cell stays in the journals for `cifar-lab sync`.
    """

    def __init__(
        self, runs: Path, files: Files, say: Callable[[str], None], *, is_shared: bool,
        models: ModelLogging | None = None,
    ) -> None:  # fmt: skip
        """Prepare the upload; see `open_upload`."""
        self._runs, self._files, self._say, self._is_shared = runs, files, say, is_shared
        self._models = models
        self._uploader: Uploader | None = None

    def update(self, invocation: Invocation, *, trains: bool) -> None:
        """Start the thread, or have it go on with an invocation that has grown.

        `trains`: this runner trains some of the cells; without any, the thread is started only if MLflow is reachable
        and lacks something.
        """
        if self._uploader is not None:
            self._uploader.follow(invocation)
        elif trains or self._models is not None or lacks(self._runs, invocation, self._say):
            shared = self._is_shared and trains
            self._uploader = start_upload(
                self._runs, invocation, self._files, self._say, is_shared=shared, models=self._models
            )

    def started(self, fingerprint: str) -> None:
        """Record that this runner trains a cell, and so uploads it."""
        if self._uploader is not None:
            self._uploader.train(fingerprint)

    def finish(self) -> None:
        """Wait for the rest, and tell the user how many cells were left."""
        if self._uploader is None:
            return
        if left := self._uploader.drain(DRAIN_SECONDS):
            self._say(left_behind(left))
        if self._models is not None and self._uploader.lacks_models:
            self._say(f"models are not all in MLflow; `cifar-lab sync --log-model {self._models.choice}` logs the rest")


def open_upload(
    runs: Path, files: Files, say: Callable[[str], None], *, offline: bool, is_shared: bool = False,
    models: ModelLogging | None = None,
) -> Upload:  # fmt: skip
    """Return the upload that a runner is given: to MLflow, or none if `offline`.

    `files`: further artifacts of the invocation, called in the thread at the end. `is_shared`: other runners may train,
    and upload, some of its cells. `models`: networks to log as models, once the cells have ended.
    """
    return NoUpload() if offline else MLflowUpload(runs, files, say, is_shared=is_shared, models=models)


def open_ablation_upload(
    runs: Path, ablation: Ablation, say: Callable[[str], None], *, offline: bool, models: ModelLogging | None = None,
    files: Callable[[], Mapping[str, str]] | None = None,
) -> Upload:  # fmt: skip
    """Return the upload for a run of `ablation`, with its report and `files`; the others as for `open_upload`."""
    report = reports(runs, lambda _: ablation)

    def every(invocation: Invocation) -> Mapping[str, str]:
        return {**report(invocation), **(files() if files is not None else {})}

    return open_upload(runs, every, say, offline=offline, is_shared=True, models=models)


def start_upload(
    runs: Path, invocation: Invocation, files: Files, say: Callable[[str], None], *, is_shared: bool = False,
    models: ModelLogging | None = None,
) -> Uploader:  # fmt: skip
    """Start a thread that ships the cells of `invocation` during training; `files` is called in it at the end.

    `is_shared`: other runners may train, and ship, some of the cells (see `Uploader`).
    """
    uri = resolve_uri()  # resolved here, in the user's working directory, not later in the thread
    shipper = Uploader(
        runs, invocation, lambda: MLflowStore.open(uri), draw=_artist(read_index(runs).invocations), say=say,
        tabulate=_writer(runs, files), is_shared=is_shared, models=models,
    )  # fmt: skip
    shipper.start()
    return shipper


def lacks(runs: Path, invocation: Invocation, say: Callable[[str], None]) -> bool:
    """Tell whether the store lacks something of an invocation that trains nothing, and is reachable now.

    An unavailable or refusing store is reported in one line, without waiting for it.
    """
    try:
        uri = resolve_uri()
        require_usable(uri)
        store = MLflowStore.open(uri)
        store.reach()
        return not has_all(runs, invocation, store)
    except CifarLabError as error:
        say(f"{error}; `cifar-lab sync` ships this run later")
        return False


def left_behind(count: int) -> str:
    """Return the line on how many cells the store did not take in time, and what to do."""
    return f"{many_are(count, 'cell')} not wholly in MLflow yet; `cifar-lab sync` ships the rest"


def reports(runs: Path, find: Callable[[str], Ablation | None]) -> Files:
    """Return a function that renders the HTML report of an ablation that `find` knows; no files for others."""

    def files(invocation: Invocation) -> Mapping[str, str]:
        known = find(invocation.ablation)
        if known is None:
            return {}
        return {"report.html": render_ablations([load_ablation_page(runs, known, invocation=invocation.id)])}

    return files


def sync_all(
    runs: Path, say: Callable[[str], None], registry: Registry | None = None, *, models: ModelLogging | None = None
) -> SyncOutcome:
    """Ship everything in `runs` that the store lacks.

    An ablation missing from `registry` gets its tables, but no report. `models`: networks to log as models.

    Raises:
        TrackingError: the store is unusable, or refuses the data.
        StoreUnavailable: another process keeps a SQLite store locked.
    """
    uri = resolve_uri()
    require_usable(uri)
    invocations = read_index(runs).invocations
    store = MLflowStore.open(uri)
    tabulate = _writer(runs, reports(runs, _finder(registry)))
    return sync_invocations(
        runs, invocations, store, draw=_artist(invocations), say=say, tabulate=tabulate, models=models
    )


def lacking(runs: Path) -> dict[str, int]:
    """Count by ablation the ended cells that the store lacks or has incompletely; complete ablations are left out.

    Raises:
        CifarLabError: the store cannot be queried.
    """
    uri, counts = resolve_uri(), dict[str, int]()
    file = sqlite_path(uri)
    is_there = file is None or file.exists()  # opening a missing database would create it
    if is_there:
        require_usable(uri)
    store = MLflowStore.open(uri) if is_there else None
    asked: dict[str, set[str]] = {}
    index = read_index(runs)
    for invocation in index.invocations:
        asked.setdefault(invocation.ablation, set()).update(cell.fingerprint for cell in invocation.cells)
    marks = SyncMarks(runs, index, store) if store is not None else None
    for ablation, fingerprints in asked.items():
        if marks is not None and marks.holds(ablation):
            continue
        found = store.find_all(ablation, role="cell") if store is not None else []
        shipped = by_fingerprint(found)
        records = [CellRecord(runs / name) for name in fingerprints]
        ended = [record for record in records if record.state() in ENDED]
        results = [(record, result) for record in ended if (result := record.result()) is not None]
        lacks = sum(
            whole_run(record, shipped.get(record.fingerprint, ()), result_mark(result)) is None
            for record, result in results
        )
        if lacks:
            counts[ablation] = lacks
    return counts


def _finder(registry: Registry | None) -> Callable[[str], Ablation | None]:
    def find(name: str) -> Ablation | None:
        try:
            return registry.find(name) if registry is not None else None
        except RegistryError:
            return None

    return find


def _writer(runs: Path, files: Files) -> Tabulate:
    """Return a function that writes the comparison of an invocation's setting, and `files`."""

    def tabulate(invocation: Invocation) -> ComparisonFiles:
        found = compare.compare(runs, invocation.ablation, invocation=invocation.id)
        return ComparisonFiles(table_formats.as_markdown(found), table_formats.as_csv(found), lambda: files(invocation))

    return tabulate


def _artist(invocations: Iterable[Invocation]) -> Callable[[CellRecord], dict[str, bytes]]:
    """Return a function that draws a cell's figures under its name in an ablation: `se_ratio r4/s0`."""
    names = {
        cell.fingerprint: f"{invocation.ablation} {cell.variant}/s{cell.seed}"
        for invocation in invocations
        for cell in invocation.cells
    }

    def draw(record: CellRecord) -> dict[str, bytes]:
        record.require_sound(record.confusion, record.journal)
        points = [(point.epoch, point.values) for point in read_points(record.folder)]
        confusion = record.confusion.read_text() if record.confusion.exists() else None
        return cell_png.draw_cell_figures(points, confusion, names.get(record.fingerprint, record.fingerprint[:12]))

    return draw
