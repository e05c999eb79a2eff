"""Results that sections compute from their numbers, other than ratios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made import records
from sections import profiled, training
from sections.accuracy import _of_precision, equal
from sections.lab import only_cell
from sections.memory import where_two_hold
from sections.planning import growth
from sections.profiled import paying
from sections.tracking import apart
from sections.workers import cells_an_hour
from side_by_side.spread import Absent, Spread
from side_by_side.turns import Measured


def test_a_share_of_the_ceiling_bounds_what_can_be_won() -> None:
    rates = {"plain loop, 64": 32.0, "cifar-lab, 64": 80.0, "plain loop, 16": 300.0, "cifar-lab, 16": 720.0}
    results = {
        name: [{"images_per_second": rate, "flops_per_image": 5e9, "flops_per_second": 5e9 * rate}]
        for name, rate in rates.items()
    }
    results["ceilings"] = [{"bf16": 400e9, "fp32": 200e9, "fastest": 400e9}]
    first, deep, narrow = training._notes(Measured(results, {}))
    assert "2.00 times as fast as the fp32 one, where the goals were set 4 times" in first
    assert "would be 2.50 times as fast" in deep
    assert "would be 0.267 times as fast" in narrow
    speed, _ = training._goals(Measured(results, {}), 64)
    assert speed.is_reached is False
    assert "would be 2.50 times as fast" in speed.why
    assert "the bf16 product is 2.00 times" in speed.why


@pytest.mark.parametrize(("peak", "is_told"), [(400e9, False), (1200e9, True)])
def test_a_miss_that_the_ceiling_does_not_bound_is_put_down_to_the_rest(peak: float, is_told: bool) -> None:
    plain = {"images_per_second": 32.0, "flops_per_image": 5e9, "flops_per_second": 160e9}
    results = {"plain loop, 64": [plain], "cifar-lab, 64": [{**plain, "images_per_second": 80.0}],
               "ceilings": [{"bf16": peak, "fp32": 200e9, "fastest": peak}]}  # fmt: skip
    speed, _ = training._goals(Measured(results, {}), 64)
    assert (training.BESIDES in speed.why) is is_told


@pytest.mark.parametrize("holders", [(2.0, 0.0), (1.0,), (3.0, 2.0)])
def test_memory_without_two_holders_of_the_images_tells_nothing(holders: tuple[float, ...]) -> None:
    reached = Spread((0.1,))
    assert where_two_hold([Spread((2.0, 2.0)), Spread((2.0,))], reached) == reached
    assert isinstance(where_two_hold([Spread((2.0,)), Spread(holders)], reached), Absent)
    assert isinstance(where_two_hold([Absent("gone"), Spread((2.0,))], reached), Absent)


@pytest.mark.parametrize(("power", "wanted"), [(1, 1.0), (2, 3.0)])
def test_growth_tells_a_line_from_a_square(power: int, wanted: float) -> None:
    found = growth(*(Spread((3.0 + (cells / 500) ** power,)) for cells in (0, 500, 1000)))
    assert isinstance(found, Spread)
    assert found.median == pytest.approx(wanted)


def test_growth_is_absent_where_more_cells_took_no_more_time() -> None:
    assert isinstance(growth(Spread((1.0,)), Spread((0.9,)), Spread((2.0,))), Absent)
    assert growth(Absent("it failed"), Spread((1.0,)), Spread((2.0,))) == Absent("it failed")


def test_accuracies_are_equal_within_half_of_welch_s_interval() -> None:
    near = equal(Spread((50.0, 52.0, 51.0)), Spread((51.0, 50.5, 52.0)))
    far = equal(Spread((50.0, 52.0, 51.0)), Spread((70.0, 71.0, 69.0)))
    assert near.is_reached is True
    assert far.is_reached is False
    assert far.measured == Spread((19.0,))
    assert 0 < far.limit < 4


def test_a_difference_within_that_of_the_same_program_is_called_chance() -> None:
    assert apart(Spread((0.200, 0.214, 0.205))) == "epochs without it differ by up to 7.00 % among themselves"
    assert apart(Absent("it failed")) == ""


def test_compiling_has_paid_once_its_steps_won_what_it_took() -> None:
    said = paying(Spread((0.160, 0.170, 0.150)), Spread((0.150,)), Spread((60.15,)))
    assert said == (
        "compiling takes 60.0 s and wins 10.0 ms a step (6.25 %): it has paid after 6,000 steps, which are 17.0 epochs "
        "of CIFAR-10"
    )
    assert paying(Spread((0.15,)), Spread((0.16,)), Spread((60.16,))).endswith("wins nothing: it never pays")
    assert (
        paying(Spread((0.15,)), Absent("no compiler"), Absent("no compiler")) == "compiling: not measured: no compiler"
    )


def test_what_products_would_take_at_the_ceiling_stands_beside_what_they_take() -> None:
    step = {"step_seconds": 0.160, "flops_per_image": 320e6, "first_seconds": 0.2}
    results = {
        "profiled steps": [{"convolutions, backward": 80.0, "convolutions, forward": 35.0, "batch norm": 26.0,
                            "wall_seconds": 9.0}],
        "steps": [step], "compiled steps": [step | {"first_seconds": 60.0}], "ceilings": [{"bf16": 409.6e9}],
    }  # fmt: skip
    found = Measured(results, {})
    assert profiled._table(found).rows[0].measured == Spread((141.0,))
    assert profiled._left(found).rows[-1].measured == Spread((100.0,))
    assert next(profiled._notes(found)).startswith("products: 115 ms in the profile, 100 ms at the ceiling")


def test_one_seed_tells_nothing_of_chance() -> None:
    assert equal(Spread((50.0,)), Spread((50.0,))).is_reached is None
    assert equal(Absent("it failed"), Spread((50.0, 51.0))).measured == Absent("it failed")


def test_what_bf16_costs_is_taken_seed_by_seed() -> None:
    (said,) = _of_precision(Spread((50.0, 60.0, 70.0)), Spread((50.5, 60.4, 70.6)))
    assert "-0.50 points" in said
    assert "over 3 pairs [-0.75, -0.25]" in said  # 0.5 ± t(0.975, 2) · 0.1 / √3
    assert list(_of_precision(Spread((50.0,)), Spread((50.5,)))) == []
    assert list(_of_precision(Absent("it failed"), Spread((50.5,)))) == []


def test_a_cell_that_diverged_has_no_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / ("f" * 64)
    folder.mkdir(parents=True)
    metrics = {"test/acc": 0.5, "memory/peak_mib": 700.0, "seconds": 30.0}
    (folder / "result.json").write_text(json.dumps({"status": "finished", "metrics": metrics}))
    assert only_cell("", tmp_path) == {"accuracy": 50.0, "peak_mib": 700.0, "training_seconds": 30.0}
    (folder / "result.json").write_text(json.dumps({"status": "diverged", "metrics": {}}))
    with pytest.raises(ValueError, match="diverged"):
        only_cell("", tmp_path)


def test_cells_an_hour_count_from_the_note_to_the_last_result(tmp_path: Path) -> None:
    from cifar_lab.store.cell_record import CellRecord

    runs = tmp_path / "runs"
    cells = tuple(records.cell_ref(f"{seed}" * 64, "a", seed) for seed in (0, 1))
    invocation = records.invocation(*cells, id="20261124T080000.000-x", ablation="x", control="a", scale="smoke")
    invocation.write(runs)
    for cell, seconds in zip(cells, (10, 20), strict=True):
        record = CellRecord(runs / cell.fingerprint)
        records.end(record, time=invocation.time + 1000 * seconds)
    assert cells_an_hour("", tmp_path) == {"cells_an_hour": 360.0}
    (runs / cells[0].fingerprint / "result.json").unlink()
    with pytest.raises(ValueError, match="1 cells came to no end"):
        cells_an_hour("", tmp_path)
