"""Earlier cells of a control: which of them make a variance prior, and which do not."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import pytest
from made import records

from cifar_lab.results.control_history import control_prior
from cifar_lab.store.comparison_key import ComparisonKey
from cifar_lab.store.invocation import VariancePrior
from cifar_lab.store.invocation_index import read_index

VALUES = (0.90, 0.92, 0.91, 0.905, 0.915, 0.912)


def history(runs: Any, values: tuple[float, ...] = VALUES, first: int = 0, **changed: Any) -> None:
    """Ask for these cells of the control as `noise_floor` does, and end them."""
    cells = [runs.cell("control", first + seed) for seed in range(len(values))]
    for cell, value in zip(cells, values, strict=True):
        runs.end(cell, value)
    runs.ask(cells, **{"ablation": "noise_floor", "control": "control", **changed})


def prior(runs: Any, metric: str = "test/acc", **changed: Any) -> VariancePrior | None:
    """The prior of a study of another ablation in the same setting, whose control is the same recipe."""
    return control_prior(key(**changed), runs.cell("control", 0).recipe, metric, runs.folder)


def key(**changed: Any) -> ComparisonKey:
    return records.invocation(**changed).key


def test_the_variance_is_that_of_the_finished_cells_of_another_ablation(runs: Any) -> None:
    history(runs)
    found = prior(runs)
    assert found is not None
    assert found.variance == pytest.approx(statistics.variance(VALUES))
    assert found.fingerprints == tuple(runs.cell("control", seed).fingerprint for seed in range(6))
    assert (found.ablations, found.metric) == (("noise_floor",), "test/acc")


def test_four_cells_are_too_few_and_five_are_enough(runs: Any) -> None:
    history(runs, VALUES[:4])
    assert prior(runs) is None
    history(runs, VALUES[:1], first=4)
    found = prior(runs)
    assert found is not None
    assert len(found.fingerprints) == 5


@pytest.mark.parametrize("lost", ["missing", "failed", "diverged", "NaN", "damaged", "without the metric"])
def test_a_cell_without_a_value_does_not_count(lost: str, runs: Any) -> None:
    history(runs)
    cells = [runs.cell("control", seed) for seed in range(6, 8)]
    for cell in cells:
        if lost == "failed":
            records.fail(runs.record(cell))
        elif lost == "diverged":
            runs.end(cell, 0.1, status="diverged")
        elif lost == "NaN":
            path = runs.end(cell, 0.9).folder / "result.json"
            path.write_text(path.read_text().replace("0.9", "NaN"))
        elif lost == "damaged":
            (runs.end(cell, 0.9).folder / "result.json").write_text("{")
        elif lost == "without the metric":
            records.end(runs.record(cell), {"val/acc": 0.9})
    before = prior(runs)
    runs.ask(cells, ablation="noise_floor", control="control")
    assert prior(runs) == before
    assert before is not None
    assert len(before.fingerprints) == 6


def test_cells_that_do_not_vary_are_no_prior(runs: Any) -> None:
    history(runs, (0.9,) * 6)
    assert prior(runs) is None


@pytest.mark.parametrize(
    "changed",
    [{"baseline": "b" * 64}, {"scale": "writeup"}, {"data": records.SYNTHETIC}, {"overrides": {"train.epochs": 3}}],
    ids=lambda changed: next(iter(changed)),
)
def test_cells_of_another_setting_do_not_count(changed: dict[str, Any], runs: Any) -> None:
    history(runs)
    assert prior(runs, **changed) is None
    history(runs, **changed)
    assert prior(runs, **changed) is not None


def test_cells_of_another_recipe_do_not_count(runs: Any) -> None:
    history(runs)
    assert control_prior(key(), runs.cell("r4", 0).recipe, "test/acc", runs.folder) is None


def test_a_cell_that_several_ablations_asked_for_counts_once(runs: Any) -> None:
    history(runs)
    history(runs, ablation="se_ratio")
    found = prior(runs)
    assert found is not None
    assert len(found.fingerprints) == 6


def test_the_first_twenty_seeds_count(runs: Any) -> None:
    history(runs, tuple(0.9 + 0.001 * (seed % 5) for seed in range(23)))
    found = prior(runs)
    assert found is not None
    assert found.fingerprints == tuple(runs.cell("control", seed).fingerprint for seed in range(20))


def test_the_metric_is_the_one_that_the_study_compares_by(runs: Any) -> None:
    history(runs)
    assert prior(runs, "test/peak_acc") is None
    cells = [runs.cell("control", seed) for seed in range(5)]
    for cell, value in zip(cells, VALUES, strict=False):
        runs.end(cell, value, protocol="writeup")
    found = prior(runs, "test/peak_acc")
    assert found is not None
    assert found.variance == pytest.approx(statistics.variance(VALUES[:5]))


def test_an_empty_runs_folder_has_no_history(runs: Any) -> None:
    assert prior(runs) is None
    assert read_index(runs.folder).invocations == ()
    assert replace(key(), ablation="x") != key()
