"""Bad input gets one clear line with the rule, the value and the nearest valid name, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_lab.cli import run

RUN = "run-ablation tiny --ablations {ablations} --data {images} --offline"
CASES = {
    "no command of that name": ("run-ablaton", "run-ablation"),
    "no option of that name": ("list --jsn", "--json"),
    "no ablation named": ("run-ablation se_rato", "did you mean 'se_ratio'?"),
    "ablation missing": ("run-ablation", "ABLATION"),
    "ablations folder missing": ("list --ablations {nowhere}", "no such folder"),
    "variant": (RUN + " --variants offf", "did you mean 'off'?"),
    "path": (RUN + " train.epoch=3", "did you mean 'train.epochs'?"),
    "value of a wrong type": (RUN + " train.epochs=many", 'train.epochs="many": should be an integer'),
    "value out of range": (RUN + " model.width=0", "model.width=0: should be at least 1"),
    "value not one of": (RUN + " optim.name=sdg", "did you mean 'sgd'?"),
    "not an override": (RUN + " epochs", "path=value"),
    "twice": (RUN + " train.epochs=1 train.epochs=2", "set twice"),
    "kernels for other layers": (RUN + " model.kernel=[3,3]", "model.kernel"),
    "scale": (RUN + " --scale smok", "did you mean 'smoke'?"),
    "seeds": (RUN + " --seeds 3-1", "0-4 or 0,2,5, got '3-1'"),
    "seeds twice": (RUN + " --seeds 1,1", "twice"),
    "a GPU that is not there": (RUN + " --device cuda:9", "device cuda:9"),
    "device": (RUN + " --device tpu", "did you mean 'cpu'?"),
    "workers": (RUN + " --workers none", "'auto' or a number"),
    "budget": (RUN + " --max-params 0", "--max-params reads 5M"),
    "over the budget": (RUN + " --max-params 1k", "1,531 parameters, over the budget of 1,000"),
    "data named wrongly": ("plan se_ratio --data cifar11", "did you mean 'cifar10'?"),
    "data not there": ("plan se_ratio --data nowhere/at/all.zip", "nowhere/at/all.zip"),
    "nothing to compare": ("compare se_ratio", "has not been run"),
    "format": ("compare se_ratio --format html", "table, md, csv, latex, json"),
    "baseline": ("train --baseline resnet81", "did you mean 'resnet18'?"),
    "runs folder": (RUN + " --runs {file}/runs", "cannot be written"),
    "too long to go unasked": ("run-ablation se_ratio --data synthetic --device cpu --offline", "--scale small"),
}


@pytest.mark.parametrize(("line", "said"), CASES.values(), ids=CASES.keys())
def test_one_line_and_exit_code_2(
    line: str,
    said: str,
    folder: Path,
    few_images: Path,
    tiny_ablation: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "file").write_text("not a folder")
    places = {"ablations": tiny_ablation, "images": few_images, "nowhere": folder / "nowhere", "file": folder / "file"}
    assert run(line.format(**places).split()) == 2
    captured = capsys.readouterr()
    complaints = [text for text in captured.err.splitlines() if text.startswith("cifar-lab: ")]
    assert len(complaints) == 1
    assert said in complaints[0]
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not [path for path in (folder / "runs").glob("*") if len(path.name) == 64], "a cell was begun"


def test_a_store_that_cannot_be_written_is_refused_before_training(
    folder: Path,
    few_images: Path,
    tiny_ablation: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "file").write_text("not a folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/file/mlflow.db")
    line = f"run-ablation tiny --ablations {tiny_ablation} --data {few_images}"
    assert run(line.split()) == 2
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err
    assert not [path for path in (folder / "runs").glob("*") if len(path.name) == 64]


def test_v_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "se_rato", "-v"]) == 2
    assert "Traceback" in capsys.readouterr().err
