"""A run with the engine and the upload that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
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
from cifar_lab.store.invocation import Invocation, RecordedCommand
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
