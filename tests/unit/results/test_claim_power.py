"""Power of the claims of an ablation before training: the deviation that is used, and what is not computed."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from made.records import CIFAR10
from made.run_records import Runs

from cifar_lab.ablation import registry
from cifar_lab.config.scale import baseline_identity, find_scale
from cifar_lab.results.claim_power import (
    ADDED,
    ASSUMED_POINTS,
    FROM_SHORT,
    FROM_SMALL,
    FROM_THEORY,
    NOT_ASKED,
    ClaimPower,
    claim_powers,
)
from cifar_lab.results.claim_setting import Conditions
from cifar_lab.results.stats.claims import AS_CLAIMED_ONLY

BUILT_IN = registry.discover()
BASELINE = baseline_identity(BUILT_IN.find("se_ratio").baseline, find_scale("writeup"))
OVERRIDES = {"train.protocol": "writeup"}
NOISE = (0.951, 0.954, 0.950, 0.953, 0.9525)
SETTING: dict[str, Any] = {
    "scale": "writeup", "protocol": "writeup", "overrides": OVERRIDES, "baseline": BASELINE, "margin": 0.002,
}  # fmt: skip


def conditions(**changed: Any) -> Conditions:
    fields: dict[str, Any] = {
        "scale": "writeup", "protocol": "writeup", "data": "CIFAR-10", "is_cifar10": True, "overrides": OVERRIDES,
    }  # fmt: skip
    return Conditions(**{**fields, **changed})


def powers(runs: Runs, name: str = "se_ratio", *, seeds: int = 3, **more: Any) -> dict[str, ClaimPower]:
    asked = {"conditions": conditions(), "margin": 0.002, **more}
    return {
        each.claim.compares: each for each in claim_powers(BUILT_IN.find(name), seeds=seeds, runs=runs.folder, **asked)
    }


def noise(runs: Runs, **changed: Any) -> None:
    """Write the cells of `noise_floor`: five seeds of the baseline that `se_ratio` has, too."""
    cells = [runs.cell("control", seed) for seed in range(len(NOISE))]
    for asked, value in zip(cells, NOISE, strict=True):
        runs.end(asked, value, protocol="writeup")
    runs.ask(cells, ablation="noise_floor", control="control", **{**SETTING, **changed})


def test_without_stored_cells_the_deviation_is_assumed_and_its_source_is_said(runs: Runs) -> None:
    found = powers(runs)["r16 > none"]
    assert found.deviation == pytest.approx(0.0015 * math.sqrt(2))
    assert (found.source, found.method, found.difference) == (FROM_THEORY, "student", 0.002)
    assert found.words.startswith("16 % with 3 seeds at 0.20 points, ")
    for scale, source in (("small", FROM_SMALL), ("smoke", FROM_SHORT), ("small/5", FROM_SHORT)):
        assert powers(runs, conditions=conditions(scale=scale))["r16 > none"].source == source


@pytest.mark.parametrize("metric", ASSUMED_POINTS)
def test_the_assumed_deviations_grow_as_trainings_get_shorter(metric: Any) -> None:
    full, small, short = ASSUMED_POINTS[metric]
    assert 0 < full <= small <= short


def test_stored_cells_of_the_same_baseline_and_scale_give_the_deviation(runs: Runs) -> None:
    noise(runs)
    found = powers(runs)["r16 > none"]
    assert found.deviation == pytest.approx(statistics.stdev(NOISE) * math.sqrt(2))
    assert found.source == "5 stored cells of noise_floor"


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": "small"}, {"protocol": "holdout"}, {"overrides": {}}, {"baseline": "another/1"},
        {"data": CIFAR10.model_copy(update={"kind": "path"})},
    ],
)  # fmt: skip
def test_stored_cells_of_another_setting_do_not(runs: Runs, changed: dict[str, Any]) -> None:
    noise(runs, **changed)
    assert powers(runs)["r16 > none"].source == FROM_THEORY


def test_two_stored_cells_are_too_few(runs: Runs) -> None:
    cells = [runs.cell("control", seed) for seed in range(2)]
    for asked in cells:
        runs.end(asked, NOISE[asked.seed], protocol="writeup")
    runs.ask(cells, ablation="noise_floor", control="control", **SETTING)
    assert powers(runs)["r16 > none"].source == FROM_THEORY


def test_paired_cells_of_the_ablation_give_the_deviation_of_its_differences(runs: Runs) -> None:
    noise(runs)
    off = (0.001, -0.001, 0.0005, 0.0, 0.0005)
    runs.study(r16=NOISE, r4=tuple(value - 0.01 + by for value, by in zip(NOISE, off, strict=True)), **SETTING)
    found = powers(runs)["r16 > r4"]
    assert found.deviation == pytest.approx(statistics.stdev(off))
    assert found.source == "15 stored cells of noise_floor, se_ratio"


def test_a_claim_that_no_feasible_number_of_seeds_settles_is_called_so(runs: Runs) -> None:
    found = powers(runs, "writeup_ladder")
    assert not found["s7 > s6 by 0.02"].is_feasible
    assert "no feasible number of seeds settles it: more than 100 for 80 %" in found["s7 > s6 by 0.02"].words
    assert found["s2 > s1 by 4"].is_feasible
    assert found["s8 > s7 by 1.01"].method == "moderated"
    assert found["s8 reaches 97.08 %"].deviation == pytest.approx(0.0015), "of a cell"


def test_more_seeds_are_more_likely_to_settle_a_claim(runs: Runs) -> None:
    few, more = (powers(runs, "writeup_ladder", seeds=seeds) for seeds in (3, 10))
    for name, one in few.items():
        assert one.power is not None
        assert one.power <= (more[name].power or 0.0) + 1e-9
    assert all(each.power == 0 for each in powers(runs, "writeup_ladder", seeds=1).values())


def test_what_is_not_computed_says_why(runs: Runs) -> None:
    assert powers(runs, variants={"r16", "r4"})["r16 > none"].words == NOT_ASKED
    assert powers(runs, stopping=True)["r16 > none"].words == ADDED
    elsewhere = powers(runs, "writeup_ladder", conditions=conditions(protocol="holdout"))
    assert elsewhere["s8 reaches 97.08 %"].words == AS_CLAIMED_ONLY
    assert elsewhere["s7 > s6 by 0.02"].power is not None, "its direction is judged"


def test_every_built_in_claim_has_a_power_at_full_scale(runs: Runs) -> None:
    for ablation in BUILT_IN:
        for each in claim_powers(ablation, conditions(), seeds=3, margin=0.002, runs=runs.folder):
            assert 0 <= (each.power if each.power is not None else -1) <= 1
            assert each.as_dict()["words"]
