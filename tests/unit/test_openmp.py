"""The wait of OpenMP's threads is shortened unless the user has chosen one."""

from __future__ import annotations

import os

import pytest

from cifar_lab.openmp import SPIN, VARIABLE, spin_briefly


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {VARIABLE: SPIN}),
        ({VARIABLE: "7"}, {VARIABLE: "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_what_the_user_has_set_stays(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: dict[str, str]
) -> None:
    monkeypatch.setattr(os, "environ", given)
    spin_briefly()
    assert given == expected
