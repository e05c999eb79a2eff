"""Coverage and error rates of the intervals in simulated studies from `benchmarks/simulation.py`."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cifar_lab.results.stats.group_sequential import looks

FILE = Path(__file__).parents[4] / "benchmarks" / "simulation.py"
QUICK, MANY = 3_000, 50_000
ALLOWED = {QUICK: 4, MANY: 3}
"""Standard errors; the quick tests are run every day, and ask a hundred worlds at once."""


def _imported() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_simulation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


simulation = _imported()
coverage = functools.cache(simulation.coverage)
ERROR = 1 - simulation.CONFIDENCE
WORLDS = [
    simulation.World(seeds=seeds, variants=variants, noise=noise, correlation=correlation)
    for noise, correlation, seeds, variants in itertools.product(
        simulation.NOISES, simulation.CORRELATIONS, simulation.SEEDS, simulation.VARIANTS
    )
]
STUDIES = [pytest.param(QUICK, id="quick"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]


def _off(share: float, studies: int) -> float:
    """Return the tolerance for the Monte Carlo error of a share of so many studies."""
    return float(ALLOWED[studies] / 3 * simulation.monte_carlo(share, studies))


@pytest.mark.parametrize("studies", STUDIES)
def test_the_intervals_of_a_table_hold_together_as_often_as_they_say(studies: int) -> None:
    for world in WORLDS:
        found, off = coverage(world, studies), _off(0.95, studies)
        if world.noise == "equal":
            assert 0.94 - off < found.together < 0.96 + off, world
        assert found.together > 0.945 - off, world
        alone = simulation.per_comparison(0.95, world.variants)
        assert abs(found.each - alone) < _off(alone, studies), world


@pytest.mark.parametrize("studies", STUDIES)
def test_a_table_in_which_nothing_differs_says_better_or_worse_in_five_of_a_hundred_studies_at_most(
    studies: int,
) -> None:
    for world in WORLDS:
        assert coverage(world, studies).fooled <= ERROR + _off(ERROR, studies), world


@pytest.mark.parametrize("studies", STUDIES)
def test_variants_that_are_off_by_the_margin_are_called_equivalent_in_half_as_many(studies: int) -> None:
    for world in WORLDS:
        assert coverage(world, studies).equated <= ERROR / 2 + _off(ERROR / 2, studies), world


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize("variants", [1, 4])
@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0])
def test_power_is_as_predicted(effect: float, variants: int, studies: int) -> None:
    for seeds in simulation.SEEDS:
        found = simulation.power_of(seeds, variants, effect, studies)
        assert abs(found.measured - found.predicted) <= _off(found.predicted, studies) + 1e-6


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize(
    "effects",
    [
        (0.0,),
        (0.0, 2.0),
        pytest.param((0.0,) * 4, marks=pytest.mark.slow),
        pytest.param((0.0, 0.5, 2.0, 5.0), marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("most", [12, pytest.param(20, marks=pytest.mark.slow)])
def test_looking_early_says_what_is_not_true_no_more_often(most: int, effects: tuple[float, ...], studies: int) -> None:
    for margin in (0.0, 0.5, 1.0):
        found = simulation.sequential(looks(most), effects, margin, studies)
        assert found.wrong <= ERROR + _off(ERROR, studies)


def test_looking_early_saves_most_where_most_differs() -> None:
    none, some, all_of_it = (
        simulation.sequential(looks(20), effects, 0.0, QUICK).saved for effects in ((0.0,), (0.5,), (5.0,))
    )
    assert none < 0.1 < some < 0.2
    assert all_of_it == pytest.approx(1 - 5 / 20, abs=0.001)


@pytest.mark.slow
def test_levels_of_textbooks_would_err_more_often() -> None:
    once, textbooks, ours = (simulation.sequential(looks(20), (0.0,), 0.0, MANY, b).wrong for b in simulation.DESIGNS)
    assert once > 2 * ERROR
    assert once > textbooks > ERROR + _off(ERROR, MANY)
    assert textbooks > ours


@pytest.mark.parametrize("noise", simulation.NOISES)
@pytest.mark.parametrize("correlation", simulation.CORRELATIONS)
def test_what_is_computed_in_blocks_is_what_the_product_computes(noise: str, correlation: float) -> None:
    for seeds in simulation.SEEDS:
        world = simulation.World(seeds=seeds, variants=4, noise=noise, correlation=correlation)
        simulation.check(world, studies=10)


@pytest.mark.parametrize("noise", simulation.NOISES)
def test_simulated_accuracies_vary_and_go_together_as_asked(noise: str) -> None:
    world = simulation.World(seeds=5, variants=2, noise=noise, correlation=0.5)
    accuracies = world.draw(40_000, np.random.default_rng(1))
    by_cell = accuracies.transpose(1, 0, 2).reshape(3, -1)
    assert by_cell.std(axis=1) == pytest.approx(world.deviations(), rel=0.02)
    assert np.corrcoef(by_cell)[np.triu_indices(3, 1)] == pytest.approx(0.5, abs=0.02)
    paired = simulation.differences(accuracies).transpose(1, 0, 2).reshape(2, -1)
    assert paired.std(axis=1) == pytest.approx(world.units(), rel=0.02)


@pytest.mark.slow
def test_the_command_prints_its_tables() -> None:
    done = subprocess.run(
        [sys.executable, str(FILE), "--studies", "20"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert all(f"## {title}\n\n|" in done.stdout for title in simulation.TABLES)
    assert "nan" not in done.stdout


@pytest.mark.parametrize("studies", STUDIES)
def test_a_question_without_a_difference_is_decided_falsely_in_five_percent_of_studies_at_most(studies: int) -> None:
    """Simulate each shape of the families of the built-in claims in all worlds, with three to ten seeds."""
    shapes = {(len(family.pairs), family.kind): family for _, family in simulation.questions()}
    assert {kind for _, kind in shapes} == {"control", "any"}
    worlds = itertools.product(simulation.NOISES, simulation.CORRELATIONS, (3, 5, 10))
    for (noise, correlation, seeds), family in itertools.product(worlds, shapes.values()):
        world = simulation.World(seeds=seeds, noise=noise, correlation=correlation)
        wrong = simulation.question_error(family, world, studies)
        assert wrong < ERROR + _off(ERROR, studies), (family.question, world)


def test_intervals_of_a_question_are_those_of_the_product() -> None:
    for _, family in simulation.questions():
        if len(family.pairs) > 1:
            simulation.check_question(family)


def test_differences_that_each_hold_by_themselves_err_more_often_together() -> None:
    """Check that the simulation can fail: seven differences, each at 95 % by itself, err in far more than 5 %."""
    ladder = max((family for _, family in simulation.questions()), key=lambda family: len(family.pairs))
    world = simulation.World(seeds=5, variants=len(ladder.pairs))
    random = np.random.default_rng(1)
    low, high = simulation.intervals(simulation.differences(world.draw(QUICK, random)), 0.95)
    assert ((low > 0) | (high < 0)).any(1).mean() > 0.15
