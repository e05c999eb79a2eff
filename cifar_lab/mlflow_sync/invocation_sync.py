"""Ship what MLflow lacks of invocations that are over: their cells, their tables and their models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cifar_lab.errors import CifarLabError, TrackingError, first_line
from cifar_lab.mlflow_sync import parent_run
from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.mlflow_sync.cell_runs import CellRuns
from cifar_lab.mlflow_sync.cell_sync import CellUpload, Draw
from cifar_lab.mlflow_sync.client import MLflowStore, experiment_name
from cifar_lab.mlflow_sync.logged_model import ModelLogging, log_models
from cifar_lab.mlflow_sync.parent_run import ComparisonFiles, Tabulate, no_table
from cifar_lab.mlflow_sync.server_errors import StoreRefuses, StoreUnavailable
from cifar_lab.mlflow_sync.sync_mark import SyncMarks
from cifar_lab.mlflow_sync.tag_names import NOTED, SETTLED, WITHOUT_FILES
from cifar_lab.mlflow_sync.upload_lease import UploadLease
from cifar_lab.mlflow_sync.upload_target import Say, UploadTarget
from cifar_lab.redaction import redacted
from cifar_lab.store.comparison_key import ComparisonKey
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.text import many, printable


class SyncOutcome(NamedTuple):
    """Result of one upload of a runs folder."""

    shipped: int
    """Number of cells shipped now."""
    left: int
    """Number of cells still not completely shipped."""
    experiments: tuple[str, ...]
    """Names of the experiments that cells were shipped to."""


def sync_invocations(
    runs: Path,
    invocations: Sequence[Invocation],
    store: MLflowStore,
    *,
    draw: Draw,
    say: Say,
    tabulate: Tabulate = no_table,
    models: ModelLogging | None = None,
) -> SyncOutcome:
    """Ship everything that the store lacks of the cells of `invocations`, and update the runs of these.

    The store is queried for what it has: a lost one is filled again, and a complete one is left alone. Ablations that
    the mark of their experiment names complete are not read (see `sync_mark`). An invocation that the store refuses,
    for example because of its name, is reported, and the others continue.

    Raises:
        StoreRefuses: the store takes nothing now or later.
    """
    index = read_index(runs)
    marks, incomplete = SyncMarks(runs, index, store), set[str]()
    complete = {name for name in marks.ablations if models is None and marks.holds(name)}
    say, tabulate = say_once(say), kept_by_setting(_noting(tabulate, incomplete))
    runs_of, shipped = CellRuns(store, say), dict[str, int]()
    history = InvocationHistory(index)
    asked = [entry for entry in invocations if entry.ablation not in complete]
    batches = [(entry, cell_uploads(runs, entry, history, draw, say)) for entry in asked]
    try:
        for invocation, shipments in batches:
            try:
                count = sync_invocation(runs, invocation, shipments, store, runs_of, tabulate, say)
                shipped[invocation.ablation] = shipped.get(invocation.ablation, 0) + count
                if models is not None and history.same_setting(invocation)[-1].id == invocation.id:
                    _sync_models(runs, invocation, history, store, models, say)
            except (StoreUnavailable, StoreRefuses):
                raise
            except Exception as error:  # noqa: BLE001 (said; the other invocations go on)
                incomplete.add(invocation.ablation)
                say(f"MLflow does not get {invocation.id}: {upload_error_line(error)}")
        for ablation in dict.fromkeys(entry.ablation for entry in asked):
            own = [shipments for entry, shipments in batches if entry.ablation == ablation]
            if ablation not in incomplete and len(own) == len(index.of_ablation(ablation)):
                _mark_if_complete(ablation, own, store, runs_of, marks)
    except StoreUnavailable as error:
        say(str(error))
    left = {
        (shipment.invocation.ablation, shipment.asked.fingerprint)
        for _, shipments in batches
        for shipment in shipments
        if is_left(shipment)
    }
    experiments = tuple(experiment_name(ablation) for ablation, count in shipped.items() if count)
    return SyncOutcome(sum(shipped.values()), len(left), experiments)


def _noting(tabulate: Tabulate, failed: set[str]) -> Tabulate:
    """Return `tabulate`, which adds an ablation whose table cannot be made to `failed`."""

    def tabulate_noting(invocation: Invocation) -> ComparisonFiles | None:
        try:
            return tabulate(invocation)
        except Exception:
            failed.add(invocation.ablation)
            raise

    return tabulate_noting


def _mark_if_complete(
    ablation: str, batches: Sequence[Sequence[CellUpload]], store: MLflowStore, runs_of: CellRuns, marks: SyncMarks
) -> None:
    """Mark the experiment of an ablation if the store has all of its invocations, and nothing in it still runs."""
    shipments = [shipment for batch in batches for shipment in batch]
    cells = runs_of.of(ablation)
    parents = store.find_all(ablation, role="invocation")
    noted = {run.tags["invocation"] for run in parents if run.tags.get(NOTED) not in {None, WITHOUT_FILES}}
    every = [*(run for there in cells.values() for run in there), *parents]
    ended = {run.id for run in every if run.status != "RUNNING"}
    begun = [shipment for shipment in shipments if shipment.run is not None]
    has_cells = not any(map(is_left, shipments)) and ended >= {shipment.run for shipment in begun}
    wanted = {printable(shipment.invocation.id) for shipment in begun}
    if has_cells and wanted <= noted and ended >= {run.id for run in parents if run.tags["invocation"] in wanted}:
        marks.write(ablation, runs_of.last_page(ablation))


def _sync_models(
    runs: Path, invocation: Invocation, history: InvocationHistory, store: MLflowStore, models: ModelLogging, say: Say
) -> None:
    """Log the models of an invocation's setting, if its runs are in the store."""
    if store.find_all(invocation.ablation, role="invocation", invocation=printable(invocation.id)):
        place = UploadTarget.of(invocation, store, runs, history, say)
        log_models(store, place.experiment, runs, history.same_setting(invocation), models, say)


