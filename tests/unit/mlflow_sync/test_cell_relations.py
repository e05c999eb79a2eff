"""Relations of cells to the invocations of a runs folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.invocation_index import InvocationIndex


def test_a_cell_is_compared_with_the_control_of_its_seed_and_the_control_with_itself(study: Any) -> None:
    history = InvocationHistory(InvocationIndex((study.invocation(),)))
    for variant in ("r4", "r16"):
        reference = history.standing("se_ratio", study.asked(variant, 1).fingerprint).reference
        assert reference == study.asked("r16", 1)


def test_without_the_control_or_with_nothing_else_there_is_no_comparison(study: Any) -> None:
    for variant in ("r4", "r16"):
        history = InvocationHistory(InvocationIndex((study.invocation(variants=(variant,)),)))
        assert history.standing("se_ratio", study.asked(variant, 0).fingerprint).reference is None


def test_a_cell_of_a_recipe_that_its_variant_has_no_more_is_a_replicate_no_more(study: Any) -> None:
    early = study.invocation()
    cells = tuple(_changed(cell) if cell.variant == "r4" else cell for cell in early.cells)
    late = replace(early, id="20260102T000000.000-se_ratio", cells=cells)
    history = InvocationHistory(InvocationIndex((early, late)))
    old, new, control = (study.asked("r4", 0), _changed(study.asked("r4", 0)), study.asked("r16", 0))
    standings = {cell.fingerprint: history.standing("se_ratio", cell.fingerprint) for cell in (old, new, control)}
    assert standings[old.fingerprint].settings == {early.key.digest: False}
    assert standings[new.fingerprint].settings == standings[control.fingerprint].settings == {early.key.digest: True}
    assert standings[old.fingerprint].reference is None
    assert standings[new.fingerprint].reference == control
    assert standings[new.fingerprint].since == late.time


def test_settings_have_views_of_their_own_and_each_names_its_overrides(study: Any) -> None:
    plain = study.invocation()
    other = study.invocation(overrides={"train.epochs": 3, "schedule.name": "cosine"}, time="20260102T000000.000")
    history = InvocationHistory(InvocationIndex((plain, other)))
    assert history.view(plain).name == "smoke · synthetic"
    assert history.view(other).name == "smoke · synthetic · train.epochs=3 schedule.name=cosine"
    assert history.view(plain).key != history.view(other).key


def test_every_invocation_of_a_setting_makes_the_same_view(study: Any) -> None:
    early = study.invocation(variants=("r4",))
    late = study.invocation(variants=("r16",), time="20260102T000000.000")
    history = InvocationHistory(InvocationIndex((early, late)))
    assert history.view(early).value() == history.view(late).value()
    assert history.view(early).variants == ("r4", "r16")


def test_the_writeups_protocol_is_ordered_by_its_peak(study: Any) -> None:
    assert InvocationHistory(InvocationIndex()).view(study.invocation(protocol="writeup")).metric == "test/peak_acc"


def _changed(cell: CellRef) -> CellRef:
    return replace(cell, fingerprint=f"{cell.seed}" * 64, recipe="another")


def test_a_recipe_that_a_variant_has_again_brings_its_cells_back(study: Any) -> None:
    first = study.invocation()
    changed = tuple(_changed(cell) if cell.variant == "r16" else cell for cell in first.cells)
    second = replace(first, id="20260102T000000.000-se_ratio", cells=changed)
    third = replace(first, id="20260103T000000.000-se_ratio", cells=first.cells[:2])
    history = InvocationHistory(InvocationIndex((first, second, third)))
    for seed in (0, 1):
        standing = history.standing("se_ratio", study.asked("r4", seed).fingerprint)
        assert standing.reference == study.asked("r16", seed)
        assert standing.since == third.time, "it was another one meanwhile"
