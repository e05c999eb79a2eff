"""A worker is stuck when it makes no progress for longer than its own pace explains."""

from __future__ import annotations

import pytest

from cifar_lab.errors import UsageError
from cifar_lab.execution import watchdog
from cifar_lab.execution.watchdog import STALL_AFTER, VARIABLE, ProgressWatch, SuspendWatch, stall_after


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watchdog, "time", made)
    return made


def watch(clock: Clock, patience: float = 10.0) -> ProgressWatch:
    return ProgressWatch(patience, last=clock.now)


def test_a_worker_that_never_takes_a_step_is_stuck_after_the_patience(clock: Clock) -> None:
    one = watch(clock)
    clock.now += 10.0
    assert one.stalled() is None
    clock.now += 0.1
    assert (
        one.stalled()
        == "no progress for 10 s, before its first step; --stall-after or CIFAR_LAB_STALL_AFTER allows more"
    )


def test_two_epochs_at_its_own_pace_are_allowed_for_evaluating_and_saving(clock: Clock) -> None:
    one = watch(clock)
    for step in (1, 2, 3):
        clock.now += 1.0
        one.progress(1, step, 50)
    assert one.limit == 100.0
    clock.now += 99.0
    assert one.stalled() is None
    clock.now += 2.0
    assert "after step 3 of 50 of epoch 1" in (one.stalled() or "")


def test_a_worker_that_was_stopped_for_a_while_is_not_slow_for_that(clock: Clock) -> None:
    one = watch(clock)
    for step, seconds in ((1, 1.0), (2, 1.0), (3, 9.0), (4, 1.0)):
        clock.now += seconds
        one.progress(1, step, 50)
    assert one.limit == 100.0


def test_time_in_which_nobody_looked_does_not_count(clock: Clock) -> None:
    one, looks = watch(clock), SuspendWatch()
    clock.now += 0.2
    assert looks.missed() == 0.0
    clock.now += 3600.0
    one.was_away(looks.missed())
    assert one.stalled() is None


@pytest.mark.parametrize(("text", "seconds"), [(None, STALL_AFTER), ("", STALL_AFTER), ("60", 60.0), ("1e4", 1e4)])
def test_the_environment_may_set_the_bound(text: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if text is not None:
        monkeypatch.setenv(VARIABLE, text)
    assert stall_after() == seconds


@pytest.mark.parametrize("text", ["soon", "0", "-5", "nan"])
def test_a_bound_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=VARIABLE):
        stall_after()
