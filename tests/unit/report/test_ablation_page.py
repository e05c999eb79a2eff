"""Data of a page from records on disk: question, curves, cells, provenance, and the order of chapters."""

from __future__ import annotations

from typing import Any

import pytest
from made import records

from cifar_lab.ablation import registry
from cifar_lab.errors import TrackingError
from cifar_lab.report import table_notes
from cifar_lab.report.ablation_page import (
    OTHERS,
    AblationPage,
    Chapter,
    UnmeasuredAblation,
    describe_state,
    load_ablation_page,
    load_chapters,
)
from cifar_lab.results.compare import compare
from cifar_lab.results.verify import judge_claims
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal

BUILT_IN = registry.discover()
SE_RATIO = BUILT_IN.find("se_ratio")


def write_curve(runs: Any, variant: str, seed: int, accuracies: list[float]) -> None:
    """The journal of a cell that the study made."""
    journal = Journal(runs.folder / runs.cell(variant, seed).fingerprint)
    journal.write("start")
    for epoch, accuracy in enumerate(accuracies, start=1):
        journal.points(epoch, {"val/acc": accuracy, "lr": 0.1 / epoch, "train/loss": 1.0, "grad_norm": 2.0})
        journal.write("checkpoint", epoch=epoch, step=0)
    journal.write("end", status="finished")


def found(runs: Any, **more: Any) -> AblationPage:
    return load_ablation_page(runs.folder, SE_RATIO, **more)


def test_the_numbers_are_those_of_compare(runs: Any) -> None:
    runs.study()
    assert found(runs).comparison == compare(runs.folder, "se_ratio")


def test_question_source_and_every_declared_variant_are_there(runs: Any) -> None:
    runs.study()
    of = found(runs)
    assert (of.question, of.source) == (SE_RATIO.question, SE_RATIO.source)
    assert (of.doc, of.baseline) == (SE_RATIO.doc, "Efficient ResNet")
    assert of.doc.startswith("Reduction ratio of the SE block")
    assert [variant.name for variant in of.variants] == ["none", "r16", "r8", "r4", "r2"]
    by_name = {variant.name: variant for variant in of.variants}
    assert by_name["r4"].diff == {"model.se.reduction": 4}
    assert (by_name["r4"].parameters, by_name["r2"].parameters) == (4_697_742, None)


def test_a_stage_that_continues_another_says_so(runs: Any) -> None:
    ladder = BUILT_IN.find("writeup_ladder")
    runs.ask([runs.cell(name, 0) for name in ("s1", "s2")], ablation="writeup_ladder", control="s1")
    by_name = {variant.name: variant for variant in load_ablation_page(runs.folder, ladder).variants}
    assert (by_name["s2"].base, by_name["s2"].continues) == ("s1", True)
    assert (by_name["s4"].base, by_name["s4"].continues) == ("s3", False)


def test_claims_are_judged_as_verify_does(runs: Any) -> None:
    runs.study()
    judged = judge_claims(runs.folder, SE_RATIO)
    assert [(f.quote, f.status, f.compares) for f in found(runs).findings] == [
        (each.claim.quote, each.status, each.claim.compares) for each in judged
    ]
    measured = found(runs).findings[0].measured
    assert "not where it was claimed: scale small, protocol holdout" in measured


def test_curves_are_read_by_variant_metric_and_seed(runs: Any) -> None:
    runs.study()
    write_curve(runs, "r4", 1, [0.5, 0.7])
    curves = found(runs).curves
    assert curves == {"r4": {"lr": {1: [(1, 0.1), (2, 0.05)]}, "val/acc": {1: [(1, 0.5), (2, 0.7)]},
                             "train/loss": {1: [(1, 1.0), (2, 1.0)]}}}  # fmt: skip


def test_curves_of_a_cell_that_is_not_at_its_end_are_left_out(runs: Any) -> None:
    asked = runs.cell("r4", 0)
    runs.record(asked)
    write_curve(runs, "r4", 0, [0.5])
    runs.ask([asked])
    assert found(runs).curves == {}


def test_every_cell_is_listed_with_what_became_of_it(runs: Any) -> None:
    cells = [runs.cell("r4", seed) for seed in range(4)]
    runs.end(cells[0], 0.9)
    runs.end(cells[1], 0.0, status="diverged", epoch=3)
    records.fail(runs.record(cells[2]), "out of memory")
    runs.ask(cells)
    listed = found(runs).cells
    assert [(cell.asked.seed, cell.state) for cell in listed] == [
        (0, "finished"), (1, "diverged"), (2, "failed"), (3, "missing"),
    ]  # fmt: skip
    assert [describe_state(cell) for cell in listed] == [
        "",
        "diverged in epoch 3 at step 0",
        "failed: out of memory",
        "",
    ]
    assert listed[0].asked.fingerprint == cells[0].fingerprint


