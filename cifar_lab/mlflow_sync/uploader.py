"""Ship journals to MLflow: by a thread during training, and by `sync_invocations` for the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from cifar_lab.errors import CifarLabError, TrackingError
from cifar_lab.mlflow_sync import parent_run
from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.mlflow_sync.cell_sync import CellUpload, Draw, Say, UploadTarget
from cifar_lab.mlflow_sync.client import MLflowStore, StoreRefuses, StoreUnavailable
from cifar_lab.mlflow_sync.exit_gate import ExitGate, ThreadAbandoned
from cifar_lab.mlflow_sync.logged_model import ModelLogging, log_models
from cifar_lab.mlflow_sync.parent_run import Tabulate, no_table
from cifar_lab.mlflow_sync.tag_names import SETTLED
from cifar_lab.mlflow_sync.upload_lease import UploadLease
from cifar_lab.mlflow_sync.uri import sqlite_path
from cifar_lab.redaction import redacted
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.text import printable

PATIENCE = (1.0, 30.0)
"""Seconds to wait for an unavailable store: initially, and at most; doubled in between."""
CLOSING_PATIENCE = 2.0
"""Maximum of that wait while `drain` waits for the thread."""
STANDSTILL = 10.0
"""Seconds after which `drain` gives up an unresponsive store."""


class Uploader(threading.Thread):
    """Thread that follows the journals of an invocation's cells, and keeps their runs in MLflow up to date.

    All of mlflow, including its import, runs in this thread, and its errors never reach the trainer. It is a daemon, so
    that a hanging store keeps no process alive, and it does nothing more once `drain` has given it up.
    """

    def __init__(
        self,
        runs: Path,
        invocation: Invocation,
        open_store: Callable[[], MLflowStore],
        *,
        draw: Draw,
        say: Say,
        tabulate: Tabulate = no_table,
        models: ModelLogging | None = None,
        interval: float = 1.0,
        is_shared: bool = False,
    ) -> None:
        """Prepare the thread, to be started later.

        `models`: networks to log as models at the end. `interval`: seconds between two checks of the journals.
        `is_shared`: other runners may ship cells of the same invocation; cells that were not named by `train` are left
        to them until the end.
        """
        super().__init__(name="shipper", daemon=True)
        self._runs, self._invocation, self._open_store = runs, invocation, open_store
        self._draw, self._say, self._tabulate, self._interval = draw, once(say), tabulate, interval
        self._models, self.lacks_models = models, models is not None
        self._history = InvocationHistory(read_index(runs))
        self._shipments = _shipments(runs, invocation, self._history, draw, self._say)
        self._broken: set[str] = set()
        self._elsewhere: set[str] = set()
        self._is_shared, self._ours = is_shared, set[str]()
        self._claims = UploadLease(runs, invocation.ablation)
        self._store: MLflowStore | None = None
        self._place: UploadTarget | None = None
        self._is_away = False
        self._grown: Invocation | None = None
        self._closing, self._gate = threading.Event(), ExitGate()

    def run(self) -> None:
        """Ship until `drain` was called and everything is shipped."""
        try:
            with self._gate.working():
                try:
                    self._ship_until_drained()
                except Exception as error:  # noqa: BLE001 (said; the training goes on, and `sync_invocations` can ship later)
                    self._say(f"MLflow gets nothing from this run: {_one_line(error)}")
                finally:
                    self._claims.release()
                    if self._store is not None:
                        self._store.outside = nullcontext
        except ThreadAbandoned:
            return

    def follow(self, invocation: Invocation) -> None:
        """Continue with an invocation that has grown, as a search asks for one cell after another."""
        self._grown = invocation

    def train(self, fingerprint: str) -> None:
        """Record that this process trains a cell, and so ships it."""
        self._ours.add(fingerprint)

    def drain(self, timeout_s: float, standstill_s: float = STANDSTILL) -> int:
        """Ship the rest for at most `timeout_s` seconds, and end; return the number of cells still left.

        A server that does not answer for `standstill_s` seconds is given up earlier. A SQLite store is not, as the wait
        is for other runners.
        """
        self._closing.set()
        began = moved = time.monotonic()
        while self.is_alive() and (now := time.monotonic()) < began + timeout_s and now < moved + standstill_s:
            self.join(0.1)
            store = self._store
            if store is not None and sqlite_path(store.uri) is not None:
                moved = time.monotonic()
            elif not self._is_away:
                moved = max(moved, time.monotonic() - self._gate.waits())
        self._gate.shut()
        return _left([each for each in self._shipments if each.asked.fingerprint not in self._elsewhere])

    def _ship_until_drained(self) -> None:
        delay, longest = PATIENCE
        while True:
            closing = self._closing.is_set()
            try:
                self._look(closing=closing)
            except (StoreUnavailable, StoreRefuses) as error:
                self._store, self._place = None, None
                self._say_away(error)
                if closing and isinstance(error, StoreRefuses):
                    return
                self._wait(delay if isinstance(error, StoreUnavailable) else longest)
                delay = min(2 * delay, longest)
                continue
            self._is_away, delay = False, PATIENCE[0]
            if closing:
                return
            with self._gate.outside():
                self._closing.wait(self._interval)

    def _say_away(self, error: CifarLabError) -> None:
        if not self._is_away:
            self._say(f"{error}; going on without it, the journals keep everything")
        self._is_away = True

    def _wait(self, delay: float) -> None:
        """Wait for `delay` seconds, but less once `drain` waits for this thread."""
        with self._gate.outside():
            if self._closing.is_set():
                time.sleep(min(delay, CLOSING_PATIENCE))
            else:
                self._closing.wait(delay)

    def _look(self, *, closing: bool) -> None:
        self._grow(anew=closing)
        if self._store is None:
            self._store = self._open_store()
            self._store.outside = self._gate.outside
            self._store.reach()
            self._is_away = False
            _look(self._invocation, self._shipments, self._store, self._say)  # one search finds the complete ones
        if self._place is None:
            self._place = UploadTarget.of(self._invocation, self._store, self._runs, self._history)
        own = [each for each in self._shipments if each.asked.fingerprint in self._ours or not self._is_shared]
        for shipment in own:
            self._ship(shipment, self._store, self._place, closing=closing)
        if closing:
            if len(own) < len(self._shipments):
                self._ship_others(self._store, self._place)
            self._close(self._store, self._place)

    def _ship_others(self, store: MLflowStore, place: UploadTarget) -> None:
        """Ship the cells that other runners trained and that nobody ships now."""
        others = [each for each in self._shipments if each.asked.fingerprint not in self._ours]
        _look(self._invocation, others, store, self._say)
        for shipment in others:
            if not shipment.is_settled:
                self._ship(shipment, store, place, closing=True)

    def _ship(self, shipment: CellUpload, store: MLflowStore, place: UploadTarget, *, closing: bool) -> None:
        name = shipment.asked.fingerprint
        if shipment.is_damaged or (name in self._broken and not closing):
            return
        if not shipment.is_settled and shipment.run is None and not self._is_ours(shipment):
            return
        try:
            shipment.ship(store, place, closing=closing)
        except (StoreUnavailable, StoreRefuses):
            raise
        except Exception as error:  # noqa: BLE001 (said once; the other cells go on)
            if name not in self._broken:
                self._say(f"MLflow does not get {_name(shipment)}: {_one_line(error)}")
            self._broken.add(name)

    def _is_ours(self, shipment: CellUpload) -> bool:
        """Take the cell, unless another runner ships it."""
        is_free = self._is_free(shipment)
        (self._elsewhere.discard if is_free else self._elsewhere.add)(shipment.asked.fingerprint)
        return is_free

    def _is_free(self, shipment: CellUpload) -> bool:
        return shipment.is_empty or self._claims.take(shipment.asked.fingerprint)

    def _grow(self, *, anew: bool) -> None:
        """Add the cells and tags from `follow`, and from invocations made meanwhile."""
        if self._grown is None and not anew:
            return
        if self._grown is not None:
            self._invocation, self._grown = self._grown, None
        self._history = InvocationHistory(read_index(self._runs))
        known = {shipment.asked.fingerprint: shipment for shipment in self._shipments}
        for shipment in _shipments(self._runs, self._invocation, self._history, self._draw, self._say):
            old = known.get(shipment.asked.fingerprint)
            if old is None:
                self._shipments.append(shipment)
            else:
                old.invocation, old.history = self._invocation, self._history

    def _close(self, store: MLflowStore, place: UploadTarget) -> None:
        """Record how the invocation ended, and update the runs of its setting's earlier invocations."""
        parent_run.end(store, place, self._invocation, self._shipments)
        parent_run.add_note(store, place, self._invocation, self._shipments, self._tabulate, self._say)
        parent_run.settle(store, place, self._invocation, self._shipments)
        if self._models is not None:
            same = self._history.same_setting(self._invocation)
            lacking = log_models(store, place.experiment, self._runs, same, self._models, self._say)
            self.lacks_models = lacking > 0
        for past in self._history.same_setting(self._invocation):
            if past.id < self._invocation.id:
                shipments = _shipments(self._runs, past, self._history, self._draw, self._say)
                _sync_one(self._runs, past, shipments, store, self._tabulate, self._say, self._is_free)


