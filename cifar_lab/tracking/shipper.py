"""From the journals to MLflow: a thread beside the training, and `sync` for what it could not bring home."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from cifar_lab.tracking.invocation import Invocation, read_all
from cifar_lab.tracking.mlflow import Store, StoreAway
from cifar_lab.tracking.shipment import Draw, Place, Say, Shipment

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
        interval: float = 1.0,
    ) -> None:
        """`interval`: seconds between two looks at the journals."""
        super().__init__(name="shipper", daemon=True)
        self._runs, self._invocation, self._open_store = runs, invocation, open_store
        self._say, self._interval = say, interval
        self._shipments = _shipments(runs, invocation, read_all(runs), draw, say)
        self._broken: set[str] = set()
        self._store: Store | None = None
        self._place: Place | None = None
        self._is_away = False
        self._closing, self._abandoned = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            self._ship_until_drained()
        except Exception as error:  # noqa: BLE001 (said; the training goes on, and `sync` can ship later)
            self._say(f"MLflow gets nothing from this run: {_one_line(error)}")

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
        if self._store is None:
            self._store = self._open_store()
        if self._place is None:
            self._place = Place.of(self._invocation, self._store, self._runs)
        for shipment in self._shipments:
            name = shipment.asked.fingerprint
            if self._abandoned.is_set():
                return
            if name in self._broken and not closing:
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
            _end_parent(self._store, self._place, self._invocation, self._shipments)


def sync(runs: Path, invocations: Sequence[Invocation], store: Store, *, draw: Draw, say: Say) -> tuple[int, int]:
    """Ship whatever the store lacks of the cells of `invocations`.

    The store is asked what it has: one that was lost is filled again, and a full one is left alone.

    Returns:
        The number of cells shipped now, and of those that are still not wholly shipped.
    """
    history = read_all(runs)
    batches = [(entry, _shipments(runs, entry, history, draw, say)) for entry in invocations]
    shipped = 0
    try:
        for invocation, shipments in batches:
            shipped += _sync_one(runs, invocation, shipments, store, say)
    except StoreAway as error:
        say(str(error))
    left = {
        (shipment.invocation.ablation, shipment.asked.fingerprint)
        for _, shipments in batches
        for shipment in shipments
        if _is_left(shipment)
    }
    return shipped, len(left)


def _sync_one(runs: Path, invocation: Invocation, shipments: list[Shipment], store: Store, say: Say) -> int:
    lacking = _lacking(invocation, shipments, store)
    if not lacking:
        return 0
    place, shipped = Place.of(invocation, store, runs), 0
    for shipment in lacking:
        try:
            shipped += shipment.ship(store, place, closing=True)
        except StoreAway:
            raise
        except Exception as error:  # noqa: BLE001 (said; the other cells go on)
            say(f"MLflow does not get {_name(shipment)}: {_one_line(error)}")
    _end_parent(store, place, invocation, shipments)
    return shipped


def _lacking(invocation: Invocation, shipments: list[Shipment], store: Store) -> list[Shipment]:
    """The shipments that the store does not have, as it says itself; the others are settled by that."""
    shipped_to = {
        run.tags["fingerprint"]: run.tags.get("shipped_to")
        for run in store.find_all(invocation.ablation, role="cell")
        if run.status != "RUNNING"
    }
    for shipment in shipments:
        mark = shipped_to.get(shipment.asked.fingerprint)
        shipment.is_settled = shipment.is_empty or (mark is not None and mark == shipment.mark())
    return [shipment for shipment in shipments if not shipment.is_settled]


def _shipments(
    runs: Path, invocation: Invocation, history: Sequence[Invocation], draw: Draw, say: Say
) -> list[Shipment]:
    """One shipment a cell; variants that coincide share their cell, and so its run."""
    cells = {asked.fingerprint: asked for asked in reversed(invocation.cells)}
    return [Shipment(runs, invocation, asked, history, draw, say) for asked in reversed(cells.values())]


def _end_parent(store: Store, place: Place, invocation: Invocation, shipments: list[Shipment]) -> None:
    """Say of an invocation how its cells ended, unless one of them is still being trained."""
    states = [shipment.record.state() for shipment in shipments]
    if "running" in states:
        return
    ended = all(state in {"finished", "diverged"} for state in states)
    status = "FINISHED" if ended else "FAILED" if "failed" in states else "KILLED"
    times = [int(mark) for shipment in shipments if (mark := shipment.mark()) is not None]
    store.end(place.parent, status, max([invocation.time, *times]))


def _left(shipments: list[Shipment]) -> int:
    return sum(_is_left(shipment) for shipment in shipments)


def _is_left(shipment: Shipment) -> bool:
    return not shipment.is_settled and not shipment.is_empty


def _name(shipment: Shipment) -> str:
    return f"{shipment.asked.variant}/s{shipment.asked.seed}"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
