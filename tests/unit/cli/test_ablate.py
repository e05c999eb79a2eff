"""`ablate` and `ablate-best` train the ablation that they made; the file that they leave is for later commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.spaces import Told

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.registry import Registry, discover
from cifar_lab.cli import ablate, run, training
from cifar_lab.cli.training import CommandOutcome, RunOptions
from cifar_lab.search.storage import open_storage

Handed = list[tuple[Ablation, RunOptions]]


@pytest.fixture
def handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Handed:
    """Requests that would be trained, in a folder of its own; the registry must not be asked meanwhile."""
    asked: Handed = []

    def run_one(ablation: Ablation, options: RunOptions) -> CommandOutcome:
        asked.append((ablation, options))
        return CommandOutcome(0, None)

    def find(*_: object) -> None:
        raise AssertionError("the ablation is known, and was looked for")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "run_one", run_one)
    monkeypatch.setattr(ablate, "run_one", run_one)
    monkeypatch.setattr(Registry, "find", find)
    return asked


def kept(name: str) -> Ablation:
    """Return an ablation as later commands read it from its file."""
    return next(each for each in discover(Path("runs/ablations")) if each.name == name)


def test_the_request_of_ablate_is_handed_over_as_values(handed: Handed) -> None:
    words = ["train.label_smoothing=0,0.1", "train.epochs=2", "--scale", "smoke", "--seeds", "1-2", "--offline"]
    assert run(["ablate", *words]) == 0
    ((ablation, options),) = handed
    assert (options.typed.overrides, options.typed.seeds) == ({"train.epochs": 2}, (1, 2))
    assert options.offline
    assert ablation == kept("ablate.train.label_smoothing")


def test_the_request_of_ablate_best_has_the_settings_of_its_study(handed: Handed) -> None:
    study = Told(storage=open_storage(None, Path("runs")), overrides={"train.epochs": 7})
    study.trained(0.8)
    study.trained(0.9)
    assert run(["ablate-best", "wide", "train.batch_size=64", "--seeds", "4", "--retry-failed"]) == 0
    ((ablation, options),) = handed
    assert options.typed.overrides == {"train.epochs": 7, "train.batch_size": 64}
    assert (options.typed.scale.name, options.data, options.typed.seeds) == ("small", "cifar10", (4,))
    assert options.retry_failed
    assert ablation == kept("ablate_wide")
    assert run(["ablate-best", "wide", "train.epochs=9"]) == 2
    assert len(handed) == 1
