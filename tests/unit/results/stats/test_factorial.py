"""The contrasts of a 2 × 2 study against least squares on its design matrix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.factorial import CONTRASTS, estimate_effects, moderate_effects
from cifar_lab.results.stats.moderated import PRIOR, critical_value
from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.stats.paired import NO_PAIR, NO_VARIANCE, ONE_PAIR, Values

pytestmark = pytest.mark.filterwarnings("error")
NEITHER, FIRST, SECOND, BOTH = (0, 0), (1, 0), (0, 1), (1, 1)


def _study(seeds: int) -> np.ndarray:
    """Accuracies, (neither first second both, seeds), that share what a seed brings."""
    rng = np.random.default_rng(7)
    return np.array([[0.90], [0.92], [0.89], [0.95]]) + rng.normal(0, 0.01, seeds) + rng.normal(0, 0.01, (4, seeds))


def _cells(study: np.ndarray) -> list[Values]:
    return [dict(enumerate(row.tolist())) for row in study]


def test_the_contrasts_are_those_of_least_squares() -> None:
    """A column a seed, and each factor coded -1/2 and 1/2, so that a main effect is an average over the other."""
    study = _study(6)
    coded = np.array([NEITHER, FIRST, SECOND, BOTH]) - 0.5
    design = np.zeros((24, 9))
    for cell, (one, two) in enumerate(coded):
        for seed in range(6):
            design[6 * cell + seed, [seed, 6, 7, 8]] = 1, one, two, one * two
    fitted = np.linalg.lstsq(design, study.ravel(), rcond=None)[0]
    found = estimate_effects(_cells(study))
    assert [found.first.mean, found.second.mean, found.interaction.mean] == pytest.approx(
        fitted[6:].tolist(), abs=1e-12
    )


def test_by_hand() -> None:
    found = estimate_effects([{0: 0.5}, {0: 0.625}, {0: 0.25}, {0: 0.875}])
    # The first brings 0.125 without the second and 0.625 with it; the second -0.25 without the first, 0.25 with it.
    assert (found.first.mean, found.second.mean, found.interaction.mean) == (0.375, 0.0, 0.5)


def test_the_intervals_hold_together() -> None:
    study = _study(5)
    found = estimate_effects(_cells(study))
    level = per_comparison(0.95, 3)
    neither, first, second, both = study
    for effect, contrast in (
        (found.first, ((first - neither) + (both - second)) / 2),
        (found.second, ((second - neither) + (both - first)) / 2),
        (found.interaction, (both - second) - (first - neither)),
    ):
        scipys = stats.ttest_1samp(contrast, 0).confidence_interval(level)
        assert effect.level == level
        assert effect.interval == pytest.approx(tuple(scipys), abs=1e-10)


def test_factors_that_only_add_up_do_not_interact() -> None:
    found = estimate_effects([{s: 0.5 + s / 8 + add for s in range(4)} for add in (0.0, 0.125, 0.0625, 0.1875)])
    assert (found.first.mean, found.second.mean, found.interaction.mean) == (0.125, 0.0625, 0.0)
    assert found.interaction.reason == NO_VARIANCE


def test_a_seed_counts_where_all_four_have_it() -> None:
    cells = _cells(_study(6))
    three = [{s: v for s, v in cell.items() if s != dropped} for cell, dropped in zip(cells, (0, 1, 2, 2), strict=True)]
    assert list(estimate_effects(three).first.differences) == [3, 4, 5]


@pytest.mark.parametrize(("seeds", "reason"), [(0, NO_PAIR), (1, ONE_PAIR)])
def test_too_few_seeds_say_so(seeds: int, reason: str) -> None:
    found = estimate_effects(_cells(_study(seeds)))
    assert {found.first.reason, found.second.reason, found.interaction.reason} == {reason}
    assert found.interaction.interval is None


def test_a_contrast_is_not_a_pair_of_samples() -> None:
    found = estimate_effects(_cells(_study(5))).first
    assert (found.welch, found.correlation) == (None, None)


def test_at_every_look_of_a_rule_the_three_hold_together() -> None:
    """Null studies, looked at three times: as many as allowed show an effect at some look, and no more."""
    looks, studies = (5, 8, 12), 4000
    levels = group_sequential.levels(looks, 1 - per_comparison(0.95, CONTRASTS))
    cells = np.random.default_rng(1).standard_normal((4, studies, looks[-1]))
    neither, first, second, both = cells
    contrasts = np.stack(
        [first - neither + both - second, second - neither + both - first, both - second - first + neither]
    )
    fooled, fooled_at_95 = np.zeros(studies, dtype=bool), np.zeros(studies, dtype=bool)
    for n, level in zip(looks, levels, strict=True):
        t = np.abs(stats.ttest_1samp(contrasts[:, :, :n], 0, axis=2).statistic)
        fooled |= (t > stats.t.isf((1 - level) / 2, n - 1)).any(axis=0)
        fooled_at_95 |= (t > stats.t.isf((1 - per_comparison(0.95, 3)) / 2, n - 1)).any(axis=0)
    assert 0.035 < fooled.mean() < 0.061  # 0.05 ± 3.2 standard errors; a little less for their correlation
    assert fooled_at_95.mean() > 0.08


def test_moderated_intervals_share_one_variance_with_the_interaction_in_halves() -> None:
    found = estimate_effects(_cells(_study(3)))
    shared = moderate_effects(found)
    units = {"first": 1.0, "second": 1.0, "interaction": 0.5}
    own = {name: unit**2 * np.var(list(getattr(found, name).differences.values()), ddof=1)
           for name, unit in units.items()}  # fmt: skip
    for name, unit in units.items():
        variance = (2 * own[name] + PRIOR * np.mean(list(own.values()))) / (2 + PRIOR)
        half = critical_value(3, 3) * np.sqrt(variance / 3) / unit
        mean = getattr(found, name).mean
        assert getattr(shared, name).interval == pytest.approx((mean - half, mean + half))
        assert getattr(shared, name).mean == mean


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_does_not_vary_or_has_one_seed_is_not_moderated(seeds: int) -> None:
    same = [dict.fromkeys(range(seeds), value) for value in (0.5, 0.6, 0.7, 0.9)]
    found = estimate_effects(same)
    assert moderate_effects(found) == found


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("deviations", [(1, 1, 1, 1), (3, 1, 1, 1)])
def test_moderated_intervals_of_effects_hold_together(seeds: int, deviations: tuple[int, ...]) -> None:
    random = np.random.default_rng([seeds, *deviations])
    studies = random.normal(0, 0.01, (400, 4, seeds)) * np.array(deviations)[:, None]
    held = 0
    for study in studies:
        found = moderate_effects(estimate_effects(_cells(study)))
        each = (found.first.interval, found.second.interval, found.interaction.interval)
        held += all(interval is not None and interval[0] <= 0 <= interval[1] for interval in each)
    assert held / len(studies) >= 0.95 - 2.5 * np.sqrt(0.95 * 0.05 / len(studies))
