"""Files that were damaged at a random place: the right numbers, or one line that names the damage."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults.table import cells, store, undisturbed
from faults.table.damage import Shown, harm, judge, names_damage, show
from faults.table.lab import Lab, Material, differences, sha256
from faults.table.tally import Tally

from cifar_lab.errors import CifarLabError
from cifar_lab.execution.worker import CellJob, train_cell

LINE = '''"""Does a second stage help?"""

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab import EFFICIENT_RESNET

ABLATION = Ablation(
    question="Does a second stage help?",
    source="the tests",
    baseline=EFFICIENT_RESNET.override({
        "model.blocks": (1,), "model.width": 8, "train.batch_size": 10, "train.epochs": 2, "data.val_fraction": 0.2,
    }),
    factors=("optim.lr",),
    variants=(Variant(name="first"), Variant(name="second", continues="first", diff={"optim.lr": 0.05})),
    control="first",
    seeds=(0,),
)
'''
SPACE = '''"""Which tiny network?"""

from cifar_lab import RESNET18
from cifar_lab.search.dimension import Integer, Real
from cifar_lab.search.space import Space

SPACE = Space(
    question="Which tiny network?",
    baseline=RESNET18.override({"model.width": 8, "model.blocks": (1,), "train.batch_size": 10, "train.epochs": 2,
                                "data.val_fraction": 0.2}),
    dimensions=(Integer(path="model.width", low=4, high=16, step=4),
                Real(path="optim.lr", low=0.001, high=0.1, log=True)),
)
'''


def _trained_on(job: CellJob, expected: dict[str, Any]) -> list[str]:
    """Train a cell beside a damaged file; return what is wrong: other numbers, or an error that does not name it."""
    try:
        train_cell(job)
    except CifarLabError as error:
        return [] if names_damage(str(error)) else [f"the error does not name the damage: {error}"]
    except Exception as error:  # noqa: BLE001 (counted)
        first = (str(error).splitlines() or [""])[0]
        return [f"the error does not name the damage: {type(error).__name__}: {first[:160]}"]
    return differences([job.record], {job.fingerprint: expected})


def test_damage_checkpoint(tally: Tally, material: Material, tmp_path: Path) -> None:
    _damage_unfinished(tally, material, tmp_path, "checkpoint.pt")


def test_damage_journal(tally: Tally, material: Material, tmp_path: Path) -> None:
    _damage_unfinished(tally, material, tmp_path, "journal.jsonl")


def _damage_unfinished(tally: Tally, material: Material, tmp_path: Path, name: str) -> None:
    """Damage one file of a cell that was stopped after epoch 3 of 6, and go on."""
    (job, *_) = cells.jobs(material, tmp_path / "runs", **{"train.epochs": 6})
    expected = cells.reference(job, tmp_path / "reference")
    cells.train_until(job, 3)
    equal = 0
    for number in range(tally.tries):
        own = cells.moved(job, tmp_path / str(number))
        shutil.copytree(job.runs, own.runs)
        what = harm(own.record.folder / name, tally.chance)
        problems = _trained_on(own, expected)
        equal += not problems and own.record.failure() is None
        tally.add(problems, what)
        shutil.rmtree(own.runs)
    tally.notes["equal results; in the other cases the damage was named"] = str(equal)
    tally.settle()


def test_damage_cache(tally: Tally, material: Material, tmp_path: Path) -> None:
    (job, *_) = cells.jobs(material, tmp_path / "runs", **{"train.epochs": 2})
    expected = cells.reference(job, tmp_path / "reference")
    for number in range(tally.tries):
        cache = tmp_path / f"cache{number}"
        shutil.copytree(material.cache, cache)
        files = sorted(path for path in cache.rglob("*") if path.suffix in {".npy", ".json"})
        what = harm(tally.chance.choice(files), tally.chance)
        own = cells.moved(job, tmp_path / str(number))
        with cells.cache_at(cache):
            tally.add(_trained_on(own, expected), what)
        shutil.rmtree(cache)
        shutil.rmtree(own.runs, ignore_errors=True)
    tally.settle()


def test_damage_weights(tally: Tally, material: Material, tmp_path: Path) -> None:
    """A cell starts from the weights of another one, which were damaged after it had finished."""
    (material.ablations / "line.py").write_text(LINE)
    parent, child = cells.jobs(material, tmp_path / "runs", study="line")
    train_cell(parent)
    shutil.copytree(parent.runs, tmp_path / "reference")
    expected = cells.reference(child, tmp_path / "reference")
    for number in range(tally.tries):
        own = cells.moved(child, tmp_path / str(number))
        shutil.copytree(parent.runs, own.runs)
        what = harm(cells.moved(parent, own.runs).record.weights, tally.chance)
        tally.add(_trained_on(own, expected), what)
        shutil.rmtree(own.runs)
    tally.settle()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A finished study, and what commands print of it."""

    runs: Path
    lines: tuple[str, ...]
    sound: tuple[Shown, ...]


