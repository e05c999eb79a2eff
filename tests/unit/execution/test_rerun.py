"""A cell that is trained anew is executed as its record was, and is named as everybody knows it."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_lab.config.execution import Execution
from cifar_lab.errors import UsageError
from cifar_lab.execution.plan import PlannedCell
from cifar_lab.execution.rerun import executed_as, find_planned_cell, known_as
from cifar_lab.store.invocation import CellRef

CHOSEN = Execution(device="cpu", threads=1, precision="auto")
BEFORE = {"device": "cpu", "threads": 7, "precision": "bf16", "compile": True}


class _Named:
    """Minimal plan with the fields for a name."""

    class ablation:  # noqa: N801 (in place of an attribute)
        name = "se_ratio"


def cell(asked: CellRef) -> PlannedCell:
    held: Any = None  # recipes are not looked at
    return PlannedCell(
        variant=asked.variant, seed=asked.seed, declared=held, recipe=held, fingerprint=asked.fingerprint,
        state="finished", lineage=asked.recipe,
    )  # fmt: skip


def test_device_threads_and_compile_are_those_of_the_record_and_precision_is_resolved_anew(runs: Any) -> None:
    asked = runs.cell("r4", 0)
    runs.end(asked, 0.9, execution=BEFORE)
    expected = Execution(device="cpu", threads=7, precision="auto", compile=True)
    assert executed_as([cell(asked), cell(runs.cell("r4", 1))], runs.folder, CHOSEN) == expected


def test_what_was_never_trained_is_executed_as_chosen(runs: Any) -> None:
    assert executed_as([cell(runs.cell("r4", 0))], runs.folder, CHOSEN) == CHOSEN


def test_records_that_were_made_differently_or_elsewhere_are_not_redone_in_silence(
    runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = runs.cell("r4", 0), runs.cell("r4", 1)
    runs.end(one, 0.9, execution=BEFORE)
    runs.end(other, 0.9, execution={**BEFORE, "threads": 2})
    with pytest.raises(UsageError, match="one by one"):
        executed_as([cell(one), cell(other)], runs.folder, CHOSEN)
    monkeypatch.setattr("cifar_lab.execution.rerun.is_there", lambda device: device == "cpu")
    third = runs.cell("r4", 2)
    runs.end(third, 0.9, execution={**BEFORE, "device": "cuda"})
    with pytest.raises(UsageError, match="on cuda before"):
        executed_as([cell(third)], runs.folder, CHOSEN)


def test_a_cell_that_others_share_is_named_with_them(runs: Any) -> None:
    plan: Any = _Named
    asked = runs.cell("r16", 0)
    runs.ask([asked, runs.cell("r16", 1)])
    assert known_as(cell(asked), plan, runs.folder) == "r16/s0"
    runs.ask([CellRef(**{**asked.__dict__, "variant": "base"})], ablation="layers")
    assert known_as(cell(asked), plan, runs.folder) == "r16/s0 (layers base/s0, too)"


def test_a_damaged_record_does_not_say_how_it_was_executed_and_is_set_aside(runs: Any) -> None:
    asked = runs.cell("r4", 0)
    record = runs.end(asked, 0.9, execution=BEFORE)
    (record.folder / "cell.json").write_text("{")
    (record.folder / "result.json").write_text("")
    assert executed_as([cell(asked)], runs.folder, CHOSEN) == CHOSEN
    assert record.is_begun
    place = record.set_aside()
    assert (place / "cell.json").read_text() == "{"
    assert record.state() == "missing"


def test_a_cell_is_found_by_the_beginning_of_its_fingerprint_in_either_case(runs: Any) -> None:
    plan: Any = _Named()
    plan.cells = [cell(runs.cell("r16", seed)) for seed in range(3)]
    wanted = next(each for each in plan.cells if any(letter in "abcdef" for letter in each.fingerprint[:12]))
    assert find_planned_cell(plan, wanted.fingerprint[:12].upper()) == wanted
    with pytest.raises(UsageError, match=r"--redo 0{12}: no cell of se_ratio with a fingerprint that begins so; r16"):
        find_planned_cell(plan, "0" * 12)