def sync_invocations(
    runs: Path,
    invocations: Sequence[Invocation],
    store: MLflowStore,
    *,
    draw: Draw,
    say: Say,
    tabulate: Tabulate = no_table,
    models: ModelLogging | None = None,
) -> tuple[int, int]:
    """Ship everything that the store lacks of the cells of `invocations`, and update the runs of these.

    The store is queried for what it has: a lost one is filled again, and a complete one is left alone. An invocation
    that it refuses, for example because of its name, is reported, and the others continue.

    Returns:
        The numbers of cells shipped now, and of cells still not completely shipped.

    Raises:
        StoreRefuses: the store takes nothing now or later.
    """
    say = once(say)
    history = InvocationHistory(read_index(runs))
    batches = [(entry, _shipments(runs, entry, history, draw, say)) for entry in invocations]
    shipped = 0
    try:
        for invocation, shipments in batches:
            try:
                shipped += _sync_one(runs, invocation, shipments, store, tabulate, say)
                if models is not None and history.same_setting(invocation)[-1].id == invocation.id:
                    _sync_models(runs, invocation, history, store, models, say)
            except (StoreUnavailable, StoreRefuses):
                raise
            except Exception as error:  # noqa: BLE001 (said; the other invocations go on)
                say(f"MLflow does not get {invocation.id}: {_one_line(error)}")
    except StoreUnavailable as error:
        say(str(error))
    left = {
        (shipment.invocation.ablation, shipment.asked.fingerprint)
        for _, shipments in batches
        for shipment in shipments
        if _is_left(shipment)
    }
    return shipped, len(left)


