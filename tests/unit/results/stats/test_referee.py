"""Numbers made elsewhere get the intervals that the lab gives its own, and nothing is decided by survivors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cifar_lab.results.stats.moderated import moderated_intervals
from cifar_lab.results.stats.referee import judge_measurements as judge
from cifar_lab.results.stats.referee import share_of_look

BASE = {"0": 95.0, "1": 95.2, "2": 94.9, "3": 95.1}


def shifted(by: float, wobble: float = 0.02, seeds: str = "0123") -> dict[str, float | None]:
    return {seed: BASE[seed] + by + wobble * (-1) ** int(seed) * (1 + int(seed) / 3) for seed in seeds}


def by_name(found: list) -> dict:
    return {each.variant: each for each in found}


def test_two_variants_that_share_seeds_get_students_paired_interval() -> None:
    own = shifted(0.5)
    found = by_name(judge({"a": BASE, "b": own}, "a", 0.2))["b"]
    expected = stats.ttest_rel(list(own.values()), list(BASE.values())).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert (found.method, found.pairs, found.verdict) == ("paired", 4, "better")


def test_several_variants_get_moderated_intervals() -> None:
    values = {"a": BASE, "b": shifted(0.5), "c": shifted(0.0, 0.3)}
    found = by_name(judge(values, "a", 0.2))
    differences = {name: [values[name][seed] - BASE[seed] for seed in BASE] for name in ("b", "c")}
    expected = moderated_intervals(differences)
    for name in ("b", "c"):
        assert found[name].method == "moderated"
        assert found[name].interval == pytest.approx(expected[name].interval)


def test_variants_without_a_seed_in_common_get_welchs_interval_at_sidaks_level() -> None:
    other = {f"x{seed}": value for seed, value in shifted(1.0, 0.1).items()}
    found = by_name(judge({"a": BASE, "b": other, "c": shifted(0.0)}, "a", 0.2))
    expected = stats.ttest_ind(list(other.values()), list(BASE.values()), equal_var=False).confidence_interval(
        0.95**0.5
    )
    assert (found["b"].method, found["b"].pairs) == ("unpaired", 0)
    assert found["b"].interval == pytest.approx((expected.low, expected.high))
    assert found["c"].method == "paired"  # not moderated: not all differences are paired


def test_the_order_of_seeds_in_the_file_does_not_matter() -> None:
    own = shifted(0.5)
    turned = dict(reversed(own.items()))
    assert by_name(judge({"a": BASE, "b": own}, "a", 0.2))["b"].interval == pytest.approx(
        by_name(judge({"a": BASE, "b": turned}, "a", 0.2))["b"].interval
    )


def test_where_lower_is_better_verdicts_turn_around_and_differences_do_not() -> None:
    found = by_name(judge({"a": BASE, "b": shifted(0.5)}, "a", 0.2, lower_is_better=True))["b"]
    assert (found.verdict, found.difference) == ("worse", pytest.approx(0.5, abs=0.05))


@pytest.mark.parametrize("loser", ["a", "b"])
def test_survivors_decide_nothing(loser: str) -> None:
    values = {"a": {**BASE, "9": 95.0}, "b": {**shifted(0.5), "9": 95.4}}
    values[loser]["9"] = None
    found = by_name(judge(values, "a", 0.2))["b"]
    assert (found.verdict, found.reason) == ("undecided", "better without 1 that came to no number")


@pytest.mark.parametrize(
    ("other", "reason"),
    [({"0": 95.5}, "one seed: no deviation, no interval"), ({"x": 95.5}, "no seed in common, and one seed"),
     ({"0": None, "1": None}, "no number")],
)  # fmt: skip
def test_what_cannot_be_judged_says_why(other: dict[str, float | None], reason: str) -> None:
    found = by_name(judge({"a": BASE, "b": other}, "a", 0.2))["b"]
    assert (found.interval, found.verdict) == (None, None)
    assert str(found.reason).startswith(reason)


def test_a_lone_or_unknown_control_is_refused() -> None:
    for values, control in (({"a": BASE}, "a"), ({"a": BASE, "b": BASE}, "c")):
        with pytest.raises(ValueError, match="control"):
            judge(values, control, 0.2)


def test_the_shares_of_all_looks_add_up_to_the_allowed_error() -> None:
    shares = [share_of_look(number) for number in range(1, 10_000)]
    assert shares[:3] == [1 / 2, 1 / 6, 1 / 12]
    assert 0.999 < sum(shares) < 1


@pytest.mark.slow
def test_looking_at_a_ledger_errs_in_no_more_than_5_percent_of_studies() -> None:
    random, studies, erred = np.random.default_rng(0), 2000, 0
    for _ in range(studies):
        draws = random.standard_normal((2, 12))
        looks = ((1, 3), (2, 6), (3, 9), (4, 12))  # a look after each three seeds
        for look, n in looks:
            values = {
                name: dict(zip(map(str, range(n)), row[:n], strict=True)) for name, row in zip("ab", draws, strict=True)
            }
            confidence = 1 - 0.05 * share_of_look(look)
            if by_name(judge(values, "a", 1e-9, confidence=confidence))["b"].verdict != "undecided":
                erred += 1
                break
    assert erred / studies < 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5


@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e9])
def test_in_any_unit_rounding_is_no_variance_and_intervals_scale(unit: float) -> None:
    base = {"0": 0.1, "1": 0.2, "2": 0.4}
    same = {seed: unit * (value + 0.1) for seed, value in base.items()}
    wide = {seed: unit * (value + 0.3 * int(seed)) for seed, value in base.items()}
    control = {seed: unit * value for seed, value in base.items()}
    found = by_name(judge({"a": control, "b": same, "c": wide}, "a", 0.01 * unit))
    assert (found["b"].interval, found["b"].verdict) == (None, None)
    expected = stats.ttest_rel(list(wide.values()), list(control.values())).confidence_interval(0.95**0.5)
    assert found["c"].interval == pytest.approx((expected.low, expected.high), rel=1e-9, abs=0)
