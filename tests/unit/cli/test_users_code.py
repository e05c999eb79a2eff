"""Code of users in commands: its prints are not among the results, and where it ends the program, it is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_lab.cli import run
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import RecipeError
from cifar_lab.models.cost import network_cost

HOUSE = Path(__file__).parents[3]
NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        print("forward pass")
        return super().forward(x)

def {name}(*, classes: int, side: int) -> nn.Module:
    print("built")
    return Net(nn.Flatten(), nn.Linear(3 * side * side, classes))
"""
STUDY = """
from cifar_lab import EFFICIENT_RESNET, Ablation, Variant
print("read")
own = {"model.name": "loud_network:net", "train.batch_size": 10, "train.epochs": 1}
ABLATION = Ablation(
    question="Which rate?", source="a test", baseline=EFFICIENT_RESNET.override(own), factors=("optim.lr",),
    variants=(Variant(name="high"), Variant(name="low", diff={"optim.lr": 0.001})), control="high",
)
"""
WORDS = ["model.name=loud_network:net", "train.batch_size=10", "train.epochs=1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "loud_network.py").write_text('print("imported")\n' + NETWORK.format(name="net"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rates.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "loud_network", raising=False)
    network_cost.cache_clear()
    return tmp_path


def test_prints_of_users_code_are_on_standard_error(
    folder: Path, few_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rates", "--ablations", "mine", "--data", str(few_images), "--seeds", "0", "--device", "cpu"]
    assert run(["plan", *words, "--json"]) == 0
    said = capsys.readouterr()
    assert [cell["variant"] for cell in json.loads(said.out)["cells"]] == ["high", "low"]
    assert all(f"{word}\n" in said.err for word in ("imported", "built", "forward pass"))
    assert run(["plan", *words]) == 0
    table = capsys.readouterr().out
    assert "low" in table
    assert not any(word in table for word in ("imported", "built", "forward pass"))


def test_what_python_prints_after_a_command_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json"]) == 0
    capsys.readouterr()
    print("after")
    assert capsys.readouterr().out == "after\n"


@pytest.mark.slow
def test_so_are_those_of_workers(folder: Path, few_images: Path) -> None:
    words = ["--data", str(few_images), "--device", "cpu", "--seeds", "0", "--offline", "--json"]
    for command in (["run-ablation", "rates", "--ablations", "mine"], ["train", *WORDS]):
        done = subprocess.run(
            [sys.executable, "-m", "cifar_lab", *command, *words], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(HOUSE)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
        assert "forward pass\n" in done.stderr


ENDING = {
    "at_import": "import argparse\nargparse.ArgumentParser().parse_args(['--no-such-option'])\n",
    "in_factory": "import sys\ndef net(*, classes: int):\n    sys.exit(3)\n",
    "in_forward": NETWORK.format(name="net").replace('print("forward pass")', "raise SystemExit(3)"),
}


@pytest.mark.parametrize(
    ("module", "rule"),
    [
        ("at_import", "models at_import:net: SystemExit: 2"),
        ("in_factory", "models in_factory:net: SystemExit: 3"),
        ("in_forward", "model.name=in_forward:net: its forward pass fails: SystemExit: 3"),
    ],
)
def test_code_that_ends_the_program_is_named(
    module: str, rule: str, tmp_path: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / f"{module}.py").write_text(ENDING[module])
    monkeypatch.chdir(tmp_path)
    assert run(["train", f"model.name={module}:net", "--data", str(few_images), "--offline", "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].endswith(rule)
    assert said.out == ""
    with pytest.raises(RecipeError, match=f"{rule}$"):
        network_cost(Recipe().override({"model.name": f"{module}:net"}).model)


def test_code_that_ends_a_command_elsewhere_is_named_with_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "\nclass Width(BaseModel):\n    @model_validator(mode='after')\n    def leave(self):\n        sys.exit(3)\n"
    )
    own = "\nown = Extension(factory=net, options=Width)\n"
    imports = "import sys\nfrom pydantic import BaseModel, model_validator\nfrom cifar_lab.extension import Extension\n"
    (folder / "loud_network.py").write_text(imports + NETWORK.format(name="net") + options + own)
    assert run(["train", "model.name=loud_network:own", "--data", "synthetic", "--offline", "-y"]) != 0
    said = capsys.readouterr().err
    assert "loud_network.py:" in said
    assert "SystemExit: 3; code of your own ended the command" in said
