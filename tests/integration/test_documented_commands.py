"""Every command that README or docs/ show is executed, on tiny images, or named here with the reason why it is not."""

from __future__ import annotations

import csv
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from made.documented_commands import COMMANDS, HOUSE, SEARCHED, shrink
from PIL import Image

from cifar_lab.cli import run
from cifar_lab.store.invocation_index import read_index

ELSEWHERE = {
    r"--engine slurm|--partition": "needs a Slurm cluster: tests/integration/test_slurm.py",
    r"--engine ray": "needs a Ray cluster: tests/integration/test_ray.py",
    r"s3://": "needs a store: tests/integration/test_object_store.py",
    r"--device cuda": "needs a GPU: tests/gpu",
    r"--notify": "sends a message: tests/integration/test_notify.py",
    r"^run-ablation all ": "trains hundreds of cells: tests/integration/test_smoke.py",
    r"^ui( |$)": "serves until it is stopped: tests/browser",
    r"mlflow:my_experiment": "reads a store of MLflow: tests/unit/cli/test_judge.py",
    r"mylab|stripes|peak_rate|--ablations runs/ablations": "needs the page's code: tests/integration/test_extending.py",
    r"--space mine\.py": "needs the page's code: tests/unit/search/test_documented_space.py",
    r"--drop-rule": "needs a study with a rule: tests/integration/test_until.py",
    r"^(compare --format md|train --recipe)$": "names an option within a sentence",
    r"^--install-completion": "changes the user's shell",
    r"^ablate_wide|--ablations docs/results/ablations": "made records of the past",
}
"""Commands that are not executed here, by a pattern: why, and which test executes them."""


def _reason(line: str) -> str | None:
    return next((reason for pattern, reason in ELSEWHERE.items() if re.search(pattern, line)), None)


EXECUTED = {each.line: each for each in COMMANDS if not each.is_mention and not _reason(each.line)}


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_not_executed_is_still_in_the_docs(pattern: str) -> None:
    assert any(re.search(pattern, each.line) for each in COMMANDS)


@pytest.mark.parametrize("reason", [reason for reason in ELSEWHERE.values() if "tests/" in reason])
def test_the_test_that_executes_it_is_there(reason: str) -> None:
    assert all((HOUSE / path).exists() for path in re.findall(r"tests/[\w/.]*\w", reason))


def _images(path: Path) -> None:
    """Write a zip of ten classes, twelve training and four test images each."""
    rng = np.random.default_rng(0)
    with ZipFile(path, "w") as archive:
        for part, count in (("train", 12), ("test", 4)):
            for c in range(10):
                for i in range(count):
                    pixels = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8)
                    pixels[:, 3 * c : 3 * c + 3] += 100
                    file = BytesIO()
                    Image.fromarray(pixels).save(file, "PNG")
                    archive.writestr(f"{part}/class{c}/{i}.png", file.getvalue())


def _cifar_lab(line: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cifar_lab", *line.split()], cwd=folder, capture_output=True, text=True, timeout=500,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _write_files(folder: Path) -> None:
    """Write the files that the pages speak of."""
    _images(folder / "images.zip")
    with ZipFile(folder / "images.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("test/")]
        (folder / "images").mkdir()
        for number, name in enumerate(names):
            (folder / "images" / f"{number}.png").write_bytes(archive.read(name))
        pixels = np.stack([np.asarray(Image.open(BytesIO(archive.read(name)))) for name in names])
    unlabelled = {b"data": pixels.transpose(0, 3, 1, 2).reshape(len(names), -1), b"ids": list(range(len(names)))}
    for name in ("test.pkl", "test_nolabel.pkl"):
        (folder / name).write_bytes(pickle.dumps(unlabelled))
    for name in ("sample.csv", "earlier.csv"):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("ID", "Labels"), *((number, 0) for number in range(len(names)))])
    values = [
        (name, seed, 0.9 + seed / 100 + gain) for name, gain in (("baseline", 0.0), ("new", 0.01)) for seed in (0, 1, 2)
    ]
    with (folder / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("variant", "seed", "value"), *values])
    (folder / "mine").mkdir()
    readme = re.search(r"^```python\n(.*?)^```", (HOUSE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert readme
    (folder / "mine" / "smoothing.py").write_text(readme[1])
    (folder / "docs").mkdir()
    shutil.copytree(HOUSE / "docs/results", folder / "docs/results")
    with ZipFile(HOUSE / "docs/results/study.zip") as archive:
        archive.extractall(folder / "study")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a user has trained and searched."""
    folder = tmp_path_factory.mktemp("lab")
    _write_files(folder)
    common = "--scale smoke --data images.zip -y --offline"
    for asked in (
        "se_ratio --seeds 0-2", "optimizers --variants sgd_nesterov,muon --seeds 1-2", "noise_floor --seeds 1-2",
        "optimizers_cosine --variants sgd_nesterov,sgd,adam,muon --seeds 1-2",
    ):  # fmt: skip
        _cifar_lab(f"run-ablation {asked} {common}", folder)
    _cifar_lab(f"sweep --study wide --trials 4 {common} {' '.join(SEARCHED)}", folder)
    _cifar_lab("sweep-confirm wide --top 1 --seeds 1-2 -y --offline", folder)
    _cifar_lab("sweep-best wide -o best.json", folder)
    _cifar_lab("pack se_ratio -o study.zip", folder)
    return folder


@pytest.fixture
def copy(lab: Path, _fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder with an empty MLflow store, which is the current one and deleted after the test."""
    folder = tmp_path / "lab"
    shutil.copytree(lab, folder)
    shutil.copy(_fresh, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("line", EXECUTED, ids=lambda line: f"{EXECUTED[line].page.name}: {line}")
def test_a_command_of_the_docs_does_what_it_says(line: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = read_index(copy / "runs").of_ablation("se_ratio")[0].cells
    finished = [cell.fingerprint for cell in cells]
    words = shrink(line, {"FINGERPRINT": finished[0], "FP1": finished[0], "FP2": finished[1]})
    for at, word in enumerate(words[:-1]):
        if word in {"-o", "--output"}:
            (copy / words[at + 1]).unlink(missing_ok=True)
    assert run(words) == 0, capsys.readouterr().err
    for at, word in enumerate(words[:-1]):
        if word in {"-o", "--output"}:
            assert (copy / words[at + 1]).stat().st_size
