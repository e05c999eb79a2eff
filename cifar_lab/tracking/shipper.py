"""From the journals to MLflow: a thread beside the training, and `sync` for what it could not bring home."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from cifar_lab.errors import TrackingError
from cifar_lab.tracking import overview
from cifar_lab.tracking.history import History
from cifar_lab.tracking.invocation import Invocation, read_all
from cifar_lab.tracking.mlflow import Store, StoreAway
from cifar_lab.tracking.overview import Tabulate, no_table
from cifar_lab.tracking.shipment import Draw, Place, Say, Shipment
from cifar_lab.tracking.uri import redacted

PATIENCE = (1.0, 30.0)
"""Seconds to wait for a store that is away: at first, and at most; doubled in between."""
CLOSING_PATIENCE = 2.0
"""The same at most, while somebody waits for `drain`."""


class Shipper(threading.Thread):
    """Tails the journals of an invocation's cells, and keeps their runs in MLflow up to date.

    All of mlflow, its import too, happens in this thread. Nothing that goes wrong in it reaches the trainer.
    """

    def __init__(
        self,
        runs: Path,
        invocation: Invocation,
        open_store: Callable[[], Store],
        *,
        draw: Draw,
        say: Say,
        tabulate: Tabulate = no_table,
        interval: float = 1.0,
    ) -> None:
        """`interval`: seconds between two looks at the journals."""
        super().__init__(name="shipper", daemon=True)
        self._runs, self._invocation, self._open_store = runs, invocation, open_store
        self._draw, self._say, self._tabulate, self._interval = draw, say, tabulate, interval
        self._history = History(read_all(runs))
        self._shipments = _shipments(runs, invocation, self._history, draw, say)
        self._broken: set[str] = set()
        self._store: Store | None = None
        self._place: Place | None = None
        self._is_away = False
        self._grown: Invocation | None = None
        self._closing, self._abandoned = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            self._ship_until_drained()
        except Exception as error:  # noqa: BLE001 (said; the training goes on, and `sync` can ship later)
            self._say(f"MLflow gets nothing from this run: {_one_line(error)}")

    def follow(self, invocation: Invocation) -> None:
        """Go on with an invocation that has grown: a search asks for one cell after another."""
        self._grown = invocation

    def drain(self, timeout_s: float) -> int:
        """Ship what is left for at most `timeout_s` seconds, and end; the number of cells still left."""
        self._closing.set()
        if self.is_alive():
            self.join(timeout_s)
        self._abandoned.set()
        return _left(self._shipments)

    def _ship_until_drained(self) -> None:
        delay, longest = PATIENCE
        while not self._abandoned.is_set():
            closing = self._closing.is_set()
            try:
                self._look(closing=closing)
            except StoreAway as error:
                self._store, self._place = None, None
                if not self._is_away:
                    self._say(f"{error}; going on without it, the journals keep everything")
                self._is_away = True
                self._wait(delay)
                delay = min(2 * delay, longest)
                continue
            self._is_away, delay = False, PATIENCE[0]
            if closing:
                return
            self._closing.wait(self._interval)

    def _wait(self, delay: float) -> None:
        """Wait, but no longer than is fit once somebody waits for us."""
        if not self._closing.wait(delay):
            return
        self._abandoned.wait(min(delay, CLOSING_PATIENCE))

    def _look(self, *, closing: bool) -> None:
        self._grow()
        if self._store is None:
            self._store = self._open_store()
            _look(self._invocation, self._shipments, self._store, self._say)  # of many that are there, all at once
        if self._place is None:
            self._place = Place.of(self._invocation, self._store, self._runs, self._history)
        for shipment in self._shipments:
            name = shipment.asked.fingerprint
            if self._abandoned.is_set():
                return
            if shipment.is_damaged or (name in self._broken and not closing):
                continue
            try:
                shipment.ship(self._store, self._place, closing=closing)
            except StoreAway:
                raise
            except Exception as error:  # noqa: BLE001 (said once; the other cells go on)
                if name not in self._broken:
                    self._say(f"MLflow does not get {_name(shipment)}: {_one_line(error)}")
                self._broken.add(name)
        if closing:
            self._close(self._store, self._place)

    def _grow(self) -> None:
        """Take in the cells and tags that `follow` brought."""
        if self._grown is None:
            return
        self._invocation, self._grown = self._grown, None
        self._history = History(read_all(self._runs))
        known = {shipment.asked.fingerprint: shipment for shipment in self._shipments}
        for shipment in _shipments(self._runs, self._invocation, self._history, self._draw, self._say):
            old = known.get(shipment.asked.fingerprint)
            if old is None:
                self._shipments.append(shipment)
            else:
                old.invocation, old.history = self._invocation, self._history

    def _close(self, store: Store, place: Place) -> None:
        """Write down how the invocation ended, and what its cells mean to those that were asked for before."""
        overview.end(store, place, self._invocation, self._shipments)
        overview.describe(store, place, self._invocation, self._shipments, self._tabulate, self._say)
        overview.settle(store, place, self._invocation, self._shipments)
        for past in self._history.same_setting(self._invocation):
            if past.id < self._invocation.id and not self._abandoned.is_set():
                shipments = _shipments(self._runs, past, self._history, self._draw, self._say)
                _sync_one(self._runs, past, shipments, store, self._tabulate, self._say)


def sync(
    runs: Path, invocations: Sequence[Invocation], store: Store, *, draw: Draw, say: Say, tabulate: Tabulate = no_table
) -> tuple[int, int]:
    """Ship whatever the store lacks of the cells of `invocations`, and bring the runs of these up to date.

    The store is asked what it has: one that was lost is filled again, and a full one is left alone.

    Returns:
        The number of cells shipped now, and of those that are still not wholly shipped.
    """
    history = History(read_all(runs))
    batches = [(entry, _shipments(runs, entry, history, draw, say)) for entry in invocations]
    shipped = 0
    try:
        for invocation, shipments in batches:
            shipped += _sync_one(runs, invocation, shipments, store, tabulate, say)
    except StoreAway as error:
        say(str(error))
    left = {
        (shipment.invocation.ablation, shipment.asked.fingerprint)
        for _, shipments in batches
        for shipment in shipments
        if _is_left(shipment)
    }
    return shipped, len(left)


def has_all(runs: Path, invocation: Invocation, store: Store) -> bool:
    """Whether `store` has all of `invocation`, and it asks for nothing that the one before it did not.

    One run is looked up, not one a cell: that of the invocation before it in its setting, which had the same cells and
    was settled when they were as they are now.
    """
    before = [past for past in History(read_all(runs)).same_setting(invocation) if past.id < invocation.id]
    if not before or not invocation.asks_for_the_same(before[-1]):
        return False
    found = store.find_all(invocation.ablation, role="invocation", invocation=before[-1].id)
    return bool(found) and found[0].tags.get(overview.SETTLED) == overview.state_of(runs, invocation)


def _sync_one(
    runs: Path, invocation: Invocation, shipments: list[Shipment], store: Store, tabulate: Tabulate, say: Say
) -> int:
    _look(invocation, shipments, store, say)
    sound = [shipment for shipment in shipments if not shipment.is_damaged]
    if all(shipment.is_empty for shipment in sound):
        return 0
    place, shipped = Place.of(invocation, store, runs, shipments[0].history), 0
    lacking = [shipment for shipment in sound if not shipment.is_settled]
    for shipment in lacking:
        try:
            shipped += shipment.ship(store, place, closing=True)
        except StoreAway:
            raise
        except Exception as error:  # noqa: BLE001 (said; the other cells go on)
            say(f"MLflow does not get {_name(shipment)}: {_one_line(error)}")
    is_open = lacking or place.found is None or place.found.status == "RUNNING"
    if is_open and len(sound) == len(shipments):  # how it ended is not known while a record cannot be read
        overview.end(store, place, invocation, shipments)
    overview.describe(store, place, invocation, shipments, tabulate, say)
    overview.settle(store, place, invocation, shipments)
    return shipped


def _look(invocation: Invocation, shipments: list[Shipment], store: Store, say: Say) -> None:
    """Settle the shipments that the store has, as it says itself; a record that is damaged is said and left alone."""
    cells = {run.tags["fingerprint"]: run for run in store.find_all(invocation.ablation, role="cell")}
    for shipment in shipments:
        try:
            shipment.look(cells.get(shipment.asked.fingerprint))
        except TrackingError as error:
            shipment.is_damaged = True
            say(f"MLflow does not get {_name(shipment)}: {error}")


def _shipments(runs: Path, invocation: Invocation, history: History, draw: Draw, say: Say) -> list[Shipment]:
    """One shipment a cell; variants that coincide share their cell, and so its run."""
    cells = {asked.fingerprint: asked for asked in reversed(invocation.cells)}
    return [Shipment(runs, invocation, asked, history, draw, say) for asked in reversed(cells.values())]


def _left(shipments: list[Shipment]) -> int:
    return sum(_is_left(shipment) for shipment in shipments)


def _is_left(shipment: Shipment) -> bool:
    return shipment.is_damaged or (not shipment.is_settled and not shipment.is_empty)


def _name(shipment: Shipment) -> str:
    return f"{shipment.asked.variant}/s{shipment.asked.seed}"


def _one_line(error: BaseException) -> str:
    return redacted(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
