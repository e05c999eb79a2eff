"""Shell completion as shells request it: fast, and silent if there is nothing to offer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from made.bounded import bounded

from cifar_lab.cli import completion, run
from cifar_lab.cli import options as o
from cifar_lab.config import declaration_file
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import Recipe, paths

Tab = Callable[[str], list[str]]
CELL = "a" * 63 + "0"


@pytest.fixture
def tab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tab:
    """Return bash's completions of a line; `|` marks where it splits words in addition to spaces."""
    monkeypatch.delenv(o.FOLDERS, raising=False)

    def offered(line: str) -> list[str]:
        words = ["cifar-lab", *line.replace("|", " ").split()]
        monkeypatch.setenv("_CIFAR_LAB_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - (not line.endswith(" "))))
        with pytest.raises(SystemExit) as ended:
            run([])
        captured = capsys.readouterr()
        assert (ended.value.code, captured.err) == (0, "")
        return captured.out.split()

    return offered


@pytest.fixture
def mine(tmp_path: Path, tiny_ablation: Path) -> Path:
    """A user's folder: an ablation, and one that cannot be read and prints."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tiny.py").write_text((tiny_ablation / "tiny.py").read_text())
    (tmp_path / "mine" / "tin_broken.py").write_text("print('hello')\nraise ValueError\n")
    return tmp_path / "mine"


@pytest.mark.parametrize("command", ["describe", "plan", "run-ablation", "compare"])
def test_names_of_ablations(tab: Tab, command: str) -> None:
    assert {"se_ratio", "block_counts"} <= set(tab(f"{command} "))
    assert set(tab(f"{command} block_")) == {"block_counts"}
    assert tab(f"{command} nothing_like_it") == []
    assert tab(f"{command} al") == (["all"] if command == "run-ablation" else [])


def test_names_in_folders_of_the_line_and_of_the_environment(
    tab: Tab, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tab("plan tin") == []
    assert tab(f"plan --ablations {mine} tin") == ["tin_broken", "tiny"]
    assert tab(f"plan --ablations {mine}/nowhere --ablations {mine} tin") == ["tin_broken", "tiny"]
    monkeypatch.setenv(o.FOLDERS, f"{mine}/nowhere{os.pathsep}{mine}{os.pathsep}")
    assert tab("plan tin") == ["tin_broken", "tiny"]


def test_variants_of_the_ablation_on_the_line(tab: Tab, mine: Path) -> None:
    assert tab("plan se_ratio --variants r1") == ["r16"]
    assert tab("plan se_ratio train.epochs=3 --variants r4,r") == ["r4,r16", "r4,r8", "r4,r2"]
    assert tab("plan se_ratio --variants ") == ["none", "r16", "r8", "r4", "r2"]
    assert tab(f"plan tiny --ablations {mine} --variants o") == ["off", "on"]
    for line in ("plan --variants r", "plan se_rato --variants r", f"plan tin_broken --ablations {mine} --variants o"):
        assert tab(line) == []


def test_scales_devices_and_options(tab: Tab) -> None:
    assert tab("plan se_ratio --scale s") == ["smoke", "small"]
    assert tab("plan se_ratio --device c") == ["cpu", "cuda"]
    assert tab("plan se_ratio --abl") == ["--ablations"]


def test_paths_of_a_recipe(tab: Tab) -> None:
    assert tab("plan se_ratio ") == [f"{path}=" for path in paths()]
    assert tab("train model.se.") == ["model.se.placement=", "model.se.reduction="]
    assert tab("train train.epochs=3 train.e") == ["train.ema=", "train.ema=0.0"]
    assert tab("train nothing.like") == []


def test_the_only_path_comes_with_its_values_so_that_no_space_is_set_behind_it(tab: Tab) -> None:
    assert tab("train train.ep") == ["train.epochs=", "train.epochs=200"]
    assert tab("train data.fl") == ["data.flip=", "data.flip=true", "data.flip=false"]


def test_what_has_few_values(tab: Tab) -> None:
    assert tab("compare se_ratio --format ") == ["table", "md", "csv", "latex", "json"]
    assert tab("compare se_ratio --format l") == ["latex"]
    assert tab("train --baseline ") == ["efficient", "resnet18", "fast"]
    assert tab("ui block_") == ["block_counts"]


def test_where_several_ablations_are_taken_each_is_offered_once_and_then_paths(tab: Tab) -> None:
    assert tab("report se_r") == ["se_ratio", "se_ratio_x_lookahead"]
    assert tab("report se_ratio se_r") == ["se_ratio_x_lookahead"]
    assert tab("report se_ratio train.ep") == ["train.epochs=", "train.epochs=200"]
    assert tab("report se_ratio train.protocol|=|w") == ["writeup"]


@pytest.mark.parametrize("broken", ["=", "|=|"], ids=["zsh and fish", "bash"])
def test_values_of_a_path(tab: Tab, broken: str) -> None:
    def values(path: str, start: str) -> list[str]:
        return [word.removeprefix(f"{path}=") for word in tab(f"train {path}{broken}{start}")]

    assert values("train.protocol", "") == ["holdout", "writeup"]
    assert values("optim.name", "ada") == ["adagrad", "adam", "adamw", "adadelta"]
    assert values("model.batch_norm", "f") == ["false"]
    assert values("model.blocks", "") == ["[4,4,3]"]
    assert values("model.extra_fc", "n") == ["none"]
    assert values("train.epochs", "7") == []
    assert values("no.path", "7") == []
    assert values("model.se", "7") == []


@pytest.mark.parametrize("path", paths())
def test_every_value_that_is_offered_is_valid(path: str) -> None:
    for value in completion._values(path):
        assert isinstance(Recipe().override(parse_overrides([f"{path}={value}"])), Recipe)


def test_data_is_a_name_or_a_folder_or_a_zip(tab: Tab, folder: Path) -> None:
    for name in ("cifar", ".hidden", "images"):
        (folder / name).mkdir()
    for name in ("c.zip", "c.txt"):
        (folder / name).touch()
    assert tab("plan se_ratio --data ") == ["cifar10", "cifar100", "synthetic", "c.zip", "cifar/", "images/"]
    assert tab("plan se_ratio --data ci") == ["cifar10", "cifar100", "cifar/"]
    assert tab("plan se_ratio --data im") == [], "the shell completes files itself"


def test_cells_are_completed_by_name_and_by_fingerprint(folder: Path, runs: Any) -> None:
    def show(cell: o.NamedCell, runs: o.Runs = o.DEFAULT_RUNS) -> None:
        """A command that takes a cell."""

    def offered(start: str, runs: Path = o.DEFAULT_RUNS) -> list[str]:
        with typer.main.get_command(app).make_context("show", ["--runs", str(runs)], resilient_parsing=True) as context:
            return completion.cells(context, start)  # type: ignore[arg-type]

    app = typer.Typer()
    app.command()(show)
    assert offered("") == []
    for name in (CELL, "b" * 64, "invocations", "a" * 63, "A" * 64):
        (folder / "runs" / name).mkdir(parents=True)
    assert offered("") == [CELL, "b" * 64]
    assert offered("aa") == [CELL]
    assert offered("aa", folder / "nowhere") == []
    runs.study()
    assert offered("se_ratio/r4", runs.folder) == ["se_ratio/r4/s0", "se_ratio/r4/s1", "se_ratio/r4/s2"]


ODD = [
    "nosuch x",
    "--nope x",
    "plan --nope se_ratio x",
    "ui --port x y",
    "plan --runs",
    "= = =",
    "plan se_ratio =",
    "train a=b=c",
]


@pytest.mark.parametrize("line", ODD)
def test_a_line_that_is_wrong_is_no_error(tab: Tab, line: str) -> None:
    assert isinstance(tab(line), list)


def test_a_completer_that_fails_offers_nothing() -> None:
    @completion._quiet
    def failing(ctx: typer.Context, incomplete: str) -> list[str]:
        print("a word in the middle of the line")
        raise ValueError

    assert failing(None, "") == []  # type: ignore[arg-type]


def test_stray_separators_in_the_environment_do_not_mean_the_current_folder(
    folder: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "script.py").write_text("raise ValueError('was run')")
    monkeypatch.setenv(o.FOLDERS, f"{os.pathsep}{mine}{os.pathsep}")
    assert run(["list"]) == 0
    captured = capsys.readouterr()
    assert "tiny" in captured.out
    assert "script" not in captured.err
    monkeypatch.setenv(o.FOLDERS, str(folder / "nowhere"))
    assert run(["list"]) == 2
    assert "CIFAR_LAB_ABLATIONS" in capsys.readouterr().err
    assert run(["list", "--ablations", str(mine)]) == 0, "the command line takes the environment's place"


def test_completion_is_offered_and_its_script_is_bashs(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    line = [sys.executable, "-m", "cifar_lab"]
    shown = subprocess.run([*line, "--help"], env=environment, capture_output=True, text=True, check=True)
    assert "--install-completion" in shown.stdout
    script = {**environment, "_CIFAR_LAB_COMPLETE": "source_bash"}
    made = subprocess.run(line, env=script, capture_output=True, text=True, check=True)
    assert "complete -o default -F _cifar_lab_completion cifar-lab" in made.stdout


@pytest.mark.parametrize("line", ["plan se", "plan se_ratio --variants r", "plan se_ratio train.ep", "plan --data "])
def test_completing_loads_nothing_heavy(line: str) -> None:
    program = (
        "import atexit, os, sys; from cifar_lab.cli import run;"
        "heavy = {'torch', 'torchvision', 'mlflow', 'optuna', 'numpy', 'matplotlib', 'pandas'};"
        "atexit.register(lambda: os._exit(len(heavy & set(sys.modules)))); run([])"
    )
    words = ["cifar-lab", *line.split(" ")]
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1), "_CIFAR_LAB_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **asked}, check=False)
    assert done.returncode == 0


def test_a_file_that_never_returns_offers_nothing_and_is_not_waited_for_long(
    tab: Tab, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declaration_file, "WITHIN", 1.0)
    (mine / "endless.py").write_text("while True: pass")
    began = time.monotonic()
    with bounded():
        assert tab(f"plan endless --ablations {mine} --variants o") == []
        assert tab(f"plan --ablations {mine} end") == ["endless"]
    assert time.monotonic() - began < 30, "it was run in this process, and stopped by the limit of the test"
