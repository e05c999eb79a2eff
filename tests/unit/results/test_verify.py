"""Judged claims from records on disk: the cells and the setting used, and claims left unjudged."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from typing import Any

import pytest
from made import records

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation, Claim
from cifar_lab.ablation.lineage import lineages_at
from cifar_lab.config.scale import baseline_identity, find_scale
from cifar_lab.errors import TrackingError
from cifar_lab.results.claim_setting import OTHER_BASELINE
from cifar_lab.results.compare import compare
from cifar_lab.results.contrasts import NO_LOOK
from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.moderated import moderated_intervals
from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.verify import JudgedClaim, judge_claims
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import StoppingRule, VariancePrior
from cifar_lab.store.journal import Journal
from cifar_lab.store.record_files import DataSource

JPEG = DataSource(name="cifar10-jpeg", kind="path", hash="d" * 64, source="/images/cifar10-jpeg.zip")
AS_CLAIMED: dict[str, Any] = {
    "scale": "writeup", "protocol": "writeup", "overrides": {"train.protocol": "writeup"}, "margin": 0.002,
}  # fmt: skip
AHEAD, BEHIND = (0.951, 0.954, 0.950, 0.953), (0.941, 0.943, 0.941, 0.944)
SE_RATIO = registry.discover().find("se_ratio")


def ablation(*claims: Claim) -> Ablation:
    """`se_ratio` with these claims."""
    return SE_RATIO.model_copy(update={"claims": claims})


def claim(better: str = "r16", worse: str | None = "r4", **more: Any) -> Claim:
    return Claim(quote="it is so", source="a paper", better=better, worse=worse, **more)


REACHES = claim(worse=None, relation="reaches", accuracy=96.2, tolerance=1)


def one(runs: Any, *claims: Claim, **more: Any) -> JudgedClaim:
    """The first of the findings."""
    return judge_claims(runs.folder, ablation(*(claims or (claim(),))), **more)[0]


def numbers(finding: JudgedClaim) -> dict[str, Any]:
    assert finding.measured is not None
    return dict(finding.measured)


# As claimed


def test_at_the_claims_scale_protocol_and_data_it_is_supported_or_refuted(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    found = judge_claims(runs.folder, ablation(claim(), claim("r4", "r16"), REACHES))
    assert [each.status for each in found] == ["supported", "refuted", "supported"]
    assert all(each.differs == () for each in found)


def test_under_the_writeups_protocol_the_peak_is_judged_as_compare_shows_it(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    shown = {row.variant: row for row in compare(runs.folder, "se_ratio").rows}
    found = numbers(one(runs))
    assert found["metric"] == "test/peak_acc"
    assert found["means"] == {"r16": shown["r16"].mean, "r4": shown["r4"].mean}
    assert found["difference"] == pytest.approx(-(shown["r4"].difference or 0))
    assert found["pairs"] == shown["r4"].pairs == 4


def test_the_published_claims_are_judged_from_their_own_cells(runs: Any) -> None:
    """Judge the registry's own claims: `r16` against `r4`, and against `none`, which was not run."""
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    ratio, block = judge_claims(runs.folder, SE_RATIO)
    assert (ratio.status, ratio.claim.compares) == ("direction agrees", "r16 > r4")
    assert (block.status, block.measured) == ("not measured", None)
    assert "none was not run" in block.judgement.why


