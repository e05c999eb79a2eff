"""Commands of `--help`: each exists, and has its own help page."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cifar_lab.cli import run
from cifar_lab.cli.app import COMMANDS, GROUPS

ROOM = 58
"""Characters that a line has beside the longest name, in a terminal of 80."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_function_that_says_what_it_does(name: str) -> None:
    module, function, line = COMMANDS[name]
    told = getattr(import_module(f"cifar_lab.cli.{module}"), function).__doc__
    assert told
    assert len(line) <= ROOM
    assert line[0].isupper()
    assert line[-1] in ".?"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_page_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "-h"]) == 0
    assert f"Usage: cifar-lab {name} [OPTIONS]" in capsys.readouterr().out


def test_help_lists_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    lines = text[text.index(f"{next(iter(GROUPS))}:") :].split("\n")
    titles = [line.removesuffix(":") for line in lines if line.endswith(":")]
    assert titles == list(GROUPS)
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)


def test_a_command_that_is_misspelt_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run-ablatoin"]) == 2
    assert "did you mean 'run-ablation'?" in capsys.readouterr().err


def test_help_loads_no_command() -> None:
    code = (
        "import sys; from cifar_lab.cli import run; run(['--help']);"
        "loaded = {name for name in sys.modules if name.startswith('cifar_lab.cli.')};"
        "loaded -= {'cifar_lab.cli.app', 'cifar_lab.cli.std_streams'};"
        "sys.exit(' '.join(loaded | {'pydantic', 'importlib.metadata'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (
            "train model.width=256",
            "model.width=66 fits, and --max-params 76M (in Python max_params=76_000_000) allows it",
        ),
        ("run-ablation se_ratio --epochs 3", "did you mean train.epochs=3?"),
        ("run-ablation se_ratio --workrs 3", "did you mean --workers?"),
        ("train --workers 2", "no option --workers; see --help"),
        ("run-ablation se_ratio --device gpu", "did you mean 'cuda'?"),
        ("run", "did you mean 'run-ablation'?"),
        ("run-ablation se_ratio --variants r3", "one of: none, r16, r8, r4, r2"),
        ("plan se_ratio model.blocks=(4,4,3)", "in square brackets, model.blocks=[4,4,3]"),
        ("describe recipy", "did you mean 'recipe'?"),
        ("describe se_rato", "did you mean 'se_ratio'?"),
        ("run-ablation se_ratio --hours nan", "--hours should be at most 100000, got 'nan'"),
        ("run-ablation se_ratio --hours=-3", "--hours should be at least 0.01, got '-3'"),
        ("run-ablation se_ratio --hours 1 --hours -inf", "--hours should be at least 0.01, got '-inf'"),
        ("run-ablation se_ratio --stall-after soon", "--stall-after should be a number, got 'soon'"),
        ("sweep --trials 2.5", "--trials should be an integer, got '2.5'"),
        ("sweep --trials -5", "--trials should be at least 1, got '-5'"),
        ("ui --runs nowhere", "--runs nowhere: no such folder"),
    ],
)
def test_a_hint_names_what_to_type(line: str, hint: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    said = capsys.readouterr().err
    assert hint in said
    assert len(said.splitlines()) == 1
    assert not list(folder.iterdir()), "nothing was written"


def test_a_number_of_an_environment_variable_is_named_by_the_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIFAR_LAB_STALL_AFTER", "soon")
    assert run(["run-ablation", "se_ratio", "--runs", str(folder / "runs")]) == 2
    assert "CIFAR_LAB_STALL_AFTER should be a number, got 'soon'" in capsys.readouterr().err


def test_the_line_of_an_error_is_that_of_the_file_in_a_relative_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "bad.py").write_text(
        "from cifar_lab.ablation.ablation import Ablation\n\nABLATION = Ablation(a=3)\n"
    )
    assert run(["describe", "bad", "--ablations", "mine"]) == 2
    assert "bad.py:3: " in capsys.readouterr().err
