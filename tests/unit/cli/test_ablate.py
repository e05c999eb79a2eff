"""`ablate` trains the ablation that it made; the file that it leaves is for later commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_lab.ablation import registry
from cifar_lab.cli import ablate, run, run_ablation
from cifar_lab.cli.outcome import CommandOutcome
from cifar_lab.cli.run_ablation import RunOptions


def test_the_request_is_handed_over_as_values_and_its_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, RunOptions]] = []

    def run_one(made: object, options: RunOptions) -> CommandOutcome:
        asked.append((made, options))
        return CommandOutcome(0, None)

    def discover(*_: Path) -> None:
        raise AssertionError("the ablation is known, and was looked for")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablate, "run_one", run_one)
    with monkeypatch.context() as patch:
        patch.setattr(run_ablation.registry, "discover", discover)
        words = ["train.label_smoothing=0,0.1", "train.epochs=2", "--scale", "smoke", "--seeds", "1-2", "--offline"]
        assert run(["ablate", *words]) == 0
    ((made, options),) = asked
    assert options.typed.overrides == {"train.epochs": 2}
    assert options.typed.seeds == (1, 2)
    assert options.offline
    assert made == registry.discover(tmp_path / "runs" / "ablations").find("ablate.train.label_smoothing")