def test_a_size_is_judged_in_points(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    assert one(runs, claim(size=1)).status == "supported"
    assert one(runs, claim(size=3)).status == "refuted"
    assert one(runs, claim(size=3, tolerance=2.5)).status == "supported"


def test_the_more_claims_compare_the_wider_each_interval_is(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    alone, among = one(runs, claim()), one(runs, claim(), claim(relation="alike"), claim("r4", "r16"), REACHES)
    assert numbers(alone)["level"] == 0.95
    assert numbers(among)["level"] == per_comparison(0.95, 3)
    assert numbers(among)["interval"][0] < numbers(alone)["interval"][0]


def test_claims_of_a_moderated_design_are_judged_by_moderated_intervals_of_one_metric_together(runs: Any) -> None:
    third = tuple(value - 0.01 - 0.001 * seed for seed, value in enumerate(BEHIND))
    cells = {}
    for name, values in (("r16", AHEAD), ("r4", BEHIND), ("r8", third)):
        for seed, value in enumerate(values):
            cells[runs.cell(name, seed)] = value
    for asked, value in cells.items():
        runs.end(asked, value, protocol="writeup")
    runs.ask(list(cells), **AS_CLAIMED, design="moderated")
    found = judge_claims(runs.folder, ablation(claim(), claim(worse="r8"), claim(size=1)))
    differences = {
        name: [one - other for one, other in zip(AHEAD, values, strict=True)]
        for name, values in (("r4", BEHIND), ("r8", third))
    }
    expected = moderated_intervals(differences)
    assert numbers(found[0])["interval"] == pytest.approx(expected["r4"].interval)
    assert numbers(found[1])["interval"] == pytest.approx(expected["r8"].interval)
    assert numbers(found[2])["interval"] == numbers(found[0])["interval"], "one difference, however many speak of it"
    assert {numbers(each)["level"] for each in found} == {None}


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_the_claim_of_a_study_with_a_prior_has_the_interval_that_compare_shows(seeds: int, runs: Any) -> None:
    prior = VariancePrior(variance=4e-6, metric="test/peak_acc", fingerprints=tuple(f"{i:064x}" for i in range(10)),
                          ablations=("noise_floor",))  # fmt: skip
    runs.study(r16=AHEAD[:seeds], r4=BEHIND[:seeds], **AS_CLAIMED, design="moderated", prior=prior)
    shown = {row.variant: row for row in compare(runs.folder, "se_ratio").rows}["r4"]
    found = numbers(one(runs))
    assert shown.interval is not None
    assert found["interval"] == pytest.approx([-shown.interval[1], -shown.interval[0]])
    assert (found["level"] is None) == (seeds < 4)


def test_the_margin_is_the_invocations_and_of_older_notes_the_scales(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, "margin": 0.05})
    assert (one(runs).status, numbers(one(runs))["margin"]) == ("negligible", 0.05)
    runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, "margin": None})
    assert (one(runs).status, numbers(one(runs))["margin"]) == ("supported", 0.002)


# Elsewhere


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"scale": "small"}, "scale small"),
        ({"scale": "writeup/5"}, "scale writeup/5"),
        ({"protocol": "holdout", "overrides": {}}, "protocol holdout"),
        ({"data": JPEG}, "data cifar10-jpeg"),
        ({"overrides": {"train.protocol": "writeup", "train.epochs": 30}}, "train.epochs=30"),
    ],
)
def test_at_another_scale_protocol_data_or_recipe_a_direction_agrees_at_most(
    runs: Any, changed: dict[str, Any], differs: str
) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, **changed})
    found = judge_claims(runs.folder, ablation(claim(), claim("r4", "r16"), claim(size=9), REACHES))
    assert [each.status for each in found] == [
        "direction agrees", "direction disagrees", "direction agrees", "not measured",
    ]  # fmt: skip
    assert {each.differs for each in found} == {(differs,)}
    assert found[3].measured is None


MIXED_IN = {"data.mixup": 1.0, "data.cutmix": 1.0}


def test_a_claim_made_on_another_recipe_is_a_direction_at_most_and_says_with_what_it_was_made(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    agrees, disagrees, plain = judge_claims(
        runs.folder, ablation(claim(under=MIXED_IN), claim("r4", "r16", under=MIXED_IN), claim())
    )
    assert (agrees.status, disagrees.status, plain.status) == ("direction agrees", "direction disagrees", "supported")
    assert agrees.differs == ("made with data.mixup=1.0 data.cutmix=1.0",)
    assert "made with data.mixup=1.0 data.cutmix=1.0" in numbers(agrees)["words"]
    assert (plain.differs, plain.judgement.why) == ((), "")


def test_overrides_that_bring_back_what_a_claim_was_made_with_make_no_other_study_of_it(runs: Any) -> None:
    overrides = {"train.protocol": "writeup", **MIXED_IN}
    runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, "overrides": overrides})
    found, plain = judge_claims(runs.folder, ablation(claim(under=MIXED_IN), claim()))
    assert (found.status, found.differs) == ("supported", ())
    assert (plain.status, plain.differs) == ("direction agrees", ("data.mixup=1.0", "data.cutmix=1.0"))


def test_half_of_what_a_claim_was_made_with_is_not_enough(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, "overrides": {"data.mixup": 1.0, "data.cutmix": 0.5}})
    found = one(runs, claim(under=MIXED_IN))
    assert found.status == "direction agrees"
    assert found.differs == ("made with data.cutmix=1.0", "data.cutmix=0.5")


