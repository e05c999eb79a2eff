"""Leases on a real server of S3: one holder, by conditional writes."""

from __future__ import annotations

import threading
import time

import pytest

from cifar_lab.errors import UsageError
from cifar_lab.object_store import ObjectStore
from cifar_lab.store import lease as leases
from cifar_lab.store.lease import CellLease, LeaseLost, LeaseTaken, lease_seconds, parse_lease

CELL = "0" * 64


def _lease(address: str, mirror: str = "a") -> CellLease:
    return CellLease(ObjectStore(address), CELL, mirror)


def _older(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let every object be older, as after a wait, by the answers of the server."""
    from cifar_lab import object_store

    age = object_store._age
    monkeypatch.setattr(object_store, "_age", lambda answer, written: age(answer, written) + seconds)


@pytest.mark.slow
def test_of_many_that_try_at_once_one_takes_it(address: str) -> None:
    taken: list[int] = []

    def try_it(number: int) -> None:
        try:
            _lease(address, str(number)).take()
        except LeaseTaken:
            return
        taken.append(number)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_a_lease_that_is_renewed_is_not_taken(address: str) -> None:
    first = _lease(address)
    first.take()
    first.renew()
    with pytest.raises(LeaseTaken) as refused:
        _lease(address, "b").take()
    assert refused.value.found is not None
    assert (refused.value.found.mirror, refused.value.found.beat) == ("a", 1)


def test_an_expired_lease_is_taken_with_a_greater_number_and_its_holder_learns_of_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused, next_one = _lease(address), _lease(address, "b")
    paused.take()
    _older(monkeypatch, leases.SECONDS + 2 * leases.ROUNDING)
    next_one.take()
    assert (paused.fence, next_one.fence) == (1, 2)
    for write in (paused.renew, lambda: paused.end({})):
        with pytest.raises(LeaseLost):
            write()
    assert paused.is_lost
    next_one.renew()
    next_one.end({"status": "finished"})
    assert _state(address) == "ended"


def test_an_expired_lease_that_nobody_took_is_still_its_holders(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = _lease(address)
    paused.take()
    _older(monkeypatch, 1e6)
    paused.renew()
    assert not paused.is_lost


def test_a_holder_that_died_in_the_same_copy_is_not_waited_for(address: str) -> None:
    _lease(address).take()
    again = _lease(address)
    again.take()
    assert again.fence == 2


def test_a_released_lease_is_free_and_an_ended_one_is_not(address: str) -> None:
    first, second, third = _lease(address), _lease(address, "b"), _lease(address, "c")
    first.take()
    first.release()
    assert second.take() is None
    second.end({"status": "finished"})
    ended = third.take()
    assert ended is not None
    assert (ended.fence, ended.result) == (2, {"status": "finished"})
    assert third.take(again=True) is None
    assert third.fence == 3


def test_a_renewal_whose_answer_was_lost_counts(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = _lease(address)
    held.take()
    write = ObjectStore.write_if

    def write_twice(store: ObjectStore, name: str, content: bytes, etag: str | None) -> str:
        write(store, name, content, etag)
        return write(store, name, content, etag)  # as a client that repeats its request does

    monkeypatch.setattr(ObjectStore, "write_if", write_twice)
    held.renew()
    monkeypatch.undo()
    assert not held.is_lost


def test_a_lease_is_renewed_by_itself(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.VARIABLE, "4")
    monkeypatch.setattr(leases, "RENEWALS", 40)
    held, times = _lease(address), threading.Semaphore(0)
    held.take()
    held.keep(times.release)
    for _ in range(3):
        assert times.acquire(timeout=20)
    held.release()
    found = ObjectStore(address).read(f"{CELL}/lease.json")
    assert found is not None
    known = parse_lease(found)
    assert known is not None
    assert known.beat >= 3
    assert known.state == "free"


def test_a_damaged_lease_is_held_until_it_is_old(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ObjectStore(address).write(f"{CELL}/lease.json", b"{}")
    with pytest.raises(LeaseTaken):
        _lease(address).take()
    _older(monkeypatch, 100.0)
    _lease(address).take()


@pytest.mark.parametrize("text", ["soon", "1", "nan", "1e9"])
def test_the_time_of_a_lease_is_checked(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.VARIABLE, text)
    with pytest.raises(UsageError, match="CIFAR_LAB_LEASE"):
        lease_seconds()


def _state(address: str) -> str:
    found = ObjectStore(address).read(f"{CELL}/lease.json")
    assert found is not None
    known = parse_lease(found)
    assert known is not None
    return known.state


def test_ages_are_by_the_clock_of_the_server(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _lease(address).take()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 1e6)
    with pytest.raises(LeaseTaken) as refused:
        _lease(address, "b").take()
    assert refused.value.age < leases.SECONDS