def _sync_models(
    runs: Path, invocation: Invocation, history: InvocationHistory, store: MLflowStore, models: ModelLogging, say: Say
) -> None:
    """Log the models of an invocation's setting, if its runs are in the store."""
    if store.find_all(invocation.ablation, role="invocation", invocation=printable(invocation.id)):
        place = UploadTarget.of(invocation, store, runs, history)
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


def _sync_one(
    runs: Path,
    invocation: Invocation,
    shipments: list[CellUpload],
    store: MLflowStore,
    tabulate: Tabulate,
    say: Say,
    is_ours: Callable[[CellUpload], bool] = lambda _: True,
) -> int:
    _look(invocation, shipments, store, say)
    sound = [shipment for shipment in shipments if not shipment.is_damaged]
    if all(shipment.is_empty for shipment in sound):
        return 0
    place, shipped = UploadTarget.of(invocation, store, runs, shipments[0].history), 0
    lacking = [shipment for shipment in sound if not shipment.is_settled and is_ours(shipment)]
    for shipment in lacking:
        try:
            shipped += shipment.ship(store, place, closing=True)
        except (StoreUnavailable, StoreRefuses):
            raise
        except Exception as error:  # noqa: BLE001 (said; the other cells go on)
            say(f"MLflow does not get {_name(shipment)}: {_one_line(error)}")
    is_open = lacking or place.found is None or place.found.status == "RUNNING"
    if is_open and len(sound) == len(shipments):  # the outcome is unknown while a record cannot be read
        parent_run.end(store, place, invocation, shipments)
    parent_run.add_note(store, place, invocation, shipments, tabulate, say)
    parent_run.settle(store, place, invocation, shipments)
    return shipped


def _look(invocation: Invocation, shipments: list[CellUpload], store: MLflowStore, say: Say) -> None:
    """Mark the shipments that the store already has; a damaged record is reported and left alone.

    Runs of a former version get the present names of their tags, by which views select them.
    """
    cells = {run.tags["fingerprint"]: run for run in store.find_all(invocation.ablation, role="cell")}
    for run in cells.values():
        if run.outdated:
            store.tag(run.id, run.outdated)
    for shipment in shipments:
        try:
            shipment.look(cells.get(shipment.asked.fingerprint))
        except (StoreUnavailable, StoreRefuses):
            raise
        except TrackingError as error:
            shipment.is_damaged = True
            say(f"MLflow does not get {_name(shipment)}: {error}")


def _shipments(
    runs: Path, invocation: Invocation, history: InvocationHistory, draw: Draw, say: Say
) -> list[CellUpload]:
    """Return one shipment per cell; variants that coincide share a cell, and so its run."""
    cells = {asked.fingerprint: asked for asked in reversed(invocation.cells)}
    return [CellUpload(runs, invocation, asked, history, draw, say) for asked in reversed(cells.values())]


def _left(shipments: list[CellUpload]) -> int:
    return sum(_is_left(shipment) for shipment in shipments)


def _is_left(shipment: CellUpload) -> bool:
    return shipment.is_damaged or (not shipment.is_settled and not shipment.is_empty)


def once(say: Say) -> Say:
    """Return a `say` that repeats no line."""
    told: set[str] = set()

    def say_once(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    return say_once


def _name(shipment: CellUpload) -> str:
    return printable(f"{shipment.asked.variant}/s{shipment.asked.seed}")


def _one_line(error: BaseException) -> str:
    """Return an error as one line, with its type unless it is one of this package."""
    first = next(iter(str(error).splitlines()), "")
    text = first if isinstance(error, CifarLabError) else f"{type(error).__name__}: {first}"
    return printable(redacted(text))