@pytest.fixture(scope="module")
def scene(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Four finished cells of one invocation."""
    folder = tmp_path_factory.mktemp("scene")
    lab = Lab(folder=folder, material=material)
    done = lab.run(*lab.line("--offline"))
    assert done.code == 0, done.err
    a, b = [record.fingerprint[:12] for record in lab.records()][:2]
    own = f"--ablations {material.ablations}"
    lines = (f"compare tiny --json {own}", f"status tiny --json {own}", f"tail {a}", f"diff {a} {b} --json",
             f"failures tiny {own}")  # fmt: skip
    sound = tuple(show(*line.split(), "--runs", str(lab.runs)) for line in lines)
    assert not any(each.crash or each.code for each in sound), sound
    return Scene(runs=lab.runs, lines=lines, sound=sound)


def _judged(lines: Sequence[str], sound: Sequence[Shown], runs: Path, tally: Tally) -> list[str]:
    """Run commands on a folder in a random order; return what is wrong with what they make of it."""
    problems, warned = [], ""
    for line, expected in tally.chance.sample(list(zip(lines, sound, strict=True)), len(lines)):
        shown = show(*line.split(), "--runs", str(runs))
        problems += judge(line.split()[0], expected, shown, warned)
        warned += shown.err
    return problems


def _damage_finished(tally: Tally, scene: Scene, tmp_path: Path, pattern: str) -> None:
    """Damage one file of a finished study, and look at what commands make of it."""
    for number in range(tally.tries):
        runs = tmp_path / str(number)
        shutil.copytree(scene.runs, runs)
        what = harm(sorted(runs.glob(pattern))[0], tally.chance)
        tally.add(_judged(scene.lines, scene.sound, runs, tally), what)
        shutil.rmtree(runs)
    tally.notes["commands"] = ", ".join(line.split()[0] for line in scene.lines)
    tally.settle()


@pytest.mark.slow
def test_damage_cell(tally: Tally, scene: Scene, tmp_path: Path) -> None:
    _damage_finished(tally, scene, tmp_path, "*/cell.json")


def test_damage_result(tally: Tally, scene: Scene, tmp_path: Path) -> None:
    _damage_finished(tally, scene, tmp_path, "*/result.json")


def test_damage_invocation(tally: Tally, scene: Scene, tmp_path: Path) -> None:
    _damage_finished(tally, scene, tmp_path, "invocations/*.json")


def test_damage_predictions(tally: Tally, scene: Scene, tmp_path: Path) -> None:
    _damage_finished(tally, scene, tmp_path, "*/predictions.npz")


@pytest.mark.slow
def test_damage_study(tally: Tally, material: Material, lab: Lab, tmp_path: Path) -> None:
    (lab.folder / "space.py").write_text(SPACE)
    sweep = ["sweep", "--study", "s", "--trials", "5", "--space", "space.py", "--sampler", "random", "--pruner", "none",
             "--data", str(material.images), "--runs", str(lab.runs), "--offline", "-y"]  # fmt: skip
    done = lab.run(*sweep)
    assert done.code == 0, done.err
    lines = ("sweep-status s --json", "sweep-best s --json", "sweep-importance s --json")
    sound = [show(*line.split(), "--runs", str(lab.runs)) for line in lines]
    assert not any(each.crash or each.code for each in sound[:2]), sound
    for number in range(tally.tries):
        runs = tmp_path / str(number)
        shutil.copytree(lab.runs, runs)
        what = harm(runs / "studies.journal", tally.chance)
        tally.add(_judged(lines, sound, runs, tally), what)
        shutil.rmtree(runs)
    tally.settle()


@pytest.mark.slow
def test_damage_store(
    tally: Tally, scene: Scene, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage the database of MLflow, and ship to it; the records are the truth and must not change."""
    lab = Lab(folder=tmp_path / "shipped", material=material)
    undisturbed.copy_store(material, lab.folder / "mlflow.db")
    shutil.copytree(scene.runs, lab.runs)
    assert lab.run("sync", "--runs", str(lab.runs)).code == 0
    before = {path.relative_to(lab.runs): sha256(path) for path in lab.runs.rglob("*.json*")}
    for number in range(tally.tries):
        folder = tmp_path / str(number)
        shutil.copytree(lab.folder, folder)
        what = harm(folder / "mlflow.db", tally.chance)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.sqlite_address(folder / "mlflow.db"))
        shown = show("sync", "--runs", str(folder / "runs"))
        problems = [f"traceback: {shown.crash}"] if shown.crash or "Traceback" in shown.err else []
        after = {path.relative_to(folder / "runs"): sha256(path) for path in (folder / "runs").rglob("*.json*")}
        problems += [f"{path} changed" for path in before if before[path] != after.get(path)]
        tally.add(problems, what)
        shutil.rmtree(folder)
    tally.settle()
