"""Whole cells on images of other numbers of classes and other sides, from the command line to the stored files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import cifar_files as made
from safetensors.numpy import load_file

from cifar_lab.api import load_cell
from cifar_lab.cli import run
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.data import cifar100
from cifar_lab.models.cost import BUDGET, network_cost

TINY = [
    "model.blocks=[1,1]", "model.width=16", "train.batch_size=10", "data.val_fraction=0.25", "train.epochs=1",
    "data.cutout=4", "data.cutmix=1.0", "model.stem=whitening", "train.tta=flip_shift",
]  # fmt: skip
MACHINE = ["--device", "cpu", "--yes", "--json"]


def _trained(capsys: pytest.CaptureFixture[str], runs: Path, source: str, *words: str) -> dict[str, Any]:
    """Return the JSON of `train` on images of `source`."""
    line = ["train", *TINY, *words, "--data", source, "--runs", str(runs), "--offline", *MACHINE]
    assert run(line) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("classes", "side"), [(3, 20), (12, 45)])
def test_a_cell_is_trained_on_a_folder_of_other_classes_and_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: int, side: int
) -> None:
    folder = made.sized_folder(tmp_path / "pictures", classes=classes, side=side)
    done = _trained(capsys, tmp_path / "runs", str(folder))
    cell = load_cell(done["cells"][0]["fingerprint"], runs=tmp_path / "runs")
    logits, labels = cell.logits()
    assert logits.shape == (2 * classes, classes)
    assert set(labels.tolist()) == set(range(classes))
    net = cell.network()
    again = net(cell.prepare(np.zeros((1, side, side, 3), np.uint8)))
    assert again.shape == (1, classes)
    kept = json.loads((cell.folder / "cell.json").read_text())
    weights = load_file(cell.folder / "weights.safetensors")
    buffers = ("running_mean", "running_var", "num_batches_tracked", "filters")
    assert kept["parameters"] == sum(v.size for name, v in weights.items() if not name.endswith(buffers))
    assert len(kept["classes"]) == classes


@pytest.mark.slow
def test_a_cell_is_trained_on_cifar_100(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.folder_100(made.small_100(), tmp_path / "made")
    made.as_original_100(folder, monkeypatch)
    monkeypatch.setenv("CIFAR100_ROOT", str(folder.parent))
    monkeypatch.setattr(cifar100, "MIRRORS", ())
    done = _trained(capsys, tmp_path / "runs", "cifar100")
    cell = load_cell(done["cells"][0]["fingerprint"], runs=tmp_path / "runs")
    kept = json.loads((cell.folder / "cell.json").read_text())
    assert (kept["data"]["kind"], kept["data"]["name"], len(kept["classes"])) == ("cifar100", "CIFAR-100", 100)
    assert cell.logits()[0].shape == (100, 100)


def test_the_budget_counts_the_outputs_of_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.folder_100(made.small_100(), tmp_path / "made")
    words = ["train", "model.width=66", "--runs", str(tmp_path / "runs"), "--offline", *MACHINE]
    assert run([*words, "--data", str(folder)]) == 2
    message = capsys.readouterr().err
    counted = network_cost(EFFICIENT_RESNET.override({"model.width": 66}).model)
    more = 90 * (264 + 1)  # outputs, each with a weight for each of the last layer's channels and a bias
    assert counted.parameters <= BUDGET < counted.parameters + more
    assert f"{counted.parameters + more:,} parameters, over the budget of 5,000,000" in message
