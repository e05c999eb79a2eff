"""Settings of libraries are taken back, and those of the user stay."""

from __future__ import annotations

import logging
import os

import pytest

from cifar_lab import process_settings


def test_variables_and_levels_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_OURS", "before")
    monkeypatch.delenv("LAB_NEW", raising=False)
    monkeypatch.setenv("LAB_CHOSEN", "by the user")
    logger = logging.getLogger("cifar_lab.tests.settings")
    with process_settings.restored(), process_settings.restored():
        process_settings.set_variables({"LAB_OURS": "1"})
        process_settings.set_variables({"LAB_OURS": "2"})
        process_settings.set_default_variables({"LAB_NEW": "3", "LAB_CHOSEN": "4"})
        process_settings.set_log_levels({logger.name: logging.ERROR})
        assert (os.environ["LAB_OURS"], os.environ["LAB_NEW"], logger.level) == ("2", "3", logging.ERROR)
        os.environ["LAB_LATER"] = "5"
    assert (os.environ["LAB_OURS"], os.environ["LAB_CHOSEN"], logger.level) == ("before", "by the user", 0)
    assert "LAB_NEW" not in os.environ
    assert os.environ.pop("LAB_LATER") == "5"


def test_what_the_user_has_changed_since_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_OURS", "before")
    with process_settings.restored():
        process_settings.set_variables({"LAB_OURS": "ours"})
        os.environ["LAB_OURS"] = "theirs"
    assert os.environ["LAB_OURS"] == "theirs"


def test_calls_that_overlap_take_it_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_NEW", raising=False)
    with process_settings.restored():
        with process_settings.restored():
            process_settings.set_variables({"LAB_NEW": "1"})
        assert os.environ["LAB_NEW"] == "1", "the outer call still needs it"
    assert "LAB_NEW" not in os.environ
