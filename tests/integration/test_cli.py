"""Command line end to end: run, compare, run again, sync; documented JSON."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cifar_lab.ablation import registry
from cifar_lab.cli import console, run
from cifar_lab.execution.estimate import TrainingSpeed
from cifar_lab.store.cell_record import CellRecord


class Ran:
    """One finished `run-ablation tiny` in a folder of its own, with MLflow."""

    def __init__(self, folder: Path, images: Path, ablations: Path, cache: Path) -> None:
        self.folder = folder
        self.common = ["--data", str(images), "--ablations", str(ablations)]
        self.environment = {**os.environ, "CIFAR_LAB_CACHE": str(cache)}
        self.environment.pop("MLFLOW_TRACKING_URI", None)
        line = [sys.executable, "-m", "cifar_lab", "run-ablation", "tiny", *self.common, "--json"]
        self.done = subprocess.run(
            line, cwd=folder, env=self.environment, capture_output=True, text=True, timeout=500, check=False
        )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, few_images: Path, tiny_ablation: Path) -> Ran:
    made = Ran(tmp_path_factory.mktemp("ran"), few_images, tiny_ablation, tmp_path_factory.mktemp("cache"))
    assert made.done.returncode == 0, made.done.stderr
    return made


def _json(line: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert run([*line, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_prints_the_plan_and_what_was_trained_and_nothing_else(ran: Ran) -> None:
    tree = json.loads(ran.done.stdout)
    assert (tree["trained"], tree["reused"]) == (4, 0)
    assert [(c["variant"], c["seed"]) for c in tree["cells"]] == [("off", 0), ("on", 0), ("off", 1), ("on", 1)]
    assert {cell["state"] for cell in tree["cells"]} == {"finished"}
    assert all(set(cell) >= {"fingerprint", "variant", "seed", "state", "estimate_seconds"} for cell in tree["cells"])


def test_every_cell_leaves_its_whole_record(ran: Ran) -> None:
    for cell in json.loads(ran.done.stdout)["cells"]:
        record = CellRecord(ran.folder / "runs" / cell["fingerprint"])
        assert record.state() == "finished"
        for path in (record.weights, record.predictions, record.confusion):
            assert path.stat().st_size > 0
        assert not record.checkpoint.exists(), "a checkpoint outlived its cell"
        tree = record.cell()
        assert tree is not None
        assert tree.seed == cell["seed"]
        assert tree.provenance.versions["torch"]
        result = record.result()
        assert result is not None
        assert {"test/acc", "test/loss", "val/acc", "val/auc", "gap", "seconds", "images_seen"} <= set(result.metrics)


def test_compare_in_every_form(ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ran.folder)
    line = ["compare", "tiny", "--ablations", ran.common[-1]]
    tree = _json(line, capsys)
    assert {"ablation", "scale", "metric", "control", "rows"} <= set(tree)
    rows = {row["variant"]: row for row in tree["rows"]}
    assert rows["off"]["n"] == rows["on"]["n"] == rows["on"]["pairs"] == 2
    assert rows["off"]["difference"] is None
    assert rows["on"]["difference"] == pytest.approx(rows["on"]["mean"] - rows["off"]["mean"])
    assert rows["on"]["verdict"] in {"better", "worse", "equivalent", "undecided"}
    assert rows["off"]["verdict"] is rows["off"]["interval"] is rows["off"]["p_value"] is None
    if rows["on"]["interval"] is not None:  # two seeds may differ by the very same, and then it is said
        low, high = rows["on"]["interval"]
        assert low < rows["on"]["difference"] < high
    else:
        assert rows["on"]["reason"] is not None
    assert rows["on"]["p_value"] in {0.5, 1.0}, "two pairs have two sign-flip p-values"
    marks = {"table": "tiny · scale writeup", "md": "| variant |", "csv": "ablation,scale", "latex": r"\toprule"}
    for form, mark in marks.items():
        assert run([*line, "--format", form]) == 0
        printed = capsys.readouterr().out
        assert mark in printed
        assert "off" in printed


def test_a_second_run_trains_nothing(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ran.folder)
    monkeypatch.setenv("CIFAR_LAB_CACHE", ran.environment["CIFAR_LAB_CACHE"])
    tree = _json(["run-ablation", "tiny", *ran.common, "--offline"], capsys)
    assert (tree["trained"], tree["reused"]) == (0, 4)
    assert _json(["plan", "tiny", *ran.common], capsys)["seconds"] == 0


def test_mlflow_has_a_parent_and_a_run_for_each_cell(ran: Ran) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{ran.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id], "tags.role = 'cell'")}
    assert set(runs) == {"off/s0", "on/s0", "off/s1", "on/s1"}
    results = {cell["variant"] + f"/s{cell['seed']}": cell for cell in json.loads(ran.done.stdout)["cells"]}
    for name, found in runs.items():
        result = CellRecord(ran.folder / "runs" / results[name]["fingerprint"]).result()
        assert result is not None
        assert found.data.metrics["test/acc"] == result.metrics["test/acc"]
        assert found.data.tags["fingerprint"] == results[name]["fingerprint"]
        assert found.data.params["model.dropout"] == ("0.2" if name.startswith("on") else "0.0")
        artifacts = {artifact.path for artifact in client.list_artifacts(found.info.run_id, "figures")}
        assert len(artifacts) == 4


def test_sync_after_a_run_has_nothing_left(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ran.folder)
    assert _json(["sync"], capsys) == {"shipped": 0, "left": 0, "experiments": []}


def test_list_and_describe_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    listed = _json(["list"], capsys)
    assert all(set(entry) >= {"name", "question", "variants", "source"} for entry in listed)
    described = _json(["describe", "block_counts"], capsys)
    assert set(described) >= {"name", "question", "control", "factors", "variants", "claims"}
    rows = {row["name"]: row for row in described["variants"]}
    assert rows["b2111"]["parameters"] == 4_977_226
    assert (rows["b2222"]["within_budget"], rows["b2222"]["over_budget"]) == (False, True)
    assert (rows["b443"]["within_budget"], rows["b443"]["over_budget"]) == (True, False)


def test_in_a_narrow_terminal_a_row_of_the_list_takes_two_lines_at_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(highlight=False, width=80))
    assert run(["list"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines()[1:] if line.strip()]
    assert max(map(len, lines)) <= 80
    starts = [i for i, line in enumerate(lines) if not line.startswith(" ")]
    assert len(starts) == len(registry.discover().names())
    assert max(b - a for a, b in pairwise([*starts, len(lines)])) <= 2
    monkeypatch.setattr(console, "out", Console(highlight=False, width=200))
    assert run(["list"]) == 0
    assert "none, r16, r8, r4, r2" in capsys.readouterr().out


def test_a_plan_says_which_variants_train_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", "lr_schedule", "--scale", "smoke", "--seeds", "0,1", "--runs", str(tmp_path)]
    assert _json(line, capsys)["same_as"] == dict.fromkeys(("cosine", "step", "warm_restarts"), "constant")
    assert run([*line, "--variants", "constant,step"]) == 0
    assert "step trains the same as constant here" in capsys.readouterr().out
    assert _json([*line, "train.epochs=10"], capsys)["same_as"] == {}


def test_a_plan_says_which_variants_take_several_passes_a_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["plan", "sam", "--scale", "smoke", "--seeds", "0", "--runs", str(tmp_path)]
    cells = {cell["variant"]: cell for cell in _json(line, capsys)["cells"]}
    assert {name: cell["passes"] for name, cell in cells.items()} == {
        "off": 1, "off_twice": 1, "rho0.05": 2, "rho0.1": 2, "adaptive0.5": 2,
    }  # fmt: skip
    assert cells["rho0.05"]["estimate_seconds"] > 1.2 * cells["off"]["estimate_seconds"] > 0
    assert run(line) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "rho0.05, rho0.1, adaptive0.5: two passes a step, so twice the time and the FLOPs that the MACs tell" in shown
    )
    assert run(["plan", "augmix", *line[2:]]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "consistency12: 3 passes a step, so 3 times the time and the FLOPs that the MACs tell" in shown
    assert run(["plan", "dropout", *line[2:]]) == 0
    assert "passes a step" not in capsys.readouterr().out


def test_a_plan_warns_of_a_precision_that_the_processor_emulates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lab.train.precision.cpu_has_bf16", lambda: False)
    monkeypatch.setattr("cifar_lab.execution.estimate.measure", lambda *_, **__: TrainingSpeed(rates={"auto": 1e-10}))
    line = ["plan", "se_ratio", "--scale", "smoke", "--seeds", "0", "--device", "cpu", "--runs", str(tmp_path)]
    assert run([*line, "train.precision=bf16"]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "note: this processor has no units for bf16: it computes in fp32 and rounds" in shown
    assert run(line) == 0
    assert "no units" not in capsys.readouterr().err


def test_what_is_loaded_is_spared_by_collections_once(tmp_path: Path) -> None:
    line = ["plan", "se_ratio", "--scale", "smoke", "--seeds", "0", "--runs", str(tmp_path)]
    assert run(line) == 0
    spared = gc.get_freeze_count()
    assert run(line) == 0
    assert 0 < gc.get_freeze_count() <= spared, "a second plan keeps what the first left"


def test_describe_says_by_which_metric_a_claim_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    claims = _json(["describe", "weight_decay"], capsys)["claims"]
    assert [(claim["metric"], claim["compares"]) for claim in claims] == [
        ("accuracy", "wd5e-4 > none"), ("gap", "wd5e-4 < none in gap"),
    ]  # fmt: skip
    assert "less is better" in claims[1]["metric_definition"]
    assert run(["describe", "weight_decay"]) == 0
    assert "gap: final accuracy on clean training images minus the watched one" in capsys.readouterr().out


def test_a_plan_says_how_likely_its_seeds_settle_each_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", "se_ratio", "--scale", "smoke", "--runs", str(tmp_path), "--variants", "r16,r4"]
    (claim,) = _json([*line, "--seeds", "0-4"], capsys)["claims"]
    assert (claim["compares"], claim["seeds"], claim["method"]) == ("r16 > r4", 5, "student")
    assert 0 < claim["power"] < 1
    assert run(line) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Chance of being supported, if the claim is true: r16 > r4: 11 % with 3 seeds at 2.00 points" in shown


def test_describe_says_the_baseline_and_why_it_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    described = _json(["describe", "optimizers_cosine"], capsys)
    assert described["baseline"] == {"name": "ResNet-18", "diff": {"schedule.name": "cosine"}}
    assert described["doc"].startswith("Optimizers for the ResNet-18 under a cosine schedule, in equal numbers of ")
    assert run(["describe", "se_ratio"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "baseline: Efficient ResNet factors: " in shown
    assert "Run time: 43 PFLOP a cell" in shown
    assert "(stage 9 against stage 8 (97.08 %); made with data.mixup=1.0 data.cutmix=1.0)" in shown


def test_a_broken_file_is_reported_and_hides_no_other(
    tmp_path: Path, tiny_ablation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("x = 1\nraise ValueError('no good')\n")
    (tmp_path / "tiny.py").write_text((tiny_ablation / "tiny.py").read_text())
    assert run(["list", "--ablations", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "broken.py:2: ValueError: no good" in captured.err
    assert "tiny" in captured.out


def test_one_recipe_is_trained_by_hand(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["model.blocks=[1]", "model.width=8", "train.epochs=1", "train.batch_size=10", "data.val_fraction=0.2"]
    tree = _json(["train", *small, "--data", ran.common[1], "--offline"], capsys)
    assert tree["trained"] == 1
    parent = tree["cells"][0]["fingerprint"]
    tree = _json(["train", *small, f"init_from={parent}", "--data", ran.common[1], "--offline"], capsys)
    assert tree["trained"] == 1
    assert tree["cells"][0]["fingerprint"] != parent
