"""docs/extending.md works as it is written: its files are made, its package is put where Python looks, and both run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cifar_lab import extension
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.registry import discover
from cifar_lab.cli import run
from cifar_lab.cli.app import app
from cifar_lab.store.journal import read_points

HOUSE = Path(__file__).parents[2]
PAGE = (HOUSE / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^`([^`\n]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
Ran = Callable[..., Any]
TINY = [
    "model.blocks=[1]", "model.width=8", "train.batch_size=10", "data.val_fraction=0.2", "train.epochs=1",
    "--seeds", "0", "--device", "cpu", "--workers", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, and what an installer would write about its package."""
    root = tmp_path_factory.mktemp("extending")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    project = tomllib.loads(FILES["mylab/pyproject.toml"])["project"]
    info = root / "mylab" / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return root


@pytest.fixture
def ran(written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ran]:
    """`ran("list", "--ablations", "mine")`: the JSON of a command, typed in the folder of the page's files."""
    monkeypatch.syspath_prepend(written / "mylab")
    monkeypatch.chdir(written)

    def ran(*words: str) -> Any:
        _forget()
        code = run([*words, "--json"])
        said = capsys.readouterr()
        assert (code, "warning" in said.err) == (0, False), said.err
        return json.loads(said.out)

    yield ran
    _forget()