def test_the_precision_is_how_a_study_is_run_and_not_another_one(runs: Any) -> None:
    overrides = {"train.protocol": "writeup", "train.precision": "fp32"}
    runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, "overrides": overrides})
    assert one(runs).status == "supported"


def test_cells_of_an_earlier_baseline_of_the_ablation_show_a_direction_at_most(runs: Any) -> None:
    now = baseline_identity(SE_RATIO.baseline, find_scale("writeup"))
    before = baseline_identity(SE_RATIO.baseline.override({"schedule.name": "constant"}), find_scale("writeup"))
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED, baseline=before)
    found = one(runs)
    assert (found.status, found.differs) == ("direction agrees", (OTHER_BASELINE,))
    assert OTHER_BASELINE in numbers(found)["words"]
    runs.lineages = lineages_at(SE_RATIO, "writeup", AS_CLAIMED["overrides"])
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED, baseline=now)
    runs.lineages = {}
    latest = runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED, baseline=before)
    assert one(runs).status == "supported", "the setting with the baseline of today goes first"
    assert one(runs, invocation=latest).status == "direction agrees"


def test_the_chance_of_a_setting_is_computed_from_its_own_cells_whatever_its_baseline(runs: Any) -> None:
    before = baseline_identity(SE_RATIO.baseline.override({"schedule.name": "constant"}), find_scale("writeup"))
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED, baseline=before)
    power = one(runs).power
    assert power is not None
    differences = [one - other for one, other in zip(AHEAD, BEHIND, strict=True)]
    assert power.deviation == pytest.approx(statistics.stdev(differences))
    assert (power.seeds, power.source) == (4, "8 stored cells of se_ratio")


def test_what_was_never_run_as_asked_for_has_a_chance(runs: Any) -> None:
    runs.study(scale="small")
    power = one(runs, scale="smoke").power
    assert power is not None
    assert (power.seeds, power.difference) == (len(SE_RATIO.seeds), 0.02)


def test_another_numerics_version_is_no_other_baseline(runs: Any) -> None:
    now = baseline_identity(SE_RATIO.baseline, find_scale("writeup")).partition("/")[0]
    runs.lineages = lineages_at(SE_RATIO, "writeup", AS_CLAIMED["overrides"])
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED, baseline=f"{now}/0")
    assert one(runs).status == "supported"


def test_a_claim_made_at_another_scale_and_protocol_is_judged_there(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, scale="small", margin=0.005)
    found = one(runs, claim(scale="small", protocol="holdout"))
    assert (found.status, numbers(found)["metric"]) == ("supported", "test/acc")


def test_the_protocol_is_that_of_the_cells(runs: Any) -> None:
    """An invocation notes the protocol of its first cell."""
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in range(4)]
    for asked in cells:
        runs.end(asked, (AHEAD if asked.variant == "r16" else BEHIND)[asked.seed],
                 protocol="writeup" if asked.variant == "r16" else "holdout")  # fmt: skip
    runs.ask(cells, **AS_CLAIMED)
    found = one(runs)
    assert (found.status, found.differs) == ("direction agrees", ("protocol mixed",))
    assert numbers(found)["metric"] == "test/acc"


# Other metrics


def test_convergence_is_the_mean_over_the_epochs_of_what_was_watched(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in range(4)]
    for asked in cells:
        values = AHEAD if asked.variant == "r16" else BEHIND
        runs.end(asked, 0.9, protocol="writeup", **{"test/auc": values[asked.seed]})
    runs.ask(cells, **AS_CLAIMED)
    found = one(runs, claim(metric="convergence"))
    assert found.status == "supported"
    assert numbers(found)["means"]["r16"] == pytest.approx(sum(AHEAD) / 4)
    assert one(runs, claim(metric="gap")).judgement.why == "no finished cell has the metric"


def test_of_a_gap_the_smaller_is_better(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in range(4)]
    for asked in cells:
        runs.end(asked, 0.9, protocol="writeup", gap=(AHEAD if asked.variant == "r4" else BEHIND)[asked.seed])
    runs.ask(cells, **AS_CLAIMED)
    found = one(runs, claim(metric="gap"))
    assert found.status == "supported"
    assert numbers(found)["difference"] > 0


