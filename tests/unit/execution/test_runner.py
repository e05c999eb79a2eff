"""A run with the engine and the upload that it is given."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import records
from made.in_process_engine import InProcessEngine
from made.tiny_cells import TINY

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.config.execution import Execution
from cifar_lab.config.scale import find_scale
from cifar_lab.data import load
from cifar_lab.execution.engine import ENGINES, LOCAL
from cifar_lab.execution.plan import Plan, make_plan
from cifar_lab.execution.progress_lines import ProgressLines
from cifar_lab.execution.runner import RunReport, carry_out
from cifar_lab.results.compare import compare
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import Invocation, RecordedCommand, StoppingRule
from cifar_lab.store.invocation_index import read_index

ABLATION = Ablation(
    name="tiny", question="Does dropout matter?", source="the tests", baseline=TINY, factors=("model.dropout",),
    variants=(Variant(name="off"), Variant(name="on", diff={"model.dropout": 0.2})), control="off", seeds=(0,),
)  # fmt: skip


class Noted:
    """Upload that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.invocations: list[Invocation] = []

    def update(self, invocation: Invocation, *, trains: bool) -> None:
        self.invocations.append(invocation)
        self.calls.append(("update", trains))

    def started(self, fingerprint: str) -> None:
        self.calls.append(("started", fingerprint))

    def finish(self) -> None:
        self.calls.append("finish")


NOISE = Ablation(
    name="noise", question="How far do seeds move it?", source="the tests", baseline=TINY, factors=(),
    variants=(Variant(name="control"),), control="control", seeds=tuple(range(6)),
)  # fmt: skip
"""The control of `ABLATION` under another name, in six seeds."""


def ended(ablation: Ablation, runs: Path, images: Path, **fields: Any) -> Invocation:
    """Carry out the plan of `ablation` with all of its cells finished; return its note."""
    source, upload = str(images), Noted()
    plan = make_plan(ablation, scale=find_scale("writeup"), source=source, dataset=load(source), runs=runs)
    for cell in plan.cells:
        if not cell.is_done:
            accuracy = 0.5 + 0.01 * (cell.seed % 3) - 0.1 * (cell.variant == "on")
            records.end(records.begin(CellRecord(runs / cell.fingerprint), seed=cell.seed), {"test/acc": accuracy})
    plan = replace(plan, cells=tuple(replace(cell, state="finished") for cell in plan.cells))
    carry_out(
        plan, runs=runs, execution=Execution(device="cpu", threads=1, precision="auto"), workers=1,
        command=RecordedCommand(typed="typed"), upload=upload, say=lambda _: None,
        listener=ProgressLines({}, lambda _: None), **fields,
    )  # fmt: skip
    return upload.invocations[-1]


def test_a_single_comparison_that_begins_with_a_history_stores_its_prior(tmp_path: Path, few_images: Path) -> None:
    noise = ended(NOISE, tmp_path, few_images)
    assert noise.prior is None, "it compares nothing"
    first = ended(ABLATION.model_copy(update={"seeds": (0, 1)}), tmp_path, few_images)
    assert first.prior is not None
    assert first.prior.variance == pytest.approx(statistics.variance([0.5, 0.51, 0.52] * 2))
    assert set(first.prior.fingerprints) == {cell.fingerprint for cell in noise.cells}
    assert first.prior.ablations == ("noise",)
    again = ended(ABLATION.model_copy(update={"seeds": (2,)}), tmp_path, few_images)
    assert again.prior is None, "the prior of a setting is fixed when it begins"
    comparison = compare(tmp_path, "tiny")
    assert comparison.prior == first.prior
    (row,) = (row for row in comparison.rows if row.variant == "on")
    assert (row.pairs, row.level, row.difference_std) == (3, None, 0.0)
    assert row.critical is not None


def test_without_enough_earlier_cells_or_with_several_variants_there_is_no_prior(
    tmp_path: Path, few_images: Path
) -> None:
    ended(NOISE.model_copy(update={"seeds": (0, 1, 2, 3)}), tmp_path, few_images)
    assert ended(ABLATION, tmp_path, few_images).prior is None
    ended(NOISE, tmp_path, few_images)
    assert ended(ABLATION, tmp_path, few_images).prior is None, "it began without one"
    more = (*ABLATION.variants, Variant(name="half", diff={"model.dropout": 0.5}))
    several = ABLATION.model_copy(update={"name": "several", "variants": more})
    assert ended(several, tmp_path, few_images).prior is None


def test_a_study_with_a_stopping_rule_stores_no_prior(tmp_path: Path, few_images: Path) -> None:
    ended(NOISE, tmp_path, few_images)
    rule = StoppingRule(looks=(5, 12), levels=(0.98, 0.97), comparisons=1)
    note = ended(ABLATION, tmp_path, few_images, stopping=rule)
    assert (note.prior, note.design) == (None, "student")
    assert ended(ABLATION, tmp_path, few_images, stopping=replace(rule, family="any", critical=(4.0, 3.5))).design == (
        "moderated"
    )


def run(runs: Path, images: Path, monkeypatch: pytest.MonkeyPatch, upload: Noted) -> tuple[RunReport, Plan, list[str]]:
    """Carry out the plan of `ABLATION`; return its report, the plan, and the lines that were said."""
    monkeypatch.setitem(ENGINES, LOCAL, InProcessEngine)
    source, lines = str(images), list[str]()
    plan = make_plan(ABLATION, scale=find_scale("writeup"), source=source, dataset=load(source), runs=runs)
    report = carry_out(
        plan, runs=runs, execution=Execution(device="cpu", threads=1, precision="auto"), workers=1,
        command=RecordedCommand(typed="typed", again="again", retry="retry"), upload=upload, say=lines.append,
        listener=ProgressLines({cell.fingerprint: cell.name for cell in plan.cells}, lines.append),
    )  # fmt: skip
    return report, plan, lines


def test_the_upload_gets_the_invocation_then_each_cell_that_is_begun_and_is_finished_last(
    tmp_path: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Noted()
    report, plan, lines = run(tmp_path, few_images, monkeypatch, upload)
    cells = [("started", cell.fingerprint) for cell in plan.cells]
    assert upload.calls == [("update", True), *cells, "finish"]
    assert (report.trained, report.reused) == (2, 0)
    assert [line.partition(":")[0] for line in lines if line.endswith(" of 2]")] == ["off/s0", "on/s0"]
    (note,) = read_index(tmp_path).invocations
    assert upload.invocations == [note]
    assert (note.id, note.command, note.again, note.retry) == (report.invocation, "typed", "again", "retry")


def test_without_a_cell_to_train_the_upload_is_told_so_and_no_engine_is_made(
    tmp_path: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, few_images, monkeypatch, Noted())
    upload = Noted()
    monkeypatch.setattr("cifar_lab.execution.runner.make_engine", None)
    report, _, _ = run(tmp_path, few_images, monkeypatch, upload)
    assert upload.calls == [("update", False), "finish"]
    assert (report.trained, report.reused) == (0, 2)
