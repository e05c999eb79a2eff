"""`ablate`: an ablation without a file, and what works by its name afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.cli import run

SMALL = ["model.blocks=[1]", "model.width=8", "train.batch_size=10", "train.epochs=1", "data.val_fraction=0.2"]
NAME = "ablate.train.label_smoothing"


def _ablate(values: str, images: Path, *more: str) -> int:
    line = ["ablate", f"train.label_smoothing={values}", *SMALL, "--seeds", "0-1", "--offline", "--data", str(images)]
    return run([*line, *more])


def _json(line: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert run([*line, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_trains_each_value_and_is_known_by_its_name_afterwards(
    folder: Path, few_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ablate("0,0.1", few_images, "--control", "0") == 0
    out, err = capsys.readouterr()
    assert err.endswith("4 trained, 0 reused, 0 failed\n")
    assert f"{NAME} is kept in runs/ablations: name it with --ablations runs/ablations" in err
    rows = _json(["compare", NAME], capsys)["rows"]
    assert [(row["variant"], row["against"], row["n"]) for row in rows] == [("0", None, 2), ("0.1", "0", 2)]
    cells = _json(["status", NAME], capsys)["cells"]
    assert [cell["state"] for cell in cells] == ["finished"] * 4

    assert run(["report", NAME]) == 2
    assert capsys.readouterr().err == f"cifar-lab: '{NAME}' was generated: add --ablations runs/ablations\n"
    kept = ["--ablations", "runs/ablations"]
    assert run(["report", NAME, *kept]) == 0
    assert "train.label_smoothing" in (folder / "report.html").read_text()
    again = _json(
        ["run-ablation", NAME, *kept, *SMALL, "--seeds", "0-1", "--offline", "--data", str(few_images)], capsys
    )
    assert (again["trained"], again["reused"]) == (0, 4)

    assert _ablate("0,0.2", few_images) == 0
    assert capsys.readouterr().err.endswith("2 trained, 2 reused, 0 failed\n")
    assert {row["variant"] for row in _json(["compare", NAME], capsys)["rows"]} == {"0", "0.1", "0.2"}
    assert run(["report", NAME, *kept]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.label_smothing=0,0.1"], "did you mean 'train.label_smoothing'?"),
        (["train.label_smoothing=0,0.1", "train.label_smoothing=0"], "is ablated: it cannot be overridden as well"),
        (["train.label_smoothing=0,0.1", "--control", "0.3"], "--control 0.3 is none of the values"),
        (["train.label_smoothing=0,0.1", "--baseline", "fst"], "no baseline named 'fst'; did you mean 'fast'?"),
        (["train.label_smoothing=0,0.1", "--scale", "smal"], "no scale named 'smal'; did you mean 'small'?"),
        (["train.label_smoothing=0,0.1", "--device", "gpu"], "no device named 'gpu'"),
        (["model.width=64,128"], "variant '128': 18,768,146 parameters, over the budget of 5,000,000"),
        (["model.se.reduction=4,8", "--baseline", "resnet18"], "variants '4' and '8' resolve to the same recipe"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ablate", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not list(folder.iterdir())
