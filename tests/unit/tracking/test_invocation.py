"""Invocations of one setting are read as one study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cifar_lab.tracking.invocation import Asked, Invocation, read_all, unite


def _asked(variant: str, seed: int, recipe: str = "old") -> Asked:
    print_ = f"{variant}{seed}{recipe}"
    return Asked(
        variant=variant,
        seed=seed,
        fingerprint=print_,
        recipe=recipe + variant,
        parameters=1,
        parameters_trained=1,
        macs=1,
    )


def _invocation(time: str, *cells: Asked) -> Invocation:
    return Invocation(
        id=f"{time}-study",
        ablation="study",
        question="?",
        factors=("model.width",),
        control="a",
        scale="smoke",
        protocol="holdout",
        data={"name": "synthetic", "kind": "synthetic", "hash": "d", "source": "synthetic"},
        overrides={"train.epochs": 2},
        cells=cells,
        command="cifar-lab",
        execution={},
    )


EARLY = _invocation("20260101T000000.000", _asked("a", 0), _asked("b", 0))


def test_it_is_read_as_it_was_written_the_oldest_first(tmp_path: Path) -> None:
    late = replace(EARLY, id="20260102T000000.000-study")
    late.write(tmp_path)
    EARLY.write(tmp_path)
    assert read_all(tmp_path) == [EARLY, late]
    assert read_all(tmp_path / "nowhere") == []


def test_its_id_tells_its_time() -> None:
    assert replace(EARLY, id="19700101T000001.250-study-with-dashes").time == 1250


def test_seeds_added_later_join() -> None:
    late = _invocation("20260102T000000.000", _asked("a", 0), _asked("a", 1))
    assert [(cell.variant, cell.seed) for cell in unite([EARLY, late])] == [("a", 0), ("b", 0), ("a", 1)]


def test_a_changed_recipe_replaces_its_variant_and_no_other() -> None:
    late = _invocation("20260102T000000.000", _asked("a", 1, "new"))
    assert [cell.fingerprint for cell in unite([EARLY, late])] == ["b0old", "a1new"]


def test_a_setting_is_ablation_scale_data_and_overrides() -> None:
    assert EARLY.setting() == replace(EARLY, id="x", command="y").setting()
    assert EARLY.setting() != replace(EARLY, overrides={}).setting()
    assert EARLY.setting() != replace(EARLY, scale="small").setting()
