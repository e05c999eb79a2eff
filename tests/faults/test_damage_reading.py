"""Damage to finished cells and notes: every command shows the numbers that were written, or names the damage."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made.damage import damage

from cifar_lab.cli import run
from cifar_lab.store.cell_record import CellRecord

TRIES = int(os.environ.get("CIFAR_LAB_FAULTS", "20"))


@pytest.fixture
def here(tiny_study: Path, folder: Path, tiny_ablation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study, in the current folder."""
    shutil.copytree(tiny_study / "runs", folder / "runs")
    monkeypatch.setenv("CIFAR_LAB_ABLATIONS", str(tiny_ablation))
    return folder


def records(folder: Path) -> list[CellRecord]:
    return [CellRecord(path) for path in sorted((folder / "runs").iterdir()) if len(path.name) == 64]


def lines(folder: Path) -> list[list[str]]:
    a, b, *_ = (record.fingerprint[:12] for record in records(folder))
    commands = ["compare tiny", "verify tiny", "failures tiny", f"diff {a} {b}", f"tail {a}", f"tail {b}"]
    return [[*line.split(), "--json"] for line in commands]


def shown(capsys: pytest.CaptureFixture[str], line: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command; a traceback fails the test."""
    capsys.readouterr()
    code = run(line)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


_outputs: dict[tuple[str, ...], str] = {}


def _sound(capsys: pytest.CaptureFixture[str], line: tuple[str, ...], here: Path) -> str:
    """The output of a command before anything is damaged; every test begins with the same records."""
    if line not in _outputs:
        code, out, _ = shown(capsys, list(line))
        assert code == 0
        _outputs[line] = out
    return _outputs[line]


def numbers(tree: Any) -> set[float]:
    """Every number that a cell or a point has, wherever it is in a tree."""
    if isinstance(tree, dict):
        return {n for value in tree.values() for n in numbers(value)}
    if isinstance(tree, list):
        return {n for value in tree for n in numbers(value)}
    return {tree} if isinstance(tree, float) else set()


FILES = ("result.json", "cell.json", "journal.jsonl", "predictions.npz", "code.diff", "note")


@pytest.mark.parametrize("number", range(TRIES))
@pytest.mark.parametrize("kind", FILES)
def test_a_command_shows_what_was_written_or_names_the_damage(
    here: Path, capsys: pytest.CaptureFixture[str], kind: str, number: int
) -> None:
    chance = random.Random(f"{kind} {number}")
    notes = sorted((here / "runs" / "invocations").iterdir())
    path = notes[0] if kind == "note" else chance.choice(records(here)[:2]).folder / kind
    if not path.exists():  # nothing was changed in the checkout that trained it
        pytest.skip(f"there is no {kind}")
    before = [_sound(capsys, tuple(line), here) for line in lines(here)]
    what = damage(path, chance)
    named = 0
    for line, out_before in zip(lines(here), before, strict=True):
        code, out, err = shown(capsys, line)
        if code == 0 and out == out_before:
            continue
        assert path.name in out + err, (what, line)
        assert code in {1, 2} or kind == "note", (
            what,
            line,
        )  # of a cell's name, which a note tells, there is a warning
        named += 1
        if line[0] in {"compare", "tail"} and out:  # a mean of fewer cells is another number, a cell's own is not
            own = (
                [row["values"] for row in json.loads(out)["rows"]]
                if line[0] == "compare"
                else json.loads(out)["events"]
            )
            assert numbers(own) <= numbers(json.loads(out_before)), (what, line)
    if kind not in {"note", "code.diff"} and "truncated" in what:
        assert named, what


@pytest.mark.parametrize("kind", ["result.json", "journal.jsonl", "weights.safetensors", "confusion.csv", "note"])
def test_a_check_of_the_folder_finds_it(here: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert shown(capsys, ["fsck", "--no-mlflow"])[0] == 0
    path = sorted((here / "runs" / "invocations").iterdir())[0] if kind == "note" else records(here)[0].folder / kind
    damage(path, random.Random(1))
    code, out, _ = shown(capsys, ["fsck", "--no-mlflow", "--json"])
    assert code == 1
    assert [problem["path"] for problem in json.loads(out)["problems"]] == [str(path)]


def test_a_damaged_cell_is_named_and_not_trained_and_a_redo_trains_it(
    here: Path, few_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = records(here)[0]
    before = record.result()
    (record.folder / "result.json").write_text("")
    line = ["run-ablation", "tiny", "--data", str(few_images), "--offline", "-y"]
    code, _, err = shown(capsys, line)
    assert code == 1
    assert f"is damaged: {record.folder / 'result.json'}: damaged: empty; " in err
    assert "0 trained, 3 reused, 0 failed, 1 damaged" in err
    assert record.state() == "damaged"
    code, _, err = shown(capsys, [*line, "--redo", record.fingerprint[:12]])
    assert code == 0, err
    assert "1 trained, 3 reused" in err
    after = record.result()
    assert before is not None
    assert after is not None
    assert after.metrics["test/loss"] == before.metrics["test/loss"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users")
@pytest.mark.slow
def test_who_may_only_read_sees_everything_while_a_cell_is_unfinished(
    here: Path,
) -> None:
    unfinished = records(here)[0]
    for path in (unfinished.folder / "result.json", unfinished.predictions):  # from the second the first can be proved
        path.unlink()
    with unfinished.lock():
        pass
    for path in [*(here / "runs").rglob("*"), here / "runs"]:
        path.chmod(path.stat().st_mode & ~0o222)
    a, b = (record.fingerprint[:12] for record in records(here)[1:3])
    commands = ["status", "status tiny", "compare tiny", "failures", "verify tiny", f"tail {a}", f"diff {a} {b}",
                "clean --dry-run --older-than 0d", "fsck --no-mlflow"]  # fmt: skip
    without_rights: list[str] = []
    if os.geteuid() == 0:  # who may write whatever its mode says
        if shutil.which("setpriv") is None:
            pytest.skip("run by root, who may write everything, without setpriv")
        without_rights = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        probe = subprocess.run(
            [*without_rights, "touch", str(unfinished.folder / "x")], capture_output=True, check=False
        )
        if probe.returncode == 0:
            pytest.skip("root keeps its rights here")
    for command in commands:
        line = [*without_rights, sys.executable, "-m", "cifar_lab", *command.split()]
        done = subprocess.run(line, cwd=here, capture_output=True, text=True, timeout=120, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, (command, done.stderr)