def _forget() -> None:
    """Forget the modules of the page's package, as another process would not know them."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        del sys.modules[name]
    extension.describe_version.cache_clear()


def test_the_page_has_the_files_it_speaks_of() -> None:
    assert set(FILES) == {
        "mine/smoothing.py",
        "mine/cool_down.py",
        "mine/smaller.py",
        "mylab/pyproject.toml",
        "mylab/mylab/baselines.py",
        "mylab/mylab/ablations/peak_rate.py",
        "mylab/mylab/nets.py",
        "mylab/mylab/images.py",
        "mylab/mylab/augment.py",
        "mylab/mylab/training.py",
        "mylab/mylab/callbacks.py",
    }


def test_list_says_where_each_comes_from(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    from_ = {entry["name"]: entry["from"] for entry in ran("list", "--ablations", "mine")}
    assert (from_["smoothing"], from_["cool_down"], from_["peak_rate"]) == ("mine", "mine", "mylab")
    assert set(from_.values()) == {"built-in", "mine", "mylab"}
    monkeypatch.setenv("CIFAR_LAB_ABLATIONS", os.pathsep.join(["mine", ""]))
    assert {entry["name"]: entry["from"] for entry in ran("list")} == from_


def test_the_table_names_origins_only_where_they_differ(
    written: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIFAR_LAB_ABLATIONS", raising=False)
    monkeypatch.chdir(written)
    assert run(["list"]) == 0
    assert "built-in" not in capsys.readouterr().out
    assert run(["list", "--ablations", "mine"]) == 0
    table = capsys.readouterr().out
    assert "from" in table.splitlines()[0]
    assert "built-in" in table
    assert "mine" in table


def test_the_packages_study_is_described_and_runs(ran: Ran, few_images: Path) -> None:
    described = ran("describe", "peak_rate")
    assert [row["diff"] for row in described["variants"]] == [{}, {"optim.lr": 0.2}, {"optim.lr": 0.4}]
    words = ["peak_rate", *TINY, "--data", str(few_images), "--variants", "lr20"]
    done = ran("run-ablation", *words, "--offline")
    assert (done["trained"], {cell["state"] for cell in done["cells"]}) == (1, {"finished"})


def test_the_file_in_a_folder_is_planned(ran: Ran, few_images: Path) -> None:
    plan = ran("plan", "smoothing", "--ablations", "mine", *TINY, "--data", str(few_images))
    assert [cell["variant"] for cell in plan["cells"]] == ["off", "ls05", "ls10"]


def test_the_packages_network_data_augmentation_optimizer_and_metric_are_trained(ran: Ran, written: Path) -> None:
    typed = next(line for line in COMMANDS if line.startswith("cifar-lab train model.name=patches"))
    words = [*shlex.split(typed)[1:], "train.epochs=2", "train.batch_size=16", "--device", "cpu", "--offline", "--yes"]
    done = ran(*words, "--runs", "own")
    assert (done["trained"], done["cells"][0]["state"]) == (1, "finished")
    again = ran(*words, "--runs", "own")
    assert (again["trained"], again["reused"]) == (0, 1)
    folder = written / "own" / done["cells"][0]["fingerprint"]
    result, cell = (json.loads((folder / name).read_text()) for name in ("result.json", "cell.json"))
    assert 0 <= result["metrics"]["test/confident"] <= 1
    assert cell["recipe"]["model"]["name"] == "mylab.nets:patches"
    assert cell["recipe"]["data"]["augmentations"] == [{"name": "mylab.augment:grayscale", "options": {}}]
    assert cell["parameters"] == 3 * 16 * 16 + 16 + 16 * 16 * 9 + 16 + 16 * 4 + 4
    assert (len(cell["classes"]), cell["side"], cell["data"]["kind"]) == (4, 16, "registered")


def test_the_packages_callback_acts_and_its_metric_is_in_the_journal(ran: Ran, written: Path) -> None:
    typed = next(line for line in COMMANDS if "train.callbacks" in line)
    small = ["model.blocks=[1]", "model.width=8", "train.epochs=2", "train.batch_size=16", "--device", "cpu"]
    done = ran(*shlex.split(typed)[1:], *small, "--offline", "--yes", "--runs", "called")
    assert (done["trained"], done["cells"][0]["state"]) == (1, "finished")
    points = read_points(written / "called" / done["cells"][0]["fingerprint"])
    assert [point.values["GradientNoise/weight_norm"] > 0 for point in points] == [True, True]


def test_they_keep_the_contract_for_authors(written: Path) -> None:
    program = (
        "from cifar_lab.testing import *;"
        "check_model('mylab.nets:patches', {'width': 8}); check_dataset('stripes?side=20');"
        "check_augmentation('mylab.augment:grayscale', {'probability': 0.5});"
        "check_optimizer('mylab.training:Lion', {'betas': [0.8, 0.9]}); check_metric('mylab.training:confident');"
        "check_callback('mylab.callbacks:GradientNoise', {'eta': 0.1})"
    )
    known = {**os.environ, "PYTHONPATH": os.pathsep.join([str(written / "mylab"), str(HOUSE)])}
    done = subprocess.run([sys.executable, "-c", program], env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_changed_network_is_another_cell(ran: Ran, written: Path) -> None:
    words = ["plan", "peak_rate", "model.name=patches", "--data", "stripes", "--seeds", "0", "--device", "cpu"]
    path = written / "mylab" / "mylab" / "nets.py"
    before = ran(*words)
    text = path.read_text()
    path.write_text(text.replace("nn.GELU()", "nn.ReLU()"))
    after = ran(*words)
    path.write_text(text)
    assert before["cells"][0]["fingerprint"] != after["cells"][0]["fingerprint"]


@pytest.fixture
def chain(written: Path) -> Ablation:
    return discover(written / "mine").find("cool_down")


def test_the_chain_is_what_the_page_says_of_it(chain: Ablation) -> None:
    assert [chain.compared_with(variant.name) for variant in chain.variants] == [None, "flat", "cooled", "cosine"]
    assert chain.recipe("cooled").schedule.name == "constant"
    assert chain.recipe("smooth").schedule.name == "cosine"
    assert chain.ancestors("cooled") == ("flat",)
    assert chain.ancestors("smooth") == ()


def test_a_stage_brings_the_one_that_it_continues(ran: Ran, few_images: Path) -> None:
    words = ["cool_down", "--ablations", "mine", *TINY, "--data", str(few_images), "--variants", "cooled"]
    plan = ran("plan", *words)
    assert [cell["variant"] for cell in plan["cells"]] == ["flat", "cooled"]


def test_students_bring_their_teachers(ran: Ran, few_images: Path) -> None:
    words = ["smaller", "--ablations", "mine", "--scale", "smoke", "--data", str(few_images)]
    words += ["--variants", "by_two,by_seeds"]
    plan = ran("plan", *words, "--seeds", "1")
    named = [f"{cell['variant']}/s{cell['seed']}" for cell in plan["cells"]]
    assert named == ["teacher/s1", "alone/s1", "by_two/s1", "alone/s0", "alone/s2", "by_seeds/s1"]
    macs = {name: cell["macs"] for name, cell in zip(named, plan["cells"], strict=True)}
    taught = {name: cell["teacher_macs"] for name, cell in zip(named, plan["cells"], strict=True)}
    assert taught["by_two/s1"] == macs["teacher/s1"] + macs["alone/s1"]
    assert taught["by_seeds/s1"] == 3 * macs["alone/s1"]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("cifar-lab")])
def test_the_commands_of_the_page_are_there(line: str) -> None:
    _, name, *words = line.split()
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_nothing_but_commands_is_typed() -> None:
    assert {line.split()[0] for line in COMMANDS} == {"cifar-lab", "pip"}
