"""Differences of variants: simultaneous intervals, verdicts, and missing values with their reasons."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from typing import Any

import pytest
from made import records
from scipy import stats

from cifar_lab.report import table_notes
from cifar_lab.report.summary import comparison_sentence
from cifar_lab.results.compare import compare
from cifar_lab.results.comparison import Comparison, ComparisonRow
from cifar_lab.results.contrasts import NO_LOOK
from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.decision import decide_verdict
from cifar_lab.results.stats.factorial import estimate_effects, moderate_effects
from cifar_lab.results.stats.history_prior import history_critical_value, history_interval
from cifar_lab.results.stats.moderated import critical_value, moderated_intervals, moderated_seeds_needed
from cifar_lab.results.stats.paired import NO_VARIANCE, ONE_PAIR
from cifar_lab.results.stats.power import seeds_needed
from cifar_lab.store.invocation import StoppingRule, VariancePrior

CONTROL = (0.900, 0.905, 0.895, 0.902, 0.898)
NOISE = (0.001, -0.001, 0.0005, 0.0015, -0.002)


def shifted(by: float, noise: tuple[float, ...] = NOISE) -> tuple[float, ...]:
    return tuple(value + by + error for value, error in zip(CONTROL, noise, strict=True))


def ended(runs: Any, of: dict[str, tuple[float, ...]], diverged: tuple[str, ...] = (), **changed: Any) -> Comparison:
    """The comparison of variants with these accuracies by seed; those of `diverged` never came to one."""
    for variant, values in of.items():
        for seed, value in enumerate(values):
            runs.end(runs.cell(variant, seed), value, status="diverged" if variant in diverged else "finished")
    runs.ask([runs.cell(variant, seed) for variant, values in of.items() for seed in range(len(values))], **changed)
    return compare(runs.folder, "se_ratio")


def rows(comparison: Comparison) -> dict[str, ComparisonRow]:
    return {row.variant: row for row in comparison.rows}


# The interval and the verdict


def test_one_difference_has_students_interval(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}))["r4"]
    expected = stats.ttest_rel(shifted(-0.02), CONTROL).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.level == 0.95


def test_the_intervals_of_several_hold_together(runs: Any) -> None:
    comparison = ended(runs, {"r16": CONTROL, "r8": shifted(0.0), "r4": shifted(-0.02), "r2": shifted(0.01)})
    assert (comparison.comparisons, comparison.confidence) == (3, 0.95)
    expected = stats.ttest_rel(shifted(-0.02), CONTROL).confidence_interval(0.95 ** (1 / 3))
    assert rows(comparison)["r4"].interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_every_variant_that_was_asked_for_is_one_of_the_family_finished_or_not(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4", "r8") for seed in range(3)]
    for cell in cells[:6]:
        runs.end(cell, 0.9 + 0.001 * cell.seed * (cell.variant == "r4"))
    runs.ask(cells)
    found = compare(runs.folder, "se_ratio")
    assert found.comparisons == 2
    assert rows(found)["r4"].level == pytest.approx(0.95**0.5)


VARIANTS = {"r16": CONTROL, "r8": shifted(0.0), "r4": shifted(-0.02), "r2": shifted(0.01, (0.0, 0.003, 0.001, 0, 0))}


def test_the_intervals_of_a_moderated_design_borrow_strength_from_each_other(runs: Any) -> None:
    comparison = ended(runs, VARIANTS, design="moderated")
    by_variant = rows(comparison)
    expected = moderated_intervals({name: list(by_variant[name].differences.values()) for name in ("r8", "r4", "r2")})
    assert comparison.design == "moderated"
    for name, one in expected.items():
        found = by_variant[name]
        assert found.interval == pytest.approx(one.interval, abs=1e-12)
        assert (found.deviation, found.critical, found.level) == (one.deviation, one.critical, None)
        assert found.verdict == decide_verdict(one.interval, comparison.margin)
    assert f"95 % together (3 differences), ± {expected['r4'].critical:.2f} moderated standard errors" in "\n".join(
        table_notes.footer(comparison)
    )


def test_seeds_that_are_needed_follow_the_moderated_interval(runs: Any) -> None:
    found = rows(ended(runs, VARIANTS, design="moderated"))["r4"]
    assert found.deviation is not None
    assert found.seeds_needed["0.2"] == moderated_seeds_needed(0.002, found.deviation, 3)


def test_one_difference_alone_has_students_interval_in_a_moderated_design(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}, design="moderated"))["r4"]
    expected = stats.ttest_rel(shifted(-0.02), CONTROL).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.level, found.critical) == (0.95, None)


def test_a_study_that_began_with_students_intervals_keeps_them(runs: Any) -> None:
    before = rows(ended(runs, VARIANTS))["r4"].interval
    after = ended(runs, VARIANTS, design="moderated")
    assert (after.design, rows(after)["r4"].interval) == ("student", before)


def test_looks_of_an_older_stopping_rule_have_students_intervals(runs: Any) -> None:
    rule = StoppingRule(looks=(5, 8), levels=(0.98, 0.99), comparisons=3)
    found = ended(runs, VARIANTS, design="moderated", stopping=rule)
    assert found.design == "student"
    assert rows(found)["r4"].level == 0.98


def test_stages_of_a_chain_have_the_values_for_any_family(runs: Any) -> None:
    found = ended(runs, VARIANTS, design="moderated", against={"r4": "r8", "r2": "r4"})
    assert rows(found)["r4"].critical == critical_value(3, 5, "any")


@pytest.mark.parametrize(
    ("by", "margin", "verdict"),
    [(0.02, 0.005, "better"), (-0.02, 0.005, "worse"), (0.0, 0.005, "equivalent"), (0.0, 0.001, "undecided"),
     (0.004, 0.01, "equivalent")],
)  # fmt: skip
def test_the_verdict_follows_from_interval_and_margin(runs: Any, by: float, margin: float, verdict: str) -> None:
    comparison = ended(runs, {"r16": CONTROL, "r4": shifted(by)}, margin=margin)
    assert comparison.margin == margin
    assert rows(comparison)["r4"].verdict == verdict


@pytest.mark.parametrize(
    ("scale", "margin"), [("smoke", 0.02), ("small", 0.005), ("small/5", 0.005), ("writeup", 0.002)]
)
def test_a_note_from_before_margins_has_that_of_its_scale(runs: Any, scale: str, margin: float) -> None:
    assert ended(runs, {"r16": CONTROL}, scale=scale).margin == margin


def test_p_values_are_corrected_for_their_number_and_decide_nothing(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL, "r4": shifted(-0.02), "r8": shifted(0.02)}))
    assert (found["r4"].p_value, found["r4"].p_holm, found["r4"].p_smallest) == (0.0625, 0.125, 0.0625)
    assert (found["r4"].p_exact, found["r4"].verdict) == (True, "worse")


def test_what_pairing_bought_stands_beside(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}))["r4"]
    welch = stats.ttest_ind(shifted(-0.02), CONTROL, equal_var=False).confidence_interval(0.95)
    assert found.welch == pytest.approx((welch.low, welch.high), abs=1e-12)
    assert found.correlation == pytest.approx(statistics.correlation(shifted(-0.02), CONTROL))


# What cannot be said


def test_one_seed_decides_nothing(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL[:1], "r4": (0.5,)}))["r4"]
    assert (found.interval, found.verdict, found.reason) == (None, "undecided", ONE_PAIR)
    assert found.difference == pytest.approx(0.5 - CONTROL[0])


def test_differences_that_do_not_vary_decide_nothing(runs: Any) -> None:
    found = rows(ended(runs, {"r16": (0.5, 0.5, 0.5), "r4": (0.25, 0.25, 0.25)}))["r4"]
    assert (found.interval, found.verdict, found.reason) == (None, "undecided", NO_VARIANCE)


def test_a_variant_that_diverged_in_every_seed_is_diverged(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL, "r4": CONTROL}, diverged=("r4",)))["r4"]
    assert (found.n, found.diverged, found.verdict) == (0, 5, "diverged")
    assert found.reason == "the variant diverged in every seed"
    assert (found.mean, found.difference, found.interval, found.p_value) == (None, None, None, None)


def test_where_the_control_diverged_there_is_no_difference_and_that_is_said(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL, "r4": CONTROL}, diverged=("r16",)))["r4"]
    assert (found.n, found.difference, found.verdict) == (5, None, None)
    assert found.reason == "what it is compared with diverged in every seed"


def test_a_divergence_beside_finished_seeds_is_counted(runs: Any) -> None:
    for seed in range(5):
        runs.end(runs.cell("r16", seed), CONTROL[seed])
        runs.end(runs.cell("r4", seed), shifted(-0.02)[seed], status="diverged" if seed == 4 else "finished")
    runs.ask([runs.cell(name, seed) for name in ("r16", "r4") for seed in range(5)])
    found = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (found.n, found.diverged, found.pairs, found.verdict) == (4, 1, 4, "worse")


@pytest.mark.parametrize(
    ("by", "gone", "verdict", "reason"),
    [
        (0.02, "r4", "undecided", "better without the seeds that diverged"),
        (0.02, "r16", "better", None),
        (-0.02, "r16", "undecided", "worse without the seeds that diverged"),
        (-0.02, "r4", "worse", None),
    ],
)
def test_what_survivors_say_is_no_verdict_where_the_diverged_seeds_say_otherwise(
    runs: Any, by: float, gone: str, verdict: str, reason: str | None
) -> None:
    for seed in range(5):
        for name, values in (("r16", CONTROL), ("r4", shifted(by))):
            lost = name == gone and seed in (3, 4)
            runs.end(runs.cell(name, seed), values[seed], status="diverged" if lost else "finished")
    runs.ask([runs.cell(name, seed) for name in ("r16", "r4") for seed in range(5)])
    found = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (found.pairs, found.verdict, found.reason) == (3, verdict, reason)


@pytest.mark.parametrize(("seed", "verdict"), [(2, "undecided"), (4, "better")])
def test_under_a_rule_only_the_diverged_seeds_of_the_look_count(runs: Any, seed: int, verdict: str) -> None:
    cells = [runs.cell(name, each) for name in ("r16", "r4") for each in range(4 if seed < 4 else 5)]
    for cell in cells:
        lost = cell.variant == "r4" and cell.seed == seed
        values = CONTROL if cell.variant == "r16" else shifted(0.03)
        runs.end(cell, values[cell.seed], status="diverged" if lost else "finished")
    rule = replace(RULE, looks=(4, 9))
    runs.ask(cells, stopping=rule)
    assert rows(compare(runs.folder, "se_ratio"))["r4"].verdict == verdict


# Seeds added until all is decided

RULE = StoppingRule(looks=(3, 5), levels=(0.98, 0.97), comparisons=1)


def test_between_looks_only_the_seeds_of_the_last_look_count(runs: Any) -> None:
    comparison = ended(runs, {"r16": CONTROL[:4], "r4": shifted(-0.02)[:4]}, stopping=RULE)
    found = rows(comparison)["r4"]
    expected = stats.ttest_rel(shifted(-0.02)[:3], CONTROL[:3]).confidence_interval(0.98)
    assert (found.pairs, found.level, list(found.differences)) == (3, 0.98, [0, 1, 2])
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.n == 4


def test_before_the_first_look_nothing_is_said(runs: Any) -> None:
    found = rows(ended(runs, {"r16": CONTROL[:3], "r4": shifted(-0.02)[:2]}, stopping=RULE))["r4"]
    assert (found.interval, found.verdict, found.reason) == (None, None, NO_LOOK)


def test_each_variant_is_judged_at_its_own_last_look(runs: Any) -> None:
    of = {"r16": CONTROL, "r4": shifted(-0.02)[:3], "r8": shifted(0.0)}
    comparison = ended(runs, of, stopping=RULE)
    found = rows(comparison)
    assert (found["r4"].pairs, found["r4"].level) == (3, 0.98)
    assert (found["r8"].pairs, found["r8"].level) == (5, 0.97)
    assert comparison.stopping is not None
    assert (comparison.stopping.looks, comparison.stopping.seen) == ((3, 5), 2)


def test_seeds_that_are_added_by_hand_later_do_not_undo_the_rule(runs: Any) -> None:
    ended(runs, {"r16": CONTROL[:3], "r4": shifted(-0.02)[:3]}, stopping=RULE)
    assert rows(ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}))["r4"].level == 0.97


# Moderated boundaries of a rule

MODERATED_RULE = replace(RULE, comparisons=2, family="control", critical=(6.0, 4.5))


def end_rule(
    runs: Any, of: dict[str, tuple[float | str, ...]], rule: StoppingRule = MODERATED_RULE
) -> dict[str, ComparisonRow]:
    """Rows of variants under a rule; in place of an accuracy may stand diverged, failed, missing, none or NaN."""
    cells = []
    for name, values in of.items():
        for seed, value in enumerate(values):
            cells.append(cell := runs.cell(name, seed))
            if value == "failed":
                records.fail(runs.record(cell))
            elif value == "none":
                records.end(runs.record(cell), {"seconds": 1.0})
            elif value == "NaN":
                path = runs.end(cell, 0.9).folder / "result.json"
                path.write_text(path.read_text().replace("0.9", "NaN"))
            elif value != "missing":
                status = "finished" if isinstance(value, float) else str(value)
                runs.end(cell, value if isinstance(value, float) else 0.0, status=status)
    runs.ask(cells, stopping=rule, design="moderated")
    return rows(compare(runs.folder, "se_ratio"))


def test_a_rule_with_critical_values_moderates_each_difference_at_its_own_last_look(runs: Any) -> None:
    found = end_rule(runs, {"r16": CONTROL, "r4": shifted(-0.02)[:3], "r8": shifted(0.0)})
    assert [(found[name].pairs, found[name].critical, found[name].level) for name in ("r4", "r8")] == [
        (3, 6.0, None),
        (5, 4.5, None),
    ]
    early = moderated_intervals({n: [*found[n].differences.values()][:3] for n in ("r4", "r8")}, "control", 6.0)
    late = moderated_intervals({n: [*found[n].differences.values()] for n in ("r4", "r8")}, "control", 4.5)
    assert found["r4"].interval == early["r4"].interval
    assert found["r8"].interval == late["r8"].interval
    assert found["r4"].verdict == decide_verdict(early["r4"].interval, 0.005)


def test_a_variant_that_was_settled_early_keeps_its_verdict_while_others_go_on(runs: Any) -> None:
    before = end_rule(runs, {"r16": CONTROL[:3], "r4": shifted(-0.02)[:3], "r8": shifted(0.0)[:3]})["r4"]
    after = end_rule(runs, {"r16": CONTROL, "r4": shifted(-0.02)[:3], "r8": shifted(0.0)})["r4"]
    assert (after.interval, after.verdict) == (before.interval, before.verdict)


def test_the_seeds_that_are_needed_follow_the_last_look_of_a_rule(runs: Any) -> None:
    found = end_rule(runs, {"r16": CONTROL, "r4": shifted(-0.02), "r8": shifted(0.0)})["r4"]
    assert found.deviation is not None
    wider = 4.5 / critical_value(2, 5)
    assert wider > 1
    assert found.seeds_needed["0.2"] == moderated_seeds_needed(0.002, found.deviation, 2, wider=wider)


def test_the_seeds_that_are_needed_follow_the_level_of_the_last_look(runs: Any) -> None:
    alone = rows(ended(runs, {"r16": CONTROL, "r4": shifted(-0.02, (0.0, 0.003, 0.001, 0, 0))}, stopping=RULE))["r4"]
    assert alone.difference_std is not None
    assert alone.seeds_needed["0.2"] == seeds_needed(0.002, alone.difference_std, RULE.levels[-1])


@pytest.mark.parametrize("lost", ["failed", "missing", "NaN"])
def test_before_a_look_is_complete_its_cells_decide_nothing_and_moderate_nothing(lost: str, runs: Any) -> None:
    found = end_rule(
        runs, {"r16": CONTROL[:3], "r4": shifted(-0.02)[:3], "r8": shifted(0.0)[:3], "r2": (0.8, 0.9, lost)}
    )
    assert (found["r2"].interval, found["r2"].verdict, found["r2"].reason) == (None, None, NO_LOOK)
    two = moderated_intervals({n: [*found[n].differences.values()] for n in ("r4", "r8")}, "control", 6.0)
    assert found["r4"].interval == two["r4"].interval


def test_a_seed_that_diverged_widens_the_look_that_lost_it(runs: Any) -> None:
    r4 = (*shifted(0.0)[:2], "diverged", *shifted(0.0)[3:])
    found = end_rule(runs, {"r16": CONTROL, "r4": r4, "r8": shifted(-0.02)}, replace(MODERATED_RULE, looks=(5, 9)))
    assert (found["r4"].pairs, found["r8"].pairs) == (4, 5)
    wider = critical_value(2, 4) / critical_value(2, 5)
    assert found["r8"].critical == pytest.approx(6.0 * wider)


@pytest.mark.parametrize("lost", ["diverged", "none"])
def test_where_only_one_difference_is_left_it_has_students_interval_at_the_level_of_its_look(
    lost: str, runs: Any
) -> None:
    found = end_rule(runs, {"r16": CONTROL[:3], "r4": shifted(-0.02)[:3], "r8": (lost, lost, lost)})
    expected = stats.ttest_rel(shifted(-0.02)[:3], CONTROL[:3]).confidence_interval(0.98)
    assert (found["r4"].level, found["r4"].critical) == (0.98, None)
    assert found["r4"].interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found["r8"].verdict == ("diverged" if lost == "diverged" else None)


def test_a_tied_difference_under_a_rule_has_an_interval_if_two_others_vary(runs: Any) -> None:
    tied = tuple(value + 0.03 for value in CONTROL[:3])
    found = end_rule(
        runs, {"r16": CONTROL[:3], "r4": shifted(-0.02)[:3], "r8": shifted(0.0, NOISE[::-1])[:3], "r2": tied}
    )
    assert found["r2"].interval is not None
    assert found["r2"].interval[0] < 0.03 < found["r2"].interval[1]


def test_the_table_says_how_wide_the_intervals_of_each_look_are(runs: Any) -> None:
    end_rule(runs, {"r16": CONTROL, "r4": shifted(-0.02)[:3], "r8": shifted(0.0)})
    comparison = compare(runs.folder, "se_ratio")
    said = "\n".join(table_notes.footer(comparison))
    assert "the intervals hold at every look (alpha spending: pocock), ± 6.00, 4.50 moderated standard errors" in said
    assert "95 % together (2 differences), ± 6.00 or 4.50 moderated standard errors, by the look" in said
    tree = comparison.as_dict()
    assert (tree["design"], tree["stopping"]["family"], tree["stopping"]["critical"]) == (
        "moderated",
        "control",
        (6.0, 4.5),
    )


# A single comparison with a prior from earlier cells of the control

PRIOR = VariancePrior(
    variance=4e-6, metric="test/acc", fingerprints=tuple(f"{i:064x}" for i in range(10)), ablations=("noise_floor",)
)


def single(runs: Any, seeds: int, prior: VariancePrior | None = PRIOR, **changed: Any) -> Comparison:
    of = {"r16": CONTROL[:seeds], "r4": shifted(-0.02)[:seeds]}
    return ended(runs, of, **{"design": "moderated", "prior": prior, **changed})


@pytest.mark.parametrize("seeds", [2, 3])
def test_two_or_three_pairs_of_a_single_comparison_have_the_interval_with_the_prior(seeds: int, runs: Any) -> None:
    comparison = single(runs, seeds)
    found = rows(comparison)["r4"]
    expected = history_interval(list(found.differences.values()), PRIOR.variance, 10)
    assert expected is not None
    assert found.interval == expected.interval
    assert (found.deviation, found.critical, found.level) == (expected.deviation, expected.critical, None)
    assert found.verdict == decide_verdict(expected.interval, comparison.margin)
    assert comparison.prior == PRIOR


def test_the_prior_stands_under_the_table_and_in_the_json(runs: Any) -> None:
    comparison = single(runs, 3)
    line = next(line for line in table_notes.notes(comparison) if line.startswith("variance prior"))
    assert "10 cells of the control that were finished before this study began (noise_floor), ± 0.20 points" in line
    assert all(fingerprint[:12] in line for fingerprint in PRIOR.fingerprints)
    footer = "\n".join(table_notes.footer(comparison))
    assert "standard errors moderated by earlier cells of the control" in footer
    tree = comparison.as_dict()["prior"]
    assert (tree["variance"], tree["metric"], len(tree["fingerprints"])) == (4e-6, "test/acc", 10)
    assert comparison_sentence(comparison)


def test_from_four_pairs_on_students_interval_is_used_and_the_prior_is_not_mentioned(runs: Any) -> None:
    comparison = single(runs, 4)
    found = rows(comparison)["r4"]
    expected = stats.ttest_rel(shifted(-0.02)[:4], CONTROL[:4]).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.level, comparison.prior) == (0.95, None)
    assert not any("prior" in line for line in table_notes.footer(comparison))


def test_one_pair_has_no_interval_with_a_prior_either(runs: Any) -> None:
    found = rows(single(runs, 1))["r4"]
    assert (found.interval, found.verdict, found.reason) == (None, "undecided", ONE_PAIR)


def test_a_seed_without_a_number_is_no_pair_of_a_comparison_with_a_prior(runs: Any) -> None:
    single(runs, 3)
    path = runs.folder / runs.cell("r4", 2).fingerprint / "result.json"
    tree = json.loads(path.read_text())
    tree["metrics"]["test/acc"] = float("nan")
    path.write_text(json.dumps(tree))
    comparison = compare(runs.folder, "se_ratio")
    found = rows(comparison)["r4"]
    assert (found.pairs, found.damaged, found.critical) == (2, 1, history_critical_value(2, 10))


def test_tied_pairs_have_an_interval_from_the_prior_alone(runs: Any) -> None:
    of = {"r16": (0.5, 0.5, 0.5), "r4": (0.5, 0.5, 0.5)}
    found = rows(ended(runs, of, design="moderated", prior=PRIOR))["r4"]
    expected = history_interval([0.0] * 3, PRIOR.variance, 10)
    assert expected is not None
    assert (found.interval, found.reason) == (expected.interval, None)


@pytest.mark.parametrize(
    "changed",
    [{"design": None}, {"design": "student"}, {"prior": None}, {"prior": replace(PRIOR, metric="test/peak_acc")}],
    ids=["a note from before", "students", "no history", "another metric"],
)
def test_other_studies_keep_students_interval(changed: dict[str, Any], runs: Any) -> None:
    found = rows(single(runs, 3, **changed))["r4"]
    expected = stats.ttest_rel(shifted(-0.02)[:3], CONTROL[:3]).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_prior_that_a_later_invocation_brings_does_not_count(runs: Any) -> None:
    before = rows(single(runs, 3, prior=None))["r4"].interval
    assert rows(single(runs, 3))["r4"].interval == before


def test_several_differences_do_not_use_the_prior(runs: Any) -> None:
    of = {"r16": CONTROL[:3], "r4": shifted(-0.02)[:3], "r8": shifted(0.0)[:3]}
    comparison = ended(runs, of, design="moderated", prior=PRIOR)
    expected = moderated_intervals({n: [*rows(comparison)[n].differences.values()] for n in ("r4", "r8")})
    assert rows(comparison)["r4"].interval == expected["r4"].interval
    assert comparison.prior is None


def test_a_diverged_seed_leaves_a_verdict_with_a_prior_undecided_if_it_says_otherwise(runs: Any) -> None:
    for seed in range(4):
        runs.end(runs.cell("r16", seed), CONTROL[seed])
        runs.end(runs.cell("r4", seed), shifted(0.02)[seed], status="diverged" if seed == 3 else "finished")
    runs.ask([runs.cell(name, seed) for name in ("r16", "r4") for seed in range(4)], design="moderated", prior=PRIOR)
    found = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert found.critical is not None
    assert (found.verdict, found.reason) == ("undecided", "better without the seeds that diverged")


# Two factors


def test_a_crossing_has_main_effects_and_an_interaction(runs: Any) -> None:
    names = ("r16", "r4", "r16-off", "r4-off")
    of = dict(
        zip(
            names,
            (CONTROL, shifted(-0.02), shifted(-0.01), shifted(-0.05, (0.0, 0.0, 0.0, 0.001, -0.001))),
            strict=True,
        )
    )
    crossing = {"factors": ["reduction", "lookahead"], "variants": list(names)}
    one, two, both = ended(runs, of, crossing=crossing).effects
    assert [each.name for each in (one, two, both)] == ["reduction", "lookahead", "reduction × lookahead"]
    assert one.difference == pytest.approx((-0.02 + -0.04) / 2)
    assert two.difference == pytest.approx((-0.01 + -0.03) / 2)
    assert both.difference == pytest.approx(-0.02)
    assert one.level == pytest.approx(0.95 ** (1 / 3))
    assert (one.verdict, both.verdict) == ("worse", "present")


@pytest.mark.parametrize(
    ("step", "noise", "said"),
    [(0.02, 0.0005, "present"), (-0.02, 0.0005, "present"), (0.0, 0.001, "absent"), (0.0, 0.05, "undecided")],
)
def test_an_interaction_is_there_or_not_and_neither_better_nor_worse(
    step: float, noise: float, said: str, runs: Any
) -> None:
    chance = tuple(noise * each for each in (1.0, -1.0, 0.5, 0.0, -0.5))
    every = (CONTROL, shifted(-0.02), shifted(-0.01), shifted(-0.03 + step, chance))
    of = dict(zip(CROSSED["variants"], every, strict=True))
    assert ended(runs, of, crossing=CROSSED).effects[-1].verdict == said


CROSSED = {"factors": ["reduction", "lookahead"], "variants": ["r16", "r4", "r16-off", "r4-off"]}


def crossed(seeds: int) -> dict[str, tuple[float, ...]]:
    one, two = (0.002, -0.001, 0.001, 0.0, 0.003), (0.0, 0.001, -0.003, 0.001, -0.001)
    every = (CONTROL, shifted(-0.02, one), shifted(-0.01), shifted(-0.05, two))
    return {name: values[:seeds] for name, values in zip(CROSSED["variants"], every, strict=True)}


def test_under_a_rule_effects_are_those_of_the_last_look_at_its_level(runs: Any) -> None:
    plain = ended(runs, crossed(3), crossing=CROSSED).effects
    looked = ended(runs, crossed(4), crossing=CROSSED, stopping=RULE).effects
    levels = group_sequential.levels(RULE.looks, 1 - 0.95 ** (1 / 3))
    assert [each.level for each in looked] == [levels[0]] * 3
    assert [(each.difference, each.pairs) for each in looked] == [(each.difference, 3) for each in plain]
    for each, other in zip(looked, plain, strict=True):
        assert each.interval is not None
        assert other.interval is not None
        assert each.interval[0] < other.interval[0]


def test_before_the_first_look_there_is_no_effect(runs: Any) -> None:
    found = ended(runs, crossed(2), crossing=CROSSED, stopping=RULE).effects
    assert [(each.interval, each.pairs) for each in found] == [(None, 0)] * 3


def test_effects_are_moderated_in_a_study_that_began_so(runs: Any) -> None:
    plain = estimate_effects([dict(enumerate(values)) for values in crossed(3).values()])
    now = ended(runs, crossed(3), crossing=CROSSED, design="moderated", effects_design="moderated").effects
    assert [each.level for each in now] == [None] * 3
    moderated = moderate_effects(plain)
    for each, name in zip(now, ("first", "second", "interaction"), strict=True):
        assert each.interval == pytest.approx(getattr(moderated, name).interval)
        assert each.interval != pytest.approx(getattr(plain, name).interval)


@pytest.mark.parametrize("later", [{"effects_design": "moderated"}, {}])
def test_a_study_that_began_with_students_effects_keeps_them(runs: Any, later: dict[str, str]) -> None:
    before = ended(runs, crossed(3), crossing=CROSSED, design="moderated").effects
    now = ended(runs, crossed(3), crossing=CROSSED, design="moderated", **later).effects
    assert now == before
    assert [each.level for each in now] == pytest.approx([0.95 ** (1 / 3)] * 3)


def test_where_too_little_varies_to_be_moderated_the_level_is_that_of_students_interval(runs: Any) -> None:
    of = dict(zip(CROSSED["variants"], ([0.9, 0.9], [0.91, 0.91], [0.92, 0.92], [0.95, 0.95]), strict=True))
    found = ended(runs, of, crossing=CROSSED, design="moderated", effects_design="moderated").effects
    assert [each.interval for each in found] == [None] * 3
    assert [each.level for each in found] == pytest.approx([0.95 ** (1 / 3)] * 3)


def test_under_a_rule_effects_are_students(runs: Any) -> None:
    found = ended(runs, crossed(3), crossing=CROSSED, effects_design="moderated", stopping=RULE).effects
    assert None not in [each.level for each in found]


ALL_RULE = StoppingRule(
    looks=(3, 5), levels=(0.98, 0.97), comparisons=3, family="control", critical=(6.0, 4.0), moderates_all=True
)


def test_a_new_rule_moderates_effects_at_the_last_look_of_all_four(runs: Any) -> None:
    found = ended(runs, crossed(4), crossing=CROSSED, stopping=ALL_RULE).effects
    plain = estimate_effects([dict(enumerate(values)) for values in crossed(3).values()])
    halves = {"first": 1.0, "second": 1.0, "interaction": 0.5}
    values = {name: [half * x for x in getattr(plain, name).differences.values()] for name, half in halves.items()}
    expected = moderated_intervals(values, "control", 6.0)
    assert [(each.level, each.pairs) for each in found] == [(None, 3)] * 3
    for each, (name, half) in zip(found, halves.items(), strict=True):
        assert each.interval == pytest.approx([end / half for end in expected[name].interval])


@pytest.mark.parametrize("changed", [{"moderates_all": False}, {"critical": (6.0, 40.0)}])
def test_effects_stay_students_under_an_older_rule_and_where_that_is_narrower(
    changed: dict[str, Any], runs: Any
) -> None:
    found = ended(runs, crossed(3), crossing=CROSSED, stopping=replace(ALL_RULE, **changed)).effects
    levels = group_sequential.levels((3, 5), 1 - 0.95 ** (1 / 3))
    assert [each.level for each in found] == [levels[0]] * 3


# The margin


def test_a_rule_keeps_the_margin_that_it_was_begun_with(runs: Any) -> None:
    fixed = replace(RULE, margin=0.03)
    assert ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}, stopping=fixed, margin=0.03).margin == 0.03
    assert ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}, margin=0.01).margin == 0.03


def test_without_a_rule_the_latest_margin_holds_and_the_one_before_is_named(runs: Any) -> None:
    first = ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}, margin=0.01)
    assert (first.margin, first.margin_before) == (0.01, None)
    second = ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}, margin=0.04)
    assert (second.margin, second.margin_before) == (0.04, (0.01, second.invocation))
    third = ended(runs, {"r16": CONTROL, "r4": shifted(-0.02)}, margin=0.04)
    assert third.margin_before == (0.01, second.invocation)


@pytest.mark.parametrize(
    ("gone", "verdicts"),
    [
        ("r4-off", ["worse", "worse", "present"]),  # guessing where both are changed says the same
        ("r16", ["undecided", "undecided", "present"]),  # guessing where neither is: changing one looks like a rescue
        ("all", ["worse", "worse", "present"]),  # a seed in which all four guess says nothing
    ],
)
def test_effects_are_decided_by_no_survivors_either(runs: Any, gone: str, verdicts: list[str]) -> None:
    one, two = (0.0002, -0.0001, 0.0001, 0.0, 0.0003), (0.0, 0.0001, -0.0003, 0.0001, -0.0001)
    every = (CONTROL, shifted(-0.02, one), shifted(0.01, two), shifted(-0.05, two))
    of = dict(zip(CROSSED["variants"], every, strict=True))
    whole = ended(runs, of, crossing=CROSSED).effects
    assert [each.verdict for each in whole] == ["worse", "worse", "present"]
    cells = [runs.cell(f"{name}", seed + 20) for name in of for seed in range(5)]
    for cell in cells:
        lost = gone in {cell.variant, "all"} and cell.seed == 24
        runs.end(cell, of[cell.variant][cell.seed - 20], status="diverged" if lost else "finished")
    runs.ask(cells, crossing=CROSSED, scale="writeup")
    found = compare(runs.folder, "se_ratio", scale="writeup").effects
    assert [each.verdict for each in found] == verdicts


def test_a_crossing_with_a_corner_missing_has_none(runs: Any) -> None:
    crossing = {"factors": ["a", "b"], "variants": ["r16", "r4", "x", "y"]}
    assert ended(runs, {"r16": CONTROL, "r4": CONTROL}, crossing=crossing).effects == ()