def curves(runs: Any) -> None:
    """Write cells without the metrics of curves in their results: `r16` rises evenly, `r4` late and by jumps."""
    cells = []
    for variant in ("r16", "r4"):
        for seed in range(4):
            asked = runs.cell(variant, seed)
            cells.append(asked)
            journal = Journal(runs.record(asked, protocol="writeup").folder)
            journal.write("start")
            for epoch in range(1, 21):
                jumps = (-1) ** epoch * (0.002 + 0.0005 * seed) + (-0.2 - 0.001 * seed if epoch <= 2 else 0)
                accuracy = 0.5 + epoch / 100 + 0.0003 * seed * (epoch % 3) + (jumps if variant == "r4" else 0.0)
                journal.points(epoch, {"test/acc": accuracy})
                journal.write("checkpoint", epoch=epoch, step=0)
            runs.end(asked, 0.9, protocol="writeup")
    runs.ask(cells, **AS_CLAIMED)


@pytest.mark.parametrize("metric", ["early convergence", "oscillation"])
def test_metrics_of_a_curve_are_read_from_the_journal_of_an_older_cell(runs: Any, metric: Any) -> None:
    curves(runs)
    found = one(runs, claim(metric=metric))
    assert found.status == "supported"
    key = {"early convergence": "test/early_acc", "oscillation": "test/oscillation"}[metric]
    assert key in numbers(found)["metric"]
    assert numbers(found)["difference"] > 0


def test_a_damaged_journal_that_a_metric_needs_is_named_and_nothing_is_judged(runs: Any) -> None:
    curves(runs)
    for name in ("r16", "r4"):
        for seed in range(4):
            (runs.folder / runs.cell(name, seed).fingerprint / "journal.jsonl").write_text("{}\n{}\n")
    found = one(runs, claim(metric="oscillation"))
    assert (found.status, len(found.damage)) == ("not measured", 8)
    assert "journal.jsonl: damaged" in found.damage[0]


def test_a_metric_in_the_result_is_not_read_from_the_journal(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in range(4)]
    for asked in cells:
        value = (AHEAD if asked.variant == "r16" else BEHIND)[asked.seed]
        runs.end(asked, 0.9, protocol="writeup", **{"test/early_acc": value, "test/oscillation": 1 - value})
    runs.ask(cells, **AS_CLAIMED)
    found = judge_claims(runs.folder, ablation(claim(metric="early convergence"), claim(metric="oscillation")))
    assert [each.status for each in found] == ["supported", "supported"]


# What is not there


def test_what_was_never_run_is_not_measured(runs: Any) -> None:
    runs.study(ablation="lookahead")
    for finding in judge_claims(runs.folder, SE_RATIO):
        assert (finding.status, finding.measured, finding.setting) == ("not measured", None, None)
        assert finding.judgement.why == "not run"


def test_what_was_never_run_as_asked_for_is_not_measured_and_says_how_it_was(runs: Any) -> None:
    runs.study(scale="small")
    for asked in ({"scale": "smoke"}, {"data": "synthetic"}, {"overrides": {"train.epochs": 3}}):
        found = one(runs, **asked)
        assert (found.status, found.setting) == ("not measured", None)
        assert "--scale small --data cifar10" in found.judgement.why


def test_a_note_of_another_ablation_that_cannot_be_read_changes_nothing(runs: Any) -> None:
    runs.study()
    before = judge_claims(runs.folder, SE_RATIO)
    (runs.folder / "invocations" / "20261122T220000.000-other.json").write_text("{")
    assert judge_claims(runs.folder, SE_RATIO) == before


