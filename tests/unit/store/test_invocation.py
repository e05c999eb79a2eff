"""Invocations of one setting are read as one study."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.errors import DamageError
from cifar_lab.store import checksum
from cifar_lab.store.invocation import CellRef, Invocation, StoppingRule, VariancePrior, read_invocation, unite
from cifar_lab.store.invocation_index import read_index


def _asked(variant: str, seed: int, recipe: str = "old") -> CellRef:
    print_ = f"{variant}{seed}{recipe}"
    return CellRef(
        variant=variant,
        seed=seed,
        fingerprint=hashlib.sha256(print_.encode()).hexdigest(),
        recipe=recipe + variant,
        parameters=1,
        parameters_trained=1,
        macs=1,
    )


def _invocation(time: str, *cells: CellRef) -> Invocation:
    return records.invocation(
        *cells,
        id=f"{time}-study",
        ablation="study",
        factors=("model.width",),
        control="a",
        scale="smoke",
        data=records.SYNTHETIC,
        overrides={"train.epochs": 2},
        command="cifar-lab",
    )


EARLY = _invocation("20260101T000000.000", _asked("a", 0), _asked("b", 0))


def test_it_is_read_as_it_was_written_the_oldest_first(tmp_path: Path) -> None:
    late = replace(EARLY, id="20260102T000000.000-study")
    late.write(tmp_path)
    EARLY.write(tmp_path)
    assert read_index(tmp_path).invocations == (
        EARLY,
        late,
    )
    assert read_index(tmp_path / "nowhere").invocations == ()


def test_its_id_tells_its_time() -> None:
    assert replace(EARLY, id="19700101T000001.250-study-with-dashes").time == 1250


def damaged_as(runs: Path, **changed: object) -> str:
    """The rule that a note of an earlier version breaks once its fields are `changed`."""
    EARLY.write(runs)
    (path,) = (runs / "invocations").glob("*.json")
    tree = json.loads(path.read_text())
    del tree["sha256"]
    path.write_text(json.dumps({**tree, **changed}))
    with pytest.raises(DamageError) as refusal:
        read_invocation(path)
    assert read_index(runs).invocations == ()
    assert [str(error) for error in read_index(runs).damage.values()] == [str(refusal.value)]
    return str(refusal.value).removeprefix(f"{path}: damaged: ")


def test_a_note_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    EARLY.write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    tree = json.loads(path.read_text())
    del tree["sha256"]
    path.write_text(json.dumps(tree))
    assert read_index(tmp_path).invocations == (EARLY,)


FIRST = ("id", "ablation", "question", "factors", "control", "scale", "protocol", "data", "overrides", "cells",
         "command", "execution")  # fmt: skip
"""The fields of the first notes; every other one came later."""


@pytest.mark.parametrize("sealed", [True, False])
def test_a_note_without_the_fields_of_today_is_read_with_their_defaults(tmp_path: Path, sealed: bool) -> None:
    EARLY.write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    tree = {name: value for name, value in json.loads(path.read_text()).items() if name in FIRST}
    path.write_text(json.dumps(checksum.seal(tree) if sealed else tree))
    assert read_index(tmp_path).invocations == (EARLY,)
    assert read_index(tmp_path).damage == {}


def test_a_rule_without_the_fields_of_today_is_read_with_their_defaults(tmp_path: Path) -> None:
    rule = StoppingRule(looks=(2, 4), levels=(0.97, 0.96), comparisons=3)
    replace(EARLY, stopping=rule).write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    tree = json.loads(path.read_text())
    tree["stopping"] = {name: tree["stopping"][name] for name in ("looks", "levels", "comparisons")}
    del tree["sha256"]
    path.write_text(json.dumps(tree))
    assert [note.stopping for note in read_index(tmp_path).invocations] == [rule]


MODERATED_RULE = StoppingRule(
    looks=(5, 8), levels=(0.97, 0.96), comparisons=3, family="any", critical=(4.2, 3.9), moderates_all=True
)
PRIOR = VariancePrior(variance=1e-6, metric="test/acc", fingerprints=("1" * 64, "2" * 64), ablations=("noise_floor",))


def test_critical_values_and_a_prior_are_read_as_they_were_written(tmp_path: Path) -> None:
    replace(EARLY, stopping=MODERATED_RULE, prior=PRIOR).write(tmp_path)
    (note,) = read_index(tmp_path).invocations
    assert (note.stopping, note.prior) == (MODERATED_RULE, PRIOR)


@pytest.mark.parametrize(
    ("field", "changed", "said"),
    [
        ("stopping", {"critical": [4.2]}, "'critical' has a positive number for each look"),
        ("stopping", {"critical": [4.2, 0.0]}, "'critical' has a positive number for each look"),
        ("stopping", {"critical": []}, "'critical' and 'family' are both there or both not"),
        ("stopping", {"family": None}, "'critical' and 'family' are both there or both not"),
        ("stopping", {"family": "chain"}, "'stopping.family'"),
        ("stopping", {"family": None, "critical": []}, "'moderates_all' needs 'critical'"),
        ("prior", {"variance": 0.0}, "'variance' is a positive number"),
        ("prior", {"fingerprints": ["1" * 64]}, "'fingerprints' are two different cells at least"),
        ("prior", {"fingerprints": ["1" * 64] * 2}, "'fingerprints' are two different cells at least"),
        ("prior", {"fingerprints": ["..", "x"]}, "a fingerprint has 64 of the digits"),
    ],
)
def test_boundaries_and_priors_that_cannot_be_are_damage(
    field: str, changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    replace(EARLY, stopping=MODERATED_RULE, prior=PRIOR).write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    tree = json.loads(path.read_text())
    tree[field] |= changed
    del tree["sha256"]
    path.write_text(json.dumps(tree))
    with pytest.raises(DamageError, match=re.escape(said)):
        read_invocation(path)


@pytest.mark.parametrize("field", FIRST)
def test_a_note_without_a_field_of_the_first_ones_is_damaged(tmp_path: Path, field: str) -> None:
    EARLY.write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    tree = {name: value for name, value in json.loads(path.read_text()).items() if name not in {field, "sha256"}}
    path.write_text(json.dumps(tree))
    with pytest.raises(DamageError, match=f"'{field}': is missing"):
        read_invocation(path)


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    EARLY.write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    tree = json.loads(path.read_text())
    cells = [{**cell, "node": "a1"} for cell in tree["cells"]]
    path.write_text(json.dumps(checksum.seal({**tree, "priority": "high", "cells": cells})))
    assert read_index(tmp_path).invocations == (EARLY,)


def test_hidden_and_companion_files_are_no_notes(tmp_path: Path) -> None:
    EARLY.write(tmp_path)
    for name in ("._20260101T000000.000-study.json", ".DS_Store", ".20260101T000000.000-study.json.7.partial"):
        (tmp_path / "invocations" / name).write_bytes(b"\0\5\26\7")
    assert read_index(tmp_path).invocations == (EARLY,)
    assert read_index(tmp_path).damage == {}


def test_a_changed_digit_is_noticed(tmp_path: Path) -> None:
    EARLY.write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    path.write_text(path.read_text().replace('"macs": 1', '"macs": 2', 1))
    with pytest.raises(DamageError, match="its checksum does not match"):
        read_invocation(path)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("id", "x026", "'id': an id begins with its time, 20261122T210000.123-"),
        ("cells", [{"variant": "a", "seed": "0"}], "'cells.0.seed': should be an integer"),
        ("margin", "0.1", "'margin': should be a number"),
        (
            "data",
            {"name": "x", "kind": "path", "hash": 7, "source": "x"},
            "'data.hash': should be text",
        ),
        ("factors", None, "'factors': should be a list"),
        ("overrides", [], "'overrides': should be an object"),
    ],
)
def test_a_field_of_a_wrong_type_is_damage(tmp_path: Path, field: str, value: object, rule: str) -> None:
    assert damaged_as(tmp_path, **{field: value}) == rule


def test_what_is_damaged_is_named_by_ablation_and_not_written_over(tmp_path: Path) -> None:
    EARLY.write(tmp_path)
    (path,) = (tmp_path / "invocations").glob("*.json")
    path.write_text("{")
    assert len(read_index(tmp_path).damage_of("study")) == 1
    assert read_index(tmp_path).damage_of("other") == []
    with pytest.raises(DamageError, match="not JSON"):
        EARLY.write(tmp_path)
    assert path.read_text() == "{"


def test_ids_follow_each_other_though_the_clock_was_set_back(tmp_path: Path) -> None:
    assert EARLY.after_all(tmp_path) == EARLY
    EARLY.write(tmp_path)
    earlier = replace(EARLY, id="20251231T230000.000-other-study")
    later = earlier.after_all(tmp_path)
    assert later.id == "20260101T000000.001-other-study"
    later.write(tmp_path)
    assert [note.id for note in read_index(tmp_path).invocations] == [EARLY.id, later.id]
    assert replace(EARLY, id="20260101T000000.002-x").after_all(tmp_path).id == "20260101T000000.002-x"


def test_seeds_added_later_join() -> None:
    late = _invocation("20260102T000000.000", _asked("a", 0), _asked("a", 1))
    assert [(cell.variant, cell.seed) for cell in unite([EARLY, late])] == [("a", 0), ("b", 0), ("a", 1)]


def test_a_changed_recipe_replaces_its_variant_and_no_other() -> None:
    late = _invocation("20260102T000000.000", _asked("a", 1, "new"))
    assert [cell.fingerprint for cell in unite([EARLY, late])] == [
        hashlib.sha256(name).hexdigest() for name in (b"b0old", b"a1new")
    ]


def test_a_setting_is_ablation_scale_data_and_overrides() -> None:
    assert EARLY.key == replace(EARLY, id="x", command="y").key
    assert EARLY.key != replace(EARLY, overrides={}).key
    assert EARLY.key != replace(EARLY, scale="small").key
