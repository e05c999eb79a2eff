"""Claims of every relation and metric on studies with missing, failed, diverged, tied, single or damaged cells.

Each claim is supported where all cells are whole; the table says what it may be called where they are not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from made import records
from made.run_records import Runs

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import LESS_IS_BETTER, METRICS, Claim
from cifar_lab.results.stats.claims import ClaimSide, judge_accuracy, judge_difference
from cifar_lab.results.stats.decision import CHANCE
from cifar_lab.results.verify import JudgedClaim, judge_claims
from cifar_lab.store.invocation import MODERATED, STUDENT

SE_RATIO = registry.discover().find("se_ratio")
SEEDS = range(5)
KEYS = {
    "accuracy": "test/peak_acc", "convergence": "test/auc", "early convergence": "test/early_acc", "gap": "gap",
    "oscillation": "test/oscillation",
}  # fmt: skip
WOBBLE = (0.0, 0.0004, -0.0004, 0.0002, -0.0002)
RELATIONS: Mapping[str, dict[str, Any]] = {
    "better": {"lead": 0.02},
    "better by a size": {"lead": 0.02, "size": 2.0},
    "alike": {"lead": 0.0},
    "not better": {"lead": 0.0},
    "reaches": {"lead": 0.0, "accuracy": 90.0},
}
CASES = [(relation, metric) for relation in RELATIONS for metric in METRICS
         if relation != "reaches" or metric == "accuracy"]  # fmt: skip
AS_CLAIMED: dict[str, Any] = {
    "scale": "writeup", "protocol": "writeup", "overrides": {"train.protocol": "writeup"}, "margin": 0.002,
}  # fmt: skip

Ends = dict[tuple[str, int], float | str | None]
"""End of each cell, by variant and seed: the metric, `failed` or `diverged`; None: never begun."""
Change = Callable[[Ends], Ends]


def whole(relation: str, metric: str) -> Ends:
    """Return a study in which the claim holds: `r16` is ahead of `r4` by the lead, in the direction of the metric."""
    lead = RELATIONS[relation]["lead"] * (-1 if metric in LESS_IS_BETTER else 1)
    r16: Ends = {("r16", seed): 0.9 + lead + WOBBLE[seed] for seed in SEEDS}
    return r16 | {("r4", seed): 0.9 + WOBBLE[-1 - seed] for seed in SEEDS}


def claim(relation: str, metric: Any) -> Claim:
    fields = {name: value for name, value in RELATIONS[relation].items() if name != "lead"}
    word: Any = "better" if relation == "better by a size" else relation
    worse = None if relation == "reaches" else "r4"
    return Claim(quote="so", source="a paper", better="r16", worse=worse, relation=word, metric=metric, **fields)


def judged(runs: Runs, ends: Ends, relation: str, metric: str, design: str = STUDENT) -> JudgedClaim:
    """Write the cells as they ended, and judge the claim."""
    for (variant, seed), end in ends.items():
        asked = runs.cell(variant, seed)
        if end == "failed":
            records.fail(runs.record(asked, protocol="writeup"), "out of memory")
        elif isinstance(end, str):
            runs.end(asked, 0.0, status="diverged", protocol="writeup")
        elif end is not None:
            runs.end(asked, 0.5, protocol="writeup", **{KEYS[metric]: end})
    runs.ask([runs.cell(*name) for name in ends], **AS_CLAIMED, design=design)
    study = SE_RATIO.model_copy(update={"claims": (claim(relation, metric),)})
    return judge_claims(runs.folder, study)[0]


def ended(variant: str, how: str | None, *seeds: int) -> Change:
    """Return a change of a study: these seeds of a variant ended in another way."""
    return lambda ends: {**ends, **{(variant, seed): how for seed in seeds}}


def single_seed(ends: Ends) -> Ends:
    return {name: end for name, end in ends.items() if name[1] == 0}


def no_common_seed(ends: Ends) -> Ends:
    return {name: end for name, end in ends.items() if (name[0] == "r16") == (name[1] < 2)}


def tied(ends: Ends) -> Ends:
    return {name: ends[name[0], 0] for name in ends}


UNMEASURED, OPEN = {"not measured"}, {"inconclusive"}
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "r16 was never begun": (ended("r16", None, *SEEDS), UNMEASURED),
    "r16 failed": (ended("r16", "failed", *SEEDS), UNMEASURED),
    "one seed of r16 is left": (ended("r16", None, 1, 2, 3, 4), OPEN),
    "one seed of r16 is left, others failed": (ended("r16", "failed", 1, 2, 3, 4), OPEN),
    "one seed": (single_seed, OPEN),
    "tied": (tied, OPEN),
    "r16 diverged": (ended("r16", "diverged", *SEEDS), {"refuted", "not measured"}),
    "r16 diverged in most seeds": (ended("r16", "diverged", 2, 3, 4), OPEN),
    "r16 diverged in one seed": (ended("r16", "diverged", 4), OPEN),
}
"""Change of the study, and the statuses that a claim may have after it, whatever its relation and metric."""
OF_TWO: dict[str, tuple[Change, set[str]]] = {
    "r4 was never begun": (ended("r4", None, *SEEDS), UNMEASURED),
    "r4 failed": (ended("r4", "failed", *SEEDS), UNMEASURED),
    "one seed of r4 is left": (ended("r4", None, 1, 2, 3, 4), OPEN),
    "no common seed": (no_common_seed, OPEN),
    "both diverged": (lambda ends: dict.fromkeys(ends, "diverged"), UNMEASURED),
}
"""The same for claims about two variants."""


@pytest.mark.parametrize(("relation", "metric"), CASES)
@pytest.mark.parametrize("design", [STUDENT, MODERATED])
def test_with_whole_cells_every_claim_of_the_table_is_supported(
    runs: Runs, relation: str, metric: str, design: str
) -> None:
    assert judged(runs, whole(relation, metric), relation, metric, design).status == "supported"


@pytest.mark.parametrize(("relation", "metric"), CASES)
@pytest.mark.parametrize("change", CHANGES)
def test_cells_that_say_nothing_support_nothing(runs: Runs, relation: str, metric: str, change: str) -> None:
    edit, statuses = CHANGES[change]
    found = judged(runs, edit(whole(relation, metric)), relation, metric)
    assert found.status in statuses, found.judgement.words
    assert found.judgement.why, "the reason is said"


@pytest.mark.parametrize(("relation", "metric"), [case for case in CASES if case[0] != "reaches"])
@pytest.mark.parametrize("change", OF_TWO)
def test_cells_of_the_other_variant_that_say_nothing_support_nothing(
    runs: Runs, relation: str, metric: str, change: str
) -> None:
    edit, statuses = OF_TWO[change]
    found = judged(runs, edit(whole(relation, metric)), relation, metric)
    assert found.status in statuses, found.judgement.words


@pytest.mark.parametrize(("relation", "metric"), [case for case in CASES if case[0] != "reaches"])
def test_that_the_other_variant_diverged_is_a_result_for_accuracies_only(
    runs: Runs, relation: str, metric: str
) -> None:
    found = judged(runs, ended("r4", "diverged", *SEEDS)(whole(relation, metric)), relation, metric)
    if metric in LESS_IS_BETTER:
        assert found.status == "not measured", "a training that diverged has no gap and no oscillation"
        return
    expected = {"better": "supported", "better by a size": "inconclusive", "alike": "refuted"}
    assert found.status == expected.get(relation, "supported")


@pytest.mark.parametrize(("relation", "metric"), [case for case in CASES if case[0] != "reaches"])
def test_one_seed_of_the_other_variant_that_diverged_supports_at_most_what_guessing_would(
    runs: Runs, relation: str, metric: str
) -> None:
    found = judged(runs, ended("r4", "diverged", 4)(whole(relation, metric)), relation, metric)
    agrees = relation in {"better", "not better"} and metric not in LESS_IS_BETTER
    assert found.status == ("supported" if agrees else "inconclusive"), found.judgement.words


@pytest.mark.parametrize(("relation", "metric"), CASES)
def test_missing_seeds_of_a_decided_claim_are_named(runs: Runs, relation: str, metric: str) -> None:
    found = judged(runs, ended("r16", None, 4)(whole(relation, metric)), relation, metric)
    assert found.status == "supported"
    assert "r16: 1 missing of 5 seeds" in found.judgement.why


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["r16", "r4"])
@pytest.mark.parametrize(("relation", "metric"), CASES)
def test_a_metric_that_is_not_a_number_decides_nothing(relation: str, metric: str, side: str, bad: float) -> None:
    if relation == "reaches" and side == "r4":
        side = "r16"
    ends: Any = {**whole(relation, metric), (side, 2): bad}
    sides = [
        ClaimSide(
            name=name,
            values={seed: ends[name, seed] for seed in SEEDS},
            states={"finished": len(SEEDS)},
        )
        for name in ("r16", "r4")
    ]
    made = claim(relation, metric)
    if relation == "reaches":
        found = judge_accuracy(sides[0], accuracy=0.9, tolerance=0.005)
    else:
        found = judge_difference(
            made.relation, *sides, margin=0.002, level=0.95,  # type: ignore[arg-type]
            size=made.size / 100 if made.size is not None else None, tolerance=0.005,
            lower_is_better=metric in LESS_IS_BETTER, chance=None if metric in LESS_IS_BETTER else CHANCE,
        )  # fmt: skip
    assert found.status == "inconclusive"
    assert f"{side}: 1 not a number of 5 seeds" in found.why
    assert found.mean is None or math.isfinite(found.mean)


@pytest.mark.parametrize("relation", ["better", "alike", "not better"])
def test_a_simultaneous_interval_that_is_not_a_number_decides_nothing(relation: Any) -> None:
    sides = [ClaimSide(name=name, values={0: 0.9, 1: 0.91}, states={"finished": 2}) for name in ("a", "b")]
    found = judge_difference(relation, *sides, margin=0.5, level=0.95, interval=(math.nan, math.nan))
    assert found.status == "inconclusive"


@pytest.mark.parametrize(("relation", "metric"), CASES)
def test_a_result_with_a_metric_that_is_not_a_number_is_damaged(runs: Runs, relation: str, metric: str) -> None:
    judged(runs, whole(relation, metric), relation, metric)
    for seed in SEEDS:
        path = runs.folder / runs.cell("r16", seed).fingerprint / "result.json"
        text, edited = path.read_text(), re.compile(rf'"{KEYS[metric]}": [0-9.e-]+')
        assert edited.search(text)
        path.write_text(edited.sub(f'"{KEYS[metric]}": NaN', text))
    study = SE_RATIO.model_copy(update={"claims": (claim(relation, metric),)})
    found = judge_claims(runs.folder, study)[0]
    assert (found.status, len(found.damage)) == ("not measured", len(SEEDS))
