"""Ship the journals of an invocation to MLflow while its cells are trained, by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from cifar_lab.errors import CifarLabError
from cifar_lab.mlflow_sync import parent_run
from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.mlflow_sync.cell_runs import CellRuns
from cifar_lab.mlflow_sync.cell_sync import CellUpload, Draw
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.exit_gate import ExitGate, ThreadAbandoned
from cifar_lab.mlflow_sync.invocation_sync import (
    cell_uploads,
    is_left,
    kept_by_setting,
    mark_stored,
    say_beside,
    say_once,
    sync_invocation,
    upload_error_line,
    upload_name,
)
from cifar_lab.mlflow_sync.logged_model import ModelLogging, log_models
from cifar_lab.mlflow_sync.parent_run import Tabulate, no_table
from cifar_lab.mlflow_sync.server_errors import StoreRefuses, StoreUnavailable
from cifar_lab.mlflow_sync.upload_lease import UploadLease
from cifar_lab.mlflow_sync.upload_target import Say, UploadTarget
from cifar_lab.mlflow_sync.uri import sqlite_path
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index

PATIENCE = (1.0, 30.0)
"""Seconds to wait for an unavailable store: initially, and at most; doubled in between."""
CLOSING_PATIENCE = 2.0
"""Maximum of that wait while `drain` waits for the thread."""
RETRY = 2.0
"""Seconds to wait before a cell is tried again that could not be shipped, initially; doubled each time. Its record may
have been moved or written at that moment."""
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
        self._draw, self._say, self._tabulate, self._interval = draw, say_once(say), tabulate, interval
        self._models, self.lacks_models = models, models is not None
        self._history = InvocationHistory(read_index(runs))
        self._shipments = cell_uploads(runs, invocation, self._history, draw, self._say)
        self._broken: dict[str, tuple[float, float]] = {}
        self._elsewhere: set[str] = set()
        self._is_shared, self._ours = is_shared, set[str]()
        self._claims = UploadLease(runs, invocation.ablation)
        self._store: MLflowStore | None = None
        self._place: UploadTarget | None = None
        self._is_away, self._tell, self._is_told_away = False, say, False
        self._has_closed = False
        self._grown: Invocation | None = None
        self._closing, self._gate = threading.Event(), ExitGate()

    def run(self) -> None:
        """Ship until `drain` was called and everything is shipped."""
        try:
            with self._gate.working():
                try:
                    self._ship_until_drained()
                except Exception as error:  # noqa: BLE001 (said; the training goes on, and `sync_invocations` can ship later)
                    self._say(f"MLflow gets nothing from this run: {upload_error_line(error)}")
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
        own = [each for each in self._shipments if each.asked.fingerprint not in self._elsewhere]
        return sum(is_left(each) or (not self._has_closed and each.is_behind()) for each in own)

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
            self._say_back()
            if closing:
                self._has_closed = True
                return
            with self._gate.outside():
                self._closing.wait(self._interval)

    def _say_away(self, error: CifarLabError) -> None:
        if not self._is_told_away:
            self._tell(f"{error}; going on without it, the journals keep everything")
        self._is_away = self._is_told_away = True

    def _say_back(self) -> None:
        if self._is_told_away:
            self._tell("MLflow is back, and gets what it lacks")
        self._is_told_away = False

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
            cells = CellRuns(self._store, self._say)  # one search finds the complete ones
            mark_stored(self._invocation, self._shipments, cells, self._say)
        if self._place is None:
            self._place = UploadTarget.of(self._invocation, self._store, self._runs, self._history, self._say)
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
        mark_stored(self._invocation, others, CellRuns(store, self._say), self._say)
        for shipment in others:
            if not shipment.is_settled:
                self._ship(shipment, store, place, closing=True)

    def _ship(self, shipment: CellUpload, store: MLflowStore, place: UploadTarget, *, closing: bool) -> None:
        name = shipment.asked.fingerprint
        due, delay = self._broken.get(name, (0.0, RETRY))
        if not closing and (shipment.is_final or time.monotonic() < due):
            return
        if not shipment.is_settled and shipment.run is None and not self._is_ours(shipment):
            return
        try:
            shipment.ship(store, place, closing=closing)
            shipment.is_damaged = False
        except (StoreUnavailable, StoreRefuses):
            raise
        except Exception as error:  # noqa: BLE001 (said once; the other cells go on)
            if name not in self._broken:
                self._say(f"MLflow does not get {upload_name(shipment)}: {upload_error_line(error)}")
            self._broken[name] = time.monotonic() + delay, 2 * delay
        if shipment.is_final or closing:
            self._claims.give_back(name)

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
        for shipment in cell_uploads(self._runs, self._invocation, self._history, self._draw, self._say):
            old = known.get(shipment.asked.fingerprint)
            if old is None:
                self._shipments.append(shipment)
            else:
                old.invocation, old.history, old.is_final = self._invocation, self._history, False

    def _close(self, store: MLflowStore, place: UploadTarget) -> None:
        """Record how the invocation ended, and update the runs of its setting's earlier invocations."""
        say_beside(self._invocation, self._shipments, self._say)
        parent_run.end(store, place, self._invocation, self._shipments)
        parent_run.add_note(store, place, self._invocation, self._shipments, self._tabulate, self._say)
        parent_run.settle(store, place, self._invocation, self._shipments)
        if self._models is not None:
            same = self._history.same_setting(self._invocation)
            lacking = log_models(store, place.experiment, self._runs, same, self._models, self._say)
            self.lacks_models = lacking > 0
        tabulate, runs_of = kept_by_setting(self._tabulate), CellRuns(store, self._say)
        for past in self._history.same_setting(self._invocation):
            if past.id < self._invocation.id:
                shipments = cell_uploads(self._runs, past, self._history, self._draw, self._say)
                sync_invocation(self._runs, past, shipments, store, runs_of, tabulate, self._say, self._claims)
