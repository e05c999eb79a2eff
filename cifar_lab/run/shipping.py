"""Feed MLflow from the journals: what the runner and `sync` ask for, with the figures that tracking cannot draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cifar_lab.ablation import Ablation
from cifar_lab.errors import CifarLabError, RegistryError
from cifar_lab.registry import Registry
from cifar_lab.report import figures, tables
from cifar_lab.report.page import report
from cifar_lab.run import results, study
from cifar_lab.tracking import mlflow, shipper
from cifar_lab.tracking.invocation import Invocation, read_all
from cifar_lab.tracking.journal import read_points
from cifar_lab.tracking.overview import Table, Tabulate
from cifar_lab.tracking.record import Record
from cifar_lab.tracking.shipper import Shipper, sync
from cifar_lab.tracking.uri import sqlite_path

Files = Callable[[Invocation], Mapping[str, str]]
"""What goes beside the table of an invocation, by the name of its file."""


def start(
    runs: Path, invocation: Invocation, files: Files, say: Callable[[str], None], *, is_shared: bool = False
) -> Shipper:
    """Start a thread that ships the cells of `invocation` while they are trained; `files` is called in it, at the end.

    `is_shared`: other runners may train, and ship, some of the cells (see `Shipper`).
    """
    uri = mlflow.resolve_uri()  # now: where the user stands, and not where a thread finds itself later
    shipper = Shipper(
        runs, invocation, lambda: mlflow.Store.open(uri), draw=_artist(read_all(runs)), say=say,
        tabulate=_writer(runs, files), is_shared=is_shared,
    )  # fmt: skip
    shipper.start()
    return shipper


def lacks(runs: Path, invocation: Invocation, say: Callable[[str], None]) -> bool:
    """Return whether the store lacks something of an invocation that trains nothing, and can be given it now.

    A store that is away or refuses is said in one line, and nobody waits for it.
    """
    try:
        uri = mlflow.resolve_uri()
        mlflow.require_usable(uri)
        store = mlflow.Store.open(uri)
        store.reach()
        return not shipper.has_all(runs, invocation, store)
    except CifarLabError as error:
        say(f"{error}; `cifar-lab sync` ships this run later")
        return False


def left_behind(count: int) -> str:
    """Return the line that says how many cells a store did not take in time, and what to do."""
    cells = "1 cell is" if count == 1 else f"{count} cells are"
    return f"{cells} not wholly in MLflow yet; `cifar-lab sync` ships the rest"


def reports(runs: Path, find: Callable[[str], Ablation | None]) -> Files:
    """The HTML report of the ablation that `find` knows by its name; of one that it does not know, nothing."""

    def files(invocation: Invocation) -> Mapping[str, str]:
        known = find(invocation.ablation)
        return {"report.html": report([study.load(runs, known, invocation=invocation.id)])} if known else {}

    return files


def sync_all(runs: Path, say: Callable[[str], None], registry: Registry | None = None) -> tuple[int, int]:
    """Ship everything in `runs` that the store lacks, and return the numbers of cells shipped now and left.

    An ablation that `registry` does not have gets its tables, and no report.

    Raises:
        TrackingError: the store cannot be used, or refuses.
        StoreAway: another process keeps a SQLite store locked.
    """
    uri = mlflow.resolve_uri()
    mlflow.require_usable(uri)
    invocations = read_all(runs)
    store = mlflow.Store.open(uri)
    tabulate = _writer(runs, reports(runs, _finder(registry)))
    return sync(runs, invocations, store, draw=_artist(invocations), say=say, tabulate=tabulate)


def lacking(runs: Path) -> dict[str, int]:
    """Return how many ended cells the store has no whole run of, by ablation; ablations that it has are left out.

    Raises:
        CifarLabError: the store cannot be asked.
    """
    uri, counts = mlflow.resolve_uri(), dict[str, int]()
    file = sqlite_path(uri)
    is_there = file is None or file.exists()  # to open a database that is not there would make it
    if is_there:
        mlflow.require_usable(uri)
    store = mlflow.Store.open(uri) if is_there else None
    asked: dict[str, set[str]] = {}
    for invocation in read_all(runs):
        asked.setdefault(invocation.ablation, set()).update(cell.fingerprint for cell in invocation.cells)
    for ablation, fingerprints in asked.items():
        found = store.find_all(ablation, role="cell") if store is not None else []
        shipped = {run.tags.get("fingerprint"): run.tags.get("shipped_to") for run in found}
        records = [Record(runs / name) for name in fingerprints]
        ended = [record for record in records if record.state() in {"finished", "diverged"}]
        lacks = sum(shipped.get(record.fingerprint) != str((record.result() or {})["time"]) for record in ended)
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
    """Writes what `compare` shows of the setting of an invocation, and `files`."""

    def tabulate(invocation: Invocation) -> Table:
        found = results.compare(runs, invocation.ablation, invocation=invocation.id)
        return Table(tables.as_markdown(found), tables.as_csv(found), lambda: files(invocation))

    return tabulate


def _artist(invocations: Iterable[Invocation]) -> Callable[[Record], dict[str, bytes]]:
    """Draws a cell's figures under the name that it has in an ablation: `se_ratio r4/s0`."""
    names = {
        cell.fingerprint: f"{invocation.ablation} {cell.variant}/s{cell.seed}"
        for invocation in invocations
        for cell in invocation.cells
    }

    def draw(record: Record) -> dict[str, bytes]:
        record.require_sound(record.confusion, record.journal)
        points = [(point.epoch, point.values) for point in read_points(record.folder)]
        confusion = record.confusion.read_text() if record.confusion.exists() else None
        return figures.draw(points, confusion, names.get(record.fingerprint, record.fingerprint[:12]))

    return draw
