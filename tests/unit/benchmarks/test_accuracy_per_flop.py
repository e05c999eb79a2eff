"""Accuracy against work: recipes grouped over their seeds, the work reckoned, what is not finished left out."""

from __future__ import annotations

from pathlib import Path

import accuracy_per_flop
import pytest
from made import records

from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST
from cifar_lab.config.recipe import Recipe
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.record_files import DataSource

MACS, IMAGES = 50_000_000, 45_000
SMALL = {"model.width": 16, "train.epochs": 10}


def trained(runs: Path, variant: str, recipe: Recipe, accuracies: list[float], status: str = "finished",
            source: str = "jpeg") -> list[CellRef]:  # fmt: skip
    """Cells of seeds 0, 1, …, each with its accuracy."""
    asked = []
    for seed, accuracy in enumerate(accuracies):
        fingerprint = recipe.fingerprint(seed=seed, data_hash=source)
        record = CellRecord(runs / fingerprint)
        data = DataSource(name=source, kind="path", hash=source, source=source)
        records.begin(record, seed=seed, recipe=recipe, macs=MACS, parameters=295_755, data=data)
        extra = {"test/acc_without_tta": accuracy - 0.01} if recipe.train.tta != "none" else {}
        metrics = {"test/acc": accuracy, **extra, "images_seen": float(IMAGES * recipe.train.epochs)}
        records.end(record, metrics, status=status)
        asked.append(records.cell_ref(fingerprint, variant, seed, recipe=recipe.digest(), macs=MACS))
    return asked


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    cells = [
        *trained(tmp_path, "efficient", EFFICIENT_RESNET.override({**SMALL, "train.epochs": 30}), [0.85, 0.86, 0.84]),
        *trained(tmp_path, "fast_third", FAST.override(SMALL), [0.86, 0.88]),
        *trained(tmp_path, "fast_third", FAST.override({**SMALL, "model.width": 24}), [0.1], "diverged"),
    ]
    noted(tmp_path, cells)
    return tmp_path


def noted(runs: Path, cells: list[CellRef]) -> None:
    id = f"20261124T10000{len(cells)}.000-fewer_epochs"
    records.invocation(*cells, id=id, ablation="fewer_epochs", control="efficient").write(runs)


def test_a_recipe_is_a_point_the_mean_of_its_seeds(runs: Path) -> None:
    fast, efficient = accuracy_per_flop.points(runs, ["fewer_epochs"])
    assert (fast.name, efficient.name) == ("fast, width 16, 10 epochs", "efficient, width 16, 30 epochs")
    assert (fast.mean, efficient.mean) == pytest.approx((87.0, 85.0))
    assert fast.pflop == pytest.approx(2 * 3 * MACS * IMAGES * 10 / 1e15)
    assert efficient.pflop == pytest.approx(3 * fast.pflop)


def test_two_passes_a_step_are_twice_the_work(tmp_path: Path) -> None:
    two = EFFICIENT_RESNET.override({**SMALL, "optim.sam.rho": 0.05})
    cells = trained(tmp_path, "plain", EFFICIENT_RESNET.override(SMALL), [0.8]) + trained(tmp_path, "sam", two, [0.8])
    noted(tmp_path, cells)
    plain, sam = accuracy_per_flop.points(tmp_path, ["fewer_epochs"])
    assert sam.pflop == 2 * plain.pflop


def test_the_table_has_the_anchor_where_its_work_puts_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy_per_flop.main(["fewer_epochs", "--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [
        "fast, width 16, 10 epochs", "airbench94", "efficient, width 16, 30 epochs",
    ]  # fmt: skip
    assert "| 0.135 | 2 | 87.00 | 86.00 | 88.00 | 86.00 |" in lines[0]


def test_other_blocks_and_parts_taken_out_are_lines_of_their_own(runs: Path, tmp_path: Path) -> None:
    shallow = FAST.override({**SMALL, "model.blocks": (1, 1, 1)})
    noted(runs, [*trained(runs, "fast_third", shallow, [0.8]),
                 *trained(runs, "no_average", FAST.override({**SMALL, "train.ema": 0.0}), [0.7])])  # fmt: skip
    found = accuracy_per_flop.points(runs, ["fewer_epochs"])
    assert {each.line for each in found} == {"fast", "efficient", "fast, blocks 1-1-1", "no_average"}
    accuracy_per_flop.draw(found, tmp_path / "picture.png")


def test_cells_of_different_images_are_not_averaged(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noted(runs, trained(runs, "fast_third", FAST.override(SMALL), [0.99], source="png"))
    assert accuracy_per_flop.main(["fewer_epochs", "--runs", str(runs)]) == 2
    assert "these cells saw different images: jpeg, png" in capsys.readouterr().err


def test_the_picture_is_drawn(runs: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    assert accuracy_per_flop.main(["fewer_epochs", "--runs", str(runs), "--draw", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_where_nothing_is_finished_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy_per_flop.main(["fewer_epochs", "--runs", str(tmp_path)]) == 2
    assert "no finished cell of fewer_epochs" in capsys.readouterr().err
