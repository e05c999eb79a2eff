"""Results that sections compute from their numbers, other than ratios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sections import training
from sections.tracking import apart
from sections.whole_cell import only_cell
from side_by_side.contender import Measured
from side_by_side.results import Absent, Spread


def test_a_share_of_the_ceiling_bounds_what_can_be_won() -> None:
    rates = {"plain loop, 64": 32.0, "cifar-lab, 64": 80.0, "plain loop, 16": 300.0, "cifar-lab, 16": 720.0}
    results = {
        name: [{"images_per_second": rate, "flops_per_image": 5e9, "flops_per_second": 5e9 * rate}]
        for name, rate in rates.items()
    }
    results["ceilings"] = [{"bf16": 400e9, "fp32": 200e9, "fastest": 400e9}]
    first, deep, narrow = training.notes(Measured(results, {}))
    assert "2.00 times as fast as the fp32 one, where the goals were set 4 times" in first
    assert "would be 2.50 times as fast" in deep
    assert "would be 0.267 times as fast" in narrow
    speed, _ = training.goals(Measured(results, {}), 64)
    assert speed.is_reached is False
    assert "would be 2.50 times as fast" in speed.why
    assert "the bf16 product is 2.00 times" in speed.why


@pytest.mark.parametrize(("peak", "is_told"), [(400e9, False), (1200e9, True)])
def test_a_miss_that_the_ceiling_does_not_bound_is_put_down_to_the_rest(peak: float, is_told: bool) -> None:
    plain = {"images_per_second": 32.0, "flops_per_image": 5e9, "flops_per_second": 160e9}
    results = {"plain loop, 64": [plain], "cifar-lab, 64": [{**plain, "images_per_second": 80.0}],
               "ceilings": [{"bf16": peak, "fp32": 200e9, "fastest": peak}]}  # fmt: skip
    speed, _ = training.goals(Measured(results, {}), 64)
    assert (training.BESIDES in speed.why) is is_told


def test_a_difference_within_that_of_the_same_program_is_called_chance() -> None:
    assert apart(Spread((0.200, 0.214, 0.205))) == "epochs without it differ by up to 7.00 % among themselves"
    assert apart(Absent("it failed")) == ""


def test_a_cell_that_diverged_has_no_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / ("f" * 64)
    folder.mkdir(parents=True)
    metrics = {"test/acc": 0.5, "memory/peak_mib": 700.0, "seconds": 30.0}
    (folder / "result.json").write_text(json.dumps({"status": "finished", "metrics": metrics}))
    assert only_cell("", tmp_path) == {"accuracy": 50.0, "training_seconds": 30.0}
    (folder / "result.json").write_text(json.dumps({"status": "diverged", "metrics": {}}))
    with pytest.raises(ValueError, match="diverged"):
        only_cell("", tmp_path)