def test_a_damaged_cell_is_counted_in_the_reason_and_named(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    record = CellRecord(runs.folder / runs.cell("r16", 0).fingerprint)
    (record.folder / "result.json").write_text("")
    found = judge_claims(runs.folder, ablation(claim()))[0]
    assert f"r16: 1 damaged of {len(AHEAD)} seeds" in found.judgement.why
    assert found.damage[0].startswith(f"r16/s0: {record.folder / 'result.json'}: damaged: empty; `cifar-lab fsck`")


def test_one_seed_is_inconclusive(runs: Any) -> None:
    runs.study(r16=AHEAD[:1], r4=BEHIND[:1], **AS_CLAIMED)
    found = judge_claims(runs.folder, ablation(claim(), REACHES))
    assert [each.status for each in found] == ["inconclusive"] * 2
    assert all("one seed" in each.judgement.why for each in found)


def test_cells_that_are_missing_failed_or_diverged_are_counted_and_said(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in range(4)]
    for asked in cells[:6]:
        runs.end(asked, 0.9 + asked.seed / 100 + (asked.variant == "r16") / 50, protocol="writeup")
    runs.end(cells[6], 0, status="diverged", protocol="writeup")
    records.fail(runs.record(cells[7], protocol="writeup"), "out of memory")
    runs.ask(cells, **AS_CLAIMED)
    found = one(runs)
    assert "r4 diverged in 1 of 4 seeds, 1 failed" in found.judgement.why
    assert numbers(found)["cells"] == {"r16": {"finished": 4}, "r4": {"finished": 2, "diverged": 1, "failed": 1}}
    assert numbers(found)["n"] == {"r16": 4, "r4": 2}


def test_a_variant_that_diverged_in_every_seed_was_worse(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in range(3)]
    for asked in cells:
        runs.end(asked, 0.9, protocol="writeup", status="finished" if asked.variant == "r16" else "diverged")
    runs.ask(cells, **AS_CLAIMED)
    found = one(runs)
    assert (found.status, found.judgement.words) == ("supported", "r4 diverged in 3 of 3 seeds")
    assert numbers(found)["difference"] is None


def test_mixed_executions_are_said(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in range(4)]
    for asked in cells:
        device = "cuda" if asked.seed == 3 else "cpu"
        runs.end(asked, (AHEAD if asked.variant == "r16" else BEHIND)[asked.seed], execution={"device": device})
    runs.ask(cells, scale="small")
    assert "executions are mixed" in one(runs).judgement.why


# Which cells


def test_the_setting_that_claims_speak_of_is_read_unless_another_is_asked_for(runs: Any) -> None:
    claimed = runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    latest = runs.study(recipe="small", scale="small")
    found = one(runs)
    assert found.setting is not None
    assert (found.setting.latest.id, [other.id for other in found.setting.others]) == (claimed, [latest])
    assert numbers(one(runs, invocation=latest))["invocation"] == latest
    assert numbers(one(runs, scale="small"))["invocation"] == latest
    with pytest.raises(TrackingError, match="no such invocation"):
        one(runs, invocation="20261122T210009.000-se_ratio")


def test_the_setting_that_claims_speak_of_is_not_read_before_a_cell_of_it_is_finished(runs: Any) -> None:
    plain = runs.study(recipe="small", scale="small")
    runs.study(recipe="long", scale="small", overrides={"train.epochs": 3})
    runs.ask([runs.cell("r16", 0, "as claimed")], **AS_CLAIMED)
    assert numbers(one(runs))["invocation"] == plain, "one without overrides goes first"


def test_of_settings_alike_the_one_that_has_what_a_claim_was_made_with_is_read(runs: Any) -> None:
    overrides = {"train.protocol": "writeup", **MIXED_IN}
    full = runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, "overrides": overrides})
    latest = runs.study(r16=AHEAD, r4=BEHIND, recipe="b", **AS_CLAIMED)
    assert numbers(one(runs, claim(under=MIXED_IN)))["invocation"] == full
    assert numbers(one(runs, claim()))["invocation"] == latest


def test_without_results_as_claimed_the_latest_is_read_and_another_is_asked_for(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **{**AS_CLAIMED, "scale": "writeup/5"})
    latest = runs.study(recipe="small", scale="small")
    found = one(runs)
    assert found.setting is not None
    assert (found.setting.latest.id, numbers(found)["invocation"]) == (latest, latest)
    assert len(found.setting.others) == 1
    assert one(runs, scale="writeup/5").status == "direction agrees"
    assert numbers(one(runs, overrides={"train.protocol": "writeup"}))["scale"] == "writeup/5"


def test_seeds_that_were_added_later_join(runs: Any) -> None:
    runs.study(r16=AHEAD[:2], r4=BEHIND[:2], **AS_CLAIMED)
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    found = numbers(one(runs))
    assert (found["pairs"], found["invocations"]) == (4, 2)


def test_while_seeds_are_added_only_complete_looks_are_judged_at_their_level(runs: Any) -> None:
    rule = StoppingRule(looks=(3, 6), levels=(0.99, 0.97), comparisons=1)
    runs.study(r16=AHEAD[:2], r4=BEHIND[:2], stopping=rule, **AS_CLAIMED)
    waiting = one(runs)
    assert (waiting.status, waiting.judgement.why, waiting.measured) == ("not measured", NO_LOOK, None)
    runs.study(r16=AHEAD, r4=BEHIND, stopping=rule, **AS_CLAIMED)
    found = numbers(one(runs))
    assert (found["pairs"], found["level"]) == (3, group_sequential.levels((3, 6), 1 - 0.95)[0])


