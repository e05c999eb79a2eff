"""Redrawing and questions belong to terminals that a person sits at; files, pipes and cells of notebooks get lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cifar_lab.cli import console, watch
from cifar_lab.cli.display import Display
from cifar_lab.cli.prompt import confirm
from cifar_lab.data import progress
from cifar_lab.errors import UsageError
from cifar_lab.terminal import KERNEL

REDRAWN = "\x1b["
"""Beginning of what moves a cursor or erases a line."""
LINE = "2 cells wait for another runner"
END = "(end)"
Read = Callable[[], str]


@pytest.fixture(autouse=True)
def coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what a kernel sets for the commands of a notebook's cells, and a terminal that can redraw."""
    for name, value in {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    for name in (KERNEL, "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def terminal() -> Iterator[Read]:
    """Make all standard streams a pseudo-terminal; yield a function that reads what was shown there.

    It is no fixture: pytest replaces the streams again when the test itself begins.
    """
    ours, theirs = os.openpty()
    with (
        os.fdopen(os.dup(theirs), "r") as stdin, os.fdopen(theirs, "w", buffering=1) as stream,
        pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        for name, each in (("stdin", stdin), ("stdout", stream), ("stderr", stream)):
            patch.setattr(sys, name, each)

        def read() -> str:
            print(END, file=stream, flush=True)  # what was written arrives later, in its order
            shown = ""
            while END not in shown:
                shown += os.read(ours, 4096).decode()
            return shown.partition(END)[0]

        yield read
    os.close(ours)


def show() -> None:
    """Show a study whose cells wait, for two frames."""
    with Display({}, total=2) as display:
        display.tick(2)
        time.sleep(0.3)
        display.tick(2)


def test_a_study_is_redrawn_on_a_terminal() -> None:
    with terminal() as read:
        show()
        shown = read()
    assert REDRAWN in shown
    assert LINE not in shown


@pytest.mark.parametrize(("name", "value"), [(KERNEL, "123"), ("TERM", "dumb"), ("TTY_COMPATIBLE", "0")])
def test_a_study_is_lines_in_a_cell_of_a_notebook_and_on_a_terminal_that_cannot_redraw(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with terminal() as read:
        show()
        assert read().splitlines() == [LINE]


def test_forced_colours_make_no_terminal_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log.txt").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        show()
    assert (tmp_path / "log.txt").read_text() == f"{LINE}\n"


def test_a_watched_status_is_redrawn_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal() as read:
        watch.watch(list, None, lambda _: ["a table"])
        assert "a table" in read()
        monkeypatch.setenv(KERNEL, "123")
        watch.watch(list, None, lambda _: ["a table"])
        assert read() == ""


def test_a_download_is_a_bar_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    with terminal() as read:
        with progress.reported("images", 0, 100, lines.append) as report:
            report(100)
        assert REDRAWN in read()
        assert lines == []
        monkeypatch.setenv(KERNEL, "123")
        with progress.reported("images", 0, 1_000_000, lines.append) as report:
            report(100)
        assert read() == ""
    assert lines == ["downloading images (1 MB)"]


def test_nobody_is_asked_in_a_cell_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question, **_: asked.append(question) or True)
    with terminal():
        confirm("Go on?", "deleting", yes=False)
        assert asked == ["Go on?"]
        monkeypatch.setenv(KERNEL, "123")
        with pytest.raises(UsageError, match="deleting needs -y where there is no terminal to ask"):
            confirm("Go on?", "deleting", yes=False)
    assert asked == ["Go on?"]


def test_long_lines_are_wrapped_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal() as read:
        console.show_wrapped("word " * 40)
        assert len(read().splitlines()) > 1
        monkeypatch.setenv(KERNEL, "123")
        console.show_wrapped("word " * 40)
        assert len(read().splitlines()) == 1
