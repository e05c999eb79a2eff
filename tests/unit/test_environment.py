"""Numbers in environment variables: a default, and one line for what is no number in range."""

from __future__ import annotations

import pytest

from cifar_lab.environment import environment_number
from cifar_lab.errors import UsageError


@pytest.mark.parametrize(("text", "number"), [(None, 7.0), ("", 7.0), ("1", 1.0), ("2e1", 20.0), ("2000", 2000.0)])
def test_what_is_not_set_has_its_default(text: str | None, number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_NUMBER", raising=False)
    if text is not None:
        monkeypatch.setenv("LAB_NUMBER", text)
    assert environment_number("LAB_NUMBER", 7.0, low=1, high=2000, unit="seconds") == number


@pytest.mark.parametrize("text", ["soon", "0.5", "2001", "nan", "inf", "-3"])
def test_what_is_out_of_range_is_refused_with_the_range(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_NUMBER", text)
    with pytest.raises(UsageError, match=f"LAB_NUMBER is a number of seconds from 1 to 2,000, got '{text}'"):
        environment_number("LAB_NUMBER", 7.0, low=1, high=2000, unit="seconds")