def test_while_seeds_are_added_the_intervals_of_all_claims_hold_together_at_every_look(runs: Any) -> None:
    rule = StoppingRule(looks=(3, 6), levels=(0.99, 0.97), comparisons=1)
    runs.study(r16=AHEAD, r4=BEHIND, stopping=rule, **AS_CLAIMED)
    first, _ = judge_claims(runs.folder, ablation(claim(size=1), claim("r4", "r16")))
    assert numbers(first)["level"] == group_sequential.levels((3, 6), 1 - 0.95 ** (1 / 2))[0]


THIRD = tuple(value - 0.01 - 0.001 * seed for seed, value in enumerate(BEHIND))
MODERATING = StoppingRule(
    looks=(3, 4), levels=(0.99, 0.97), comparisons=2, family="control", critical=(6.0, 3.9), moderates_all=True
)


def under_rule(runs: Any, rule: StoppingRule, *claims: Claim) -> list[dict[str, Any]]:
    """Return the numbers of claims on three variants; `r8` was settled after three seeds."""
    cells = []
    for name, values in (("r16", AHEAD), ("r4", BEHIND), ("r8", THIRD[:3])):
        for seed, value in enumerate(values):
            cells.append(runs.cell(name, seed))
            runs.end(cells[-1], value, protocol="writeup")
    runs.ask(cells, stopping=rule, design="moderated", **AS_CLAIMED)
    return [numbers(each) for each in judge_claims(runs.folder, ablation(*claims))]


def test_a_new_rule_moderates_claims_each_at_its_own_last_look(runs: Any) -> None:
    four, three = under_rule(runs, MODERATING, claim(), claim(worse="r8"))
    of = {"r4": [a - b for a, b in zip(AHEAD, BEHIND, strict=True)],
          "r8": [a - b for a, b in zip(AHEAD[:3], THIRD[:3], strict=True)]}  # fmt: skip
    assert four["interval"] == pytest.approx(moderated_intervals(of, "control", 3.9)["r4"].interval)
    of["r4"] = of["r4"][:3]
    assert three["interval"] == pytest.approx(moderated_intervals(of, "control", 6.0)["r8"].interval)
    assert [(each["pairs"], each["level"]) for each in (four, three)] == [(4, None), (3, None)]


@pytest.mark.parametrize("rule", [replace(MODERATING, moderates_all=False), replace(MODERATING, critical=(6.0, 40.0))])
def test_claims_stay_students_under_an_older_rule_and_where_that_is_narrower(rule: StoppingRule, runs: Any) -> None:
    levels = group_sequential.levels((3, 4), 1 - 0.95 ** (1 / 2))
    assert [each["level"] for each in under_rule(runs, rule, claim(), claim(worse="r8"))] == [levels[1], levels[0]]


def test_a_rule_moderates_no_claims_that_hang_together_worse_than_its_differences(runs: Any) -> None:
    first, *_ = under_rule(runs, MODERATING, claim(), claim(worse="r8"), claim("r8", "r4"))
    assert first["level"] == group_sequential.levels((3, 4), 1 - 0.95 ** (1 / 3))[1]


def test_a_rule_that_was_dropped_is_said_with_each_claim(runs: Any) -> None:
    rule = StoppingRule(looks=(3, 6), levels=(0.99, 0.97), comparisons=1)
    runs.study(r16=AHEAD, r4=BEHIND, stopping=rule, **AS_CLAIMED)
    runs.study(r16=AHEAD, r4=BEHIND, stopping_dropped=True, **AS_CLAIMED)
    assert "a stopping rule was dropped" in one(runs).judgement.why


# JSON


def test_the_json_names_ablation_claim_status_and_what_was_measured(runs: Any) -> None:
    runs.study(r16=AHEAD, r4=BEHIND, **AS_CLAIMED)
    found = judge_claims(runs.folder, ablation(claim(size=1), claim("none", "r4")))
    first, second = (json.loads(json.dumps(each.as_dict(), allow_nan=False)) for each in found)
    assert (first["ablation"], first["claim"], first["source"]) == ("se_ratio", "it is so", "a paper")
    assert (first["status"], first["compares"], first["size"]) == ("supported", "r16 > r4 by 1", 1)
    assert set(first["measured"]) >= {
        "difference", "interval", "pairs", "margin", "n", "scale", "protocol", "data", "words",
    }  # fmt: skip
    assert (second["status"], second["measured"]) == ("not measured", None)
