"""Times of training steps that are measured once in a session."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cifar_lab.execution.step_timing import StepTiming, TimingRequest

KNOWN: dict[str, StepTiming] = {}


@pytest.fixture(autouse=True)
def recalled_step_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the time of a network's steps for the session: a command that plans takes a second or two for each."""
    timing = sys.modules.get("cifar_lab.execution.step_timing")
    if timing is None:  # loaded with torch: the next test finds it
        return
    measure = timing._one_answer

    def measure_or_recall(request: TimingRequest) -> StepTiming:
        if (key := repr(request)) not in KNOWN:
            KNOWN[key] = measure(request)
        return KNOWN[key]

    monkeypatch.setattr(timing, "_one_answer", measure_or_recall)