def test_provenance_has_commit_command_data_hash_hardware_versions_and_time(runs: Any) -> None:
    first = runs.study()
    terms = dict(found(runs).provenance)
    assert terms["command"] == "cifar-lab run-ablation se_ratio"
    assert terms["data"] == "CIFAR-10, sha256 " + "c" * 64
    assert "EPYC" in terms["hardware"]
    assert "torch 2.9.1" in terms["versions"]
    assert "0123456789ab" in terms["code"]
    assert terms["time"].startswith("6 cells, 0.1 hours")
    assert terms["invocations"] == first


def test_reproducing_takes_the_commit_each_command_once_and_this_page(runs: Any) -> None:
    runs.study()
    runs.study()
    lines = found(runs).reproduce
    assert lines[0].startswith("git checkout 0123456789abcdef")
    assert "code.diff" in lines[0], "there were changes that were not committed"
    assert lines[1:] == (
        "cifar-lab run-ablation se_ratio",
        "cifar-lab report se_ratio --scale small --data cifar10 -o report.html",
    )


def test_what_was_never_run_cannot_be_loaded(runs: Any) -> None:
    with pytest.raises(TrackingError, match="has not been run"):
        found(runs)
    runs.study()
    with pytest.raises(TrackingError, match="never as asked for"):
        found(runs, scale="writeup")


def test_an_earlier_setting_is_loaded_by_the_id_of_its_invocation(runs: Any) -> None:
    first = runs.study()
    runs.study(r4=(0.5, 0.5, 0.5), recipe="other", overrides={"train.epochs": 3})
    of = found(runs, invocation=first)
    assert of.comparison == compare(runs.folder, "se_ratio", invocation=first)
    assert of.comparison.overrides == {}
    assert "+0.83" in of.findings[0].measured, "claims are judged in that setting too"


# The story


def test_every_built_in_ablation_has_its_place_in_the_story_once() -> None:
    told = [name for _, _, names in registry.contents().chapters for name in names]
    assert sorted(told) == BUILT_IN.names()


def test_the_story_begins_with_the_ladder_and_has_all_ablations(runs: Any) -> None:
    runs.study()
    told = load_chapters(runs.folder, BUILT_IN)
    assert told[0].entries[0].name == "writeup_ladder"
    names = [entry.name for chapter in told for entry in chapter.entries]
    assert sorted(names) == BUILT_IN.names()
    measured = [entry.name for chapter in told for entry in chapter.entries if isinstance(entry, AblationPage)]
    assert measured == ["se_ratio"]


def test_what_was_not_run_is_told_with_its_claims_and_what_would_measure_it(runs: Any) -> None:
    (ladder,) = load_chapters(runs.folder, BUILT_IN)[0].entries
    assert isinstance(ladder, UnmeasuredAblation)
    assert {finding.status for finding in ladder.findings} == {"not measured"}
    assert ladder.command == "cifar-lab run-ablation writeup_ladder"


def test_what_was_run_in_another_setting_only_is_not_measured(runs: Any) -> None:
    runs.study()
    told = load_chapters(runs.folder, [SE_RATIO], scale="writeup")
    (entry,) = told[0].entries
    assert isinstance(entry, UnmeasuredAblation)
    assert entry.command == "cifar-lab run-ablation se_ratio --scale writeup"


def test_overrides_select_the_setting_of_every_ablation(runs: Any) -> None:
    overrides = {"train.protocol": "writeup"}
    ((entry,),) = (chapter.entries for chapter in load_chapters(runs.folder, [SE_RATIO], overrides=overrides))
    assert isinstance(entry, UnmeasuredAblation)
    assert entry.command == "cifar-lab run-ablation se_ratio train.protocol=writeup"
    runs.study()
    runs.study(recipe="other", protocol="writeup", overrides=overrides)
    runs.study()
    ((entry,),) = (chapter.entries for chapter in load_chapters(runs.folder, [SE_RATIO], overrides=overrides))
    assert isinstance(entry, AblationPage)
    assert entry.comparison.protocol == "writeup"


