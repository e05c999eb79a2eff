"""The command that a note records: as typed, to go on with it, and to train its failed cells."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import typer

from cifar_lab.cli import app, run
from cifar_lab.cli.app import CONTEXT, Command
from cifar_lab.cli.typed_command import recorded_command
from cifar_lab.store.invocation import RecordedCommand


def recorded(words: list[str], monkeypatch: pytest.MonkeyPatch) -> RecordedCommand:
    """Return what a command of the command line records, instead of running it."""
    seen: list[RecordedCommand] = []

    def invoke(self: Command, ctx: Any) -> int:
        token = CONTEXT.set(ctx)
        seen.append(recorded_command())
        CONTEXT.reset(token)
        return 0

    monkeypatch.setattr(Command, "invoke", invoke)
    monkeypatch.setattr(sys, "argv", ["cifar-lab", *words])
    assert run(words) == 0
    return seen[0]


def test_what_acts_once_is_left_out_and_everything_else_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run-ablation", "--seeds", "0-2", "se_ratio", "--json", "--redo", "abc", "--redo=def", "--retry-failed",
             "train.epochs=3", "--runs", "my runs", "--no-compile", "-y", "--workers=2"]  # fmt: skip
    command = recorded(words, monkeypatch)
    kept = "cifar-lab run-ablation se_ratio train.epochs=3 --seeds 0-2"
    assert command.typed == f"cifar-lab {' '.join(words).replace('my runs', chr(39) + 'my runs' + chr(39))}"
    assert command.again == f"{kept} --retry-failed --runs 'my runs' --no-compile --yes --workers 2"
    assert command.retry == f"{kept} --runs 'my runs' --no-compile --yes --workers 2 --retry-failed"


def test_addresses_to_notify_are_hidden_as_typed_and_left_out_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "--notify", "json://joe:hunter2@host/T0ken", "--notify=slack://T0ken/T0ken", "--hours", "1"]
    command = recorded(words, monkeypatch)
    assert command.typed == "cifar-lab train --notify 'json://***' '--notify=slack://***' --hours 1"
    assert command.again == command.retry == "cifar-lab train --hours 1.0"


def test_a_default_and_what_the_environment_says_are_not_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_LAB_STORAGE", "studies.journal")
    assert recorded(["sweep", "--trials", "3"], monkeypatch).again == "cifar-lab sweep --trials 3"


def test_a_command_without_the_option_retries_failed_cells_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    command = recorded(["train", "--baseline", "fast"], monkeypatch)
    assert command.again == command.retry == "cifar-lab train --baseline fast"


def test_every_command_is_remembered_while_it_runs_and_forgotten_after() -> None:
    commands = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]
    assert all(isinstance(commands[name], Command) for name in app.COMMANDS)
    assert recorded_command().again == ""