def has_all(runs: Path, invocation: Invocation, store: MLflowStore) -> bool:
    """Tell whether `store` has all of `invocation`, which asks for nothing new compared with the one before it.

    Only one run is looked up, not one per cell: that of the invocation before it in its setting, which must have had
    the same cells and been completely shipped in their present states.
    """
    before = [past for past in read_index(runs).with_key(invocation.key) if past.id < invocation.id]
    if not before or not invocation.asks_for_the_same(before[-1]):
        return False
    found = store.find_all(invocation.ablation, role="invocation", invocation=before[-1].id)
    return bool(found) and found[0].tags.get(SETTLED) == parent_run.state_of(runs, invocation)


def kept_by_setting(tabulate: Tabulate) -> Tabulate:
    """Return `tabulate` with its last answer kept: it is the same for all invocations of a setting."""
    kept: dict[ComparisonKey, ComparisonFiles | None] = {}

    def tabulate_once(invocation: Invocation) -> ComparisonFiles | None:
        if invocation.key not in kept:
            kept.clear()
            kept[invocation.key] = tabulate(invocation)
        return kept[invocation.key]

    return tabulate_once


def sync_invocation(
    runs: Path,
    invocation: Invocation,
    shipments: list[CellUpload],
    store: MLflowStore,
    runs_of: CellRuns,
    tabulate: Tabulate,
    say: Say,
    lease: UploadLease | None = None,
) -> int:
    """Ship what the store lacks of one invocation; with `lease`, without the cells that another runner ships."""
    mark_stored(invocation, shipments, runs_of, say)
    sound = [shipment for shipment in shipments if not shipment.is_damaged]
    if all(shipment.is_empty for shipment in sound):
        return 0
    place, shipped, is_open = UploadTarget.of(invocation, store, runs, shipments[0].history, say), 0, False
    for shipment in sound:
        name = shipment.asked.fingerprint
        shipment.check_parent(place)
        if shipment.is_settled or (lease is not None and not shipment.is_empty and not lease.take(name)):
            continue
        is_open = True
        try:
            shipped += shipment.ship(store, place, closing=True)
        except (StoreUnavailable, StoreRefuses):
            raise
        except Exception as error:  # noqa: BLE001 (said; the other cells go on)
            say(f"MLflow does not get {upload_name(shipment)}: {upload_error_line(error)}")
        if lease is not None:
            lease.give_back(name)
    say_beside(invocation, shipments, say)
    if is_open:
        runs_of.forget(invocation.ablation)
    is_open = is_open or place.found is None or place.found.status == "RUNNING"
    if is_open and len(sound) == len(shipments):  # the outcome is unknown while a record cannot be read
        parent_run.end(store, place, invocation, shipments)
    parent_run.add_note(store, place, invocation, shipments, tabulate, say)
    parent_run.settle(store, place, invocation, shipments)
    return shipped


def mark_stored(invocation: Invocation, shipments: list[CellUpload], runs_of: CellRuns, say: Say) -> None:
    """Mark the shipments that the store already has; a damaged record is reported and left alone."""
    cells = runs_of.of(invocation.ablation)
    for shipment in shipments:
        try:
            shipment.look(cells.get(shipment.asked.fingerprint, ()))
        except (StoreUnavailable, StoreRefuses):
            raise
        except TrackingError as error:
            shipment.is_damaged = True
            say(f"MLflow does not get {upload_name(shipment)}: {error}")


def say_beside(invocation: Invocation, shipments: Sequence[CellUpload], say: Say) -> None:
    """Say how many cells another runs folder has trained, too, of those whose runs were created now."""
    if count := sum(shipment.stands_beside for shipment in shipments):
        name, cells = experiment_name(invocation.ablation), many(count, "cell")
        say(f"experiment {name}: another training of {cells} is there, from another runs folder; both stay")


def cell_uploads(
    runs: Path, invocation: Invocation, history: InvocationHistory, draw: Draw, say: Say
) -> list[CellUpload]:
    """Return one shipment per cell; variants that coincide share a cell, and so its run."""
    cells = {asked.fingerprint: asked for asked in reversed(invocation.cells)}
    return [CellUpload(runs, invocation, asked, history, draw, say) for asked in reversed(cells.values())]


def is_left(shipment: CellUpload) -> bool:
    return shipment.is_damaged or (not shipment.is_settled and not shipment.is_empty)


def say_once(say: Say) -> Say:
    """Return a `say` that repeats no line."""
    told: set[str] = set()

    def say_new(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    return say_new


def upload_name(shipment: CellUpload) -> str:
    return printable(f"{shipment.asked.variant}/s{shipment.asked.seed}")


def upload_error_line(error: BaseException) -> str:
    """Return an error as one line, with its type unless it is one of this package."""
    first = first_line(error)
    text = first if isinstance(error, CifarLabError) else f"{type(error).__name__}: {first}"
    return printable(redacted(text))
