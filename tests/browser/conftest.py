"""A study written by hand in an MLflow store, `cifar-lab ui` on it, and a headless browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.ablation import registry
from cifar_lab.config.recipe import Recipe
from cifar_lab.mlflow_sync.upload import sync_all
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.journal import Journal

ACCURACY = {"none": (0.90, 0.70), "r16": (0.80, 0.82), "r4": (0.84, 0.86)}
"""Accuracies by variant and seed. `none` has the best cell, `r4` the best mean; r16 is the control."""
EPOCHS = 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def _recipe(variant: str) -> Recipe:
    se = {"model.se.placement": "none"} if variant == "none" else {"model.se.reduction": int(variant[1:])}
    return Recipe().override(se)


def _asked(variant: str, seed: int) -> CellRef:
    recipe = _recipe(variant)
    return CellRef(
        variant=variant,
        seed=seed,
        fingerprint=recipe.fingerprint(seed=seed, data_hash=records.SYNTHETIC.hash),
        recipe=recipe.digest(),
        parameters=4_697_162 + 1000 * len(variant),
        parameters_trained=300_000,
        macs=50_000_000,
    )


def _write_cell(runs: Path, asked: CellRef, accuracy: float) -> None:
    record = CellRecord(runs / asked.fingerprint)
    records.begin(record, seed=asked.seed, recipe=_recipe(asked.variant))
    journal = Journal(record.folder)
    journal.write("start")
    for epoch in range(1, EPOCHS + 1):
        reached = round(accuracy * epoch / EPOCHS, 4)
        journal.points(epoch, {"val/acc": reached, "val/loss": 1 - reached, "train/loss": 2 / epoch, "lr": 0.1 / epoch})
        journal.write("checkpoint", epoch=epoch, step=0)
    journal.write("end", status="finished")
    time = 1 + max(json.loads(line)["time"] for line in (record.folder / "journal.jsonl").read_text().splitlines())
    metrics = {"test/acc": accuracy, "test/loss": 0.5, "val/acc": accuracy, "val/auc": 0.6 * accuracy, "gap": 0.02}
    metrics |= {"epochs_to/0.5": 4.0, "seconds": 60.0 + 10 * len(asked.variant), "images_seen": 45_000.0}
    records.end(record, metrics, epoch=EPOCHS, time=time)


def _write_study(runs: Path) -> None:
    seeds = range(len(ACCURACY["r16"]))
    invocation = records.invocation(
        *(_asked(variant, seed) for seed in seeds for variant in ACCURACY),
        id="20260101T000000.000-se_ratio",
        question="Which reduction ratio should the SE block after the stem have?\nSource: the tests",
        scale="smoke",
        data=records.SYNTHETIC,
        command="cifar-lab run-ablation se_ratio --scale smoke",
        provenance=records.PROVENANCE,
    )
    invocation.write(runs)
    for cell in invocation.cells:
        _write_cell(runs, cell, ACCURACY[cell.variant][cell.seed])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def accuracy() -> dict[str, tuple[float, ...]]:
    return ACCURACY


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study was run and shipped: `runs`, and `mlflow.db`."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "runs").mkdir()
    _write_study(folder / "runs")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        assert sync_all(folder / "runs", said.append, registry.discover())[:2] == (6, 0)
    assert said == []
    return folder


@pytest.fixture(scope="session")
def links(shipped: Path) -> Iterator[dict[str, str]]:
    """The addresses that `cifar-lab ui` prints, while it serves them."""
    command = [sys.executable, "-m", "cifar_lab", "ui", "--no-open", "--json", "--port", str(_free_port())]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(command, cwd=shipped, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("\n}\n"):
                line = process.stdout.readline()
                assert line, f"it ended: {text}"
                text += line
            (found,) = json.loads(text)["ablations"]
            yield found
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.fixture(scope="session")
def page() -> Iterator[Any]:
    """A page of a headless browser, wide enough for the table."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        made = browser.new_page(viewport={"width": 1500, "height": 830})
        made.set_default_timeout(30_000)
        yield made
        browser.close()


@pytest.fixture
def picture(page: Any) -> Callable[[str], None]:
    """`picture("mlflow-table")`: save the page as it is, where `CIFAR_LAB_PICTURES` names a folder."""
    folder = os.environ.get("CIFAR_LAB_PICTURES")

    def save(name: str) -> None:
        if folder:
            page.screenshot(path=str(Path(folder) / f"{name}.png"))

    return save