def test_ablations_of_the_users_own_come_last(runs: Any) -> None:
    own = SE_RATIO.model_copy(update={"name": "mine"})
    told = load_chapters(runs.folder, [own, SE_RATIO])
    assert [(chapter.title, [entry.name for entry in chapter.entries]) for chapter in told] == [
        ("The factors it varied", ["se_ratio"]), (OTHERS[0], ["mine"]),
    ]  # fmt: skip
    assert all(isinstance(chapter, Chapter) for chapter in told)


def test_a_note_that_cannot_be_read_is_named_with_its_ablation_and_is_not_a_gap(runs: Any) -> None:
    runs.study()
    (runs.folder / "invocations" / "20261122T210009.000-se_ratio.json").write_text("{")
    studies = [entry for chapter in load_chapters(runs.folder, BUILT_IN) for entry in chapter.entries]
    (found,) = [entry for entry in studies if isinstance(entry, AblationPage)]
    (line,) = found.comparison.damage
    assert "20261122T210009.000-se_ratio.json: damaged: not JSON" in line


def test_a_damaged_cell_is_a_cell_of_the_page_and_its_damage_is_said(runs: Any) -> None:
    runs.study()
    record = CellRecord(runs.folder / runs.cell("r4", 0).fingerprint)
    (record.folder / "result.json").write_text("{}")
    found = load_ablation_page(runs.folder, BUILT_IN.find("se_ratio"))
    assert [cell.state for cell in found.cells if cell.asked.variant == "r4"] == ["damaged", "finished", "finished"]
    assert "result.json: damaged: 'epoch' is missing" in found.comparison.damage[0]
    assert {row.variant: (row.n, row.damaged) for row in found.comparison.rows} == {"r16": (3, 0), "r4": (2, 1)}


# Which setting


CLAIMED: dict[str, Any] = {"scale": "writeup", "protocol": "writeup", "overrides": {"train.protocol": "writeup"}}


def test_without_a_setting_it_is_the_one_that_verify_judges_and_not_the_latest(runs: Any) -> None:
    full = runs.study(recipe="full", **CLAIMED)
    smoke = runs.study(recipe="smoke", scale="smoke", r4=(0.1, 0.2, 0.3))
    (judged, *_) = judge_claims(runs.folder, SE_RATIO)
    assert judged.setting is not None
    of = found(runs)
    assert of.comparison.invocation == judged.setting.latest.id == full
    assert [finding.status for finding in of.findings] == [each.status for each in judge_claims(runs.folder, SE_RATIO)]
    ((entry,),) = (chapter.entries for chapter in load_chapters(runs.folder, [SE_RATIO]))
    assert isinstance(entry, AblationPage)
    assert entry.comparison == of.comparison
    assert any(smoke in line for line in table_notes.footer(of.comparison)), "the other setting is listed"


def test_whoever_names_a_setting_gets_that_one(runs: Any) -> None:
    full = runs.study(recipe="full", **CLAIMED)
    smoke = runs.study(recipe="smoke", scale="smoke")
    assert found(runs, scale="smoke").comparison.invocation == smoke
    assert found(runs, data="cifar10").comparison.invocation == smoke, "the latest without overrides"
    assert found(runs, invocation=smoke).comparison.invocation == smoke
    assert found(runs, overrides={"train.protocol": "writeup"}).comparison.invocation == full
    assert compare(runs.folder, "se_ratio").invocation == smoke, "compare reads the latest"


def test_an_ablation_without_claims_is_told_in_its_latest_setting_without_overrides(runs: Any) -> None:
    silent = SE_RATIO.model_copy(update={"claims": ()})
    plain = runs.study()
    changed = runs.study(recipe="other", overrides={"train.epochs": 3})
    of = load_ablation_page(runs.folder, silent)
    assert of.comparison.invocation == plain
    assert any(changed in line for line in table_notes.footer(of.comparison))


def test_a_claim_of_one_variant_is_told_apart_from_those_of_a_difference(runs: Any) -> None:
    runs.study()
    assert {finding.is_difference for finding in found(runs).findings} == {True}
    ladder = BUILT_IN.find("writeup_ladder")
    runs.ask([runs.cell(name, 0) for name in ("s1", "s2")], ablation="writeup_ladder", control="s1")
    told = load_ablation_page(runs.folder, ladder).findings
    assert [each.is_difference for each in told] == [claim.worse is not None for claim in ladder.claims]
    assert {each.is_difference for each in told} == {True, False}
