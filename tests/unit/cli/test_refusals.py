"""Refusals and hints of commands: one line that names what is wrong and what would be right, exit code 2."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made.run_records import Runs

from cifar_lab.ablation.registry import discover
from cifar_lab.cli import run

GENERATED = "ablate.model.activation"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line that a command is refused with."""
    capsys.readouterr()
    assert run(list(words)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removeprefix("cifar-lab: ").rstrip("\n")


def test_a_generated_ablation_that_was_packed_is_compared_without_its_file(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Runs(lab / "runs").study(ablation=GENERATED)
    assert run(["pack", GENERATED, "-o", "study.zip"]) == 0
    capsys.readouterr()
    assert run(["compare", GENERATED, "--runs", "study.zip", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ablation"] == GENERATED
    for command in ("report", "verify"):
        assert refused(capsys, command, GENERATED, "--runs", "study.zip") == (
            f"'{GENERATED}' has been run there, but no folder of ablations has its file: add --ablations DIR"
        )
    assert "no ablation named" in refused(capsys, "compare", f"{GENERATED}s", "--runs", "study.zip")


def test_describe_says_where_the_file_of_a_generated_ablation_is(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "runs/ablations").mkdir()
    (lab / f"runs/ablations/{GENERATED}.py").write_text("")
    assert refused(capsys, "describe", GENERATED) == f"'{GENERATED}' was generated: add --ablations runs/ablations"


def test_only_what_was_run_is_suggested(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = str(lab / "runs")
    assert refused(capsys, "status", "se_ratios", "--runs", runs) == f"'se_ratios' has not been run in {runs}"
    Runs(lab / "runs").study(ablation="se_ratio")
    assert "se_ratio" in discover().known()
    for command in ("status", "failures"):
        said = refused(capsys, command, "batch_norm", "--runs", runs)
        assert said.startswith(f"'batch_norm' has not been run in {runs}")
        assert "optimizers" not in said


@pytest.mark.parametrize("command", ["compare", "report", "verify"])
def test_a_mistyped_name_gets_the_nearest_of_the_registry_and_of_what_was_run(
    command: str, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Runs(lab / "runs").study(ablation="smoothing")
    assert refused(capsys, command, "smothing") == "no ablation named 'smothing'; did you mean 'smoothing'?"
    assert refused(capsys, command, "se_ratoi") == "no ablation named 'se_ratoi'; did you mean 'se_ratio'?"


@pytest.mark.parametrize("command", ["compare smoothing", "status", "fsck", "sweep-best wide"])
def test_a_zip_that_is_not_there_is_named(command: str, lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *command.split(), "--runs", "nope.zip") == "--runs nope.zip: no such file"


def test_nothing_is_cleaned_in_a_folder_that_is_not_there(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "--runs nodir: no such folder; nothing has been run there"
    assert refused(capsys, "clean", "--runs", "nodir") == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pack", "-o", "study.tar"], "-o study.tar: the extension is one of .zip"),
        (["judge", "empty.csv", "--control", "a", "--margin", "1"], "empty.csv is empty; a header and rows are wanted"),
        (["judge", "runs", "--control", "a", "--margin", "1"], "runs: a folder; a file is wanted"),
        (["train", "--recipe", "empty.csv"], "recipe empty.csv: not JSON, as `sweep-best -o` writes it"),
        (
            ["run-ablation", "se_ratio", "--redo", "zz"],
            "a fingerprint has up to 64 of the digits 0-9 and a-f, got 'zz'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_or_word_of_another_kind_is_named(
    lab: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (lab / "empty.csv").touch()
    assert refused(capsys, *words).startswith(said)


def test_ctrl_c_before_a_command_handles_it_has_a_line(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cifar_lab.cli.describe.registry.discover", interrupt)
    assert run(["list"]) == 130
    assert capsys.readouterr().err == "cifar-lab: stopped\n"


STOPPED = """
import os, signal, sys
from cifar_lab.cli import describe, main

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv.pop() == "ignored" else signal.SIG_DFL)
number = int(sys.argv.pop())
discover = describe.registry.discover
describe.registry.discover = lambda *given, **named: os.kill(os.getpid(), number) or discover(*given, **named)
main()
"""
"""Program in which `list` gets a signal while it plans."""


@pytest.mark.parametrize(
    ("number", "nohup", "code"),
    [(signal.SIGTERM, False, 143), (signal.SIGHUP, False, 129), (signal.SIGHUP, True, 0), (signal.SIGINT, False, 130)],
)
def test_a_signal_ends_a_command_as_ctrl_c_does(lab: Path, number: int, nohup: bool, code: int) -> None:
    line = [sys.executable, "-c", STOPPED, "list", str(int(number)), "ignored" if nohup else "default"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=lab)
    assert (done.returncode, done.stderr) == (code, "cifar-lab: stopped\n" if code else "")


@pytest.mark.parametrize("command", ["plan se_ratio --scale smoke", "train --scale smoke", "run-ablation se_ratio -y"])
def test_a_mistyped_source_is_refused_before_torch_is_loaded(command: str, lab: Path) -> None:
    (lab / "cifar10.zip").touch()
    program = "import sys; from cifar_lab.cli import run; code = run(sys.argv[1:]); assert 'torch' not in sys.modules; "
    line = [sys.executable, "-c", program + "sys.exit(code)", *command.split(), "--data", "cifar10.zp"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=lab)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.endswith("; did you mean 'cifar10.zip'?\n")


def test_a_value_over_the_budget_is_told_of_options_alone(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "ablate", "model.width=64,256", "--control", "64", "-y")
    assert "--max-params" in said
    assert "over_budget" not in said
