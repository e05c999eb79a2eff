"""Feed MLflow from the journals: what the runner and `sync` ask for, with the figures that tracking cannot draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from cifar_lab.report import figures, tables
from cifar_lab.run import results
from cifar_lab.tracking import mlflow
from cifar_lab.tracking.invocation import Invocation, read_all
from cifar_lab.tracking.journal import read_points
from cifar_lab.tracking.overview import Table, Tabulate
from cifar_lab.tracking.record import Record
from cifar_lab.tracking.shipper import Shipper, sync


def start(runs: Path, invocation: Invocation, say: Callable[[str], None]) -> Shipper:
    """A thread that ships the cells of `invocation` while they are trained."""
    uri = mlflow.resolve_uri()  # now: where the user stands, and not where a thread finds itself later
    shipper = Shipper(
        runs, invocation, lambda: mlflow.Store.open(uri), draw=_artist(read_all(runs)), say=say, tabulate=_writer(runs)
    )
    shipper.start()
    return shipper


def sync_all(runs: Path, say: Callable[[str], None]) -> tuple[int, int]:
    """Ship everything in `runs` that the store lacks: (cells shipped now, cells left).

    Raises:
        TrackingError: the store cannot be written.
    """
    uri = mlflow.resolve_uri()
    mlflow.require_usable(uri)
    invocations = read_all(runs)
    store = mlflow.Store.open(uri)
    return sync(runs, invocations, store, draw=_artist(invocations), say=say, tabulate=_writer(runs))


def _writer(runs: Path) -> Tabulate:
    """Writes the table that `compare` prints for the setting of an invocation."""

    def tabulate(invocation: Invocation) -> Table:
        found = results.compare(runs, invocation.ablation, invocation=invocation.id)
        return Table(tables.as_markdown(found), tables.as_csv(found))

    return tabulate


def _artist(invocations: Iterable[Invocation]) -> Callable[[Record], dict[str, bytes]]:
    """Draws a cell's figures under the name that it has in an ablation: `se_ratio r4/s0`."""
    names = {
        cell.fingerprint: f"{invocation.ablation} {cell.variant}/s{cell.seed}"
        for invocation in invocations
        for cell in invocation.cells
    }

    def draw(record: Record) -> dict[str, bytes]:
        points = [(point.epoch, point.values) for point in read_points(record.folder)]
        confusion = record.confusion.read_text() if record.confusion.exists() else None
        return figures.draw(points, confusion, names.get(record.fingerprint, record.fingerprint[:12]))

    return draw
