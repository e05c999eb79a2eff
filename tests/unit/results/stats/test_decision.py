"""The decision rule, on intervals chosen by hand."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.results.stats.decision import RULE, Verdict, decide_verdict
from cifar_lab.results.stats.paired import Interval

MARGIN = 0.5


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.1, 2.0), "better"),
        ((-2.0, -0.1), "worse"),
        ((-2.0, 0.1), "undecided"),
        ((-0.4, 0.6), "undecided"),  # it excludes neither 0 nor what matters
        ((-0.4, 0.4), "equivalent"),
        ((0.1, 0.4), "equivalent"),  # real, and too small to matter
        ((-0.4, -0.1), "equivalent"),
        ((-0.5, 0.5), "equivalent"),  # the margin itself does not matter yet
        ((0.5, 0.6), "better"),
        ((0.0, 0.6), "undecided"),  # 0 is not excluded
        ((-0.6, 0.0), "undecided"),
        ((-math.inf, math.inf), "undecided"),
    ],
)
def test_where_the_interval_lies_decides(interval: Interval, verdict: str) -> None:
    assert decide_verdict(interval, MARGIN) == verdict


def test_without_an_interval_nothing_is_said() -> None:
    assert decide_verdict(None, MARGIN) is None


def test_the_rule_as_it_is_printed_names_every_verdict() -> None:
    assert all(verdict in RULE for verdict in get_args(Verdict))


@given(st.tuples(st.floats(-3, 3), st.floats(-3, 3)).map(lambda ends: (min(ends), max(ends))))
def test_turning_the_sign_turns_the_verdict(interval: Interval) -> None:
    turned = {"better": "worse", "worse": "better"}
    verdict = decide_verdict(interval, MARGIN)
    assert decide_verdict((-interval[1], -interval[0]), MARGIN) == turned.get(str(verdict), verdict)
