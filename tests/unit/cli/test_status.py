"""Output of `failures` and `status` on cells that failed, diverged or are damaged."""

from __future__ import annotations

from dataclasses import replace

from made import records

from cifar_lab.cli import status
from cifar_lab.inspect.failures import DivergedCell, FailedCell
from cifar_lab.inspect.progress import CellProgress
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.record_files import FailureFile
from cifar_lab.store.selection import CellName

FAILED = FailedCell(
    name=CellName("se_ratio", "r4", 0), fingerprint="a" * 64,
    failure=FailureFile(error="RuntimeError: out of memory", time=1, trace="here"),
    again="cifar-lab run-ablation se_ratio --retry-failed",
)  # fmt: skip
DIVERGED = DivergedCell(
    name=CellName("se_ratio", "r2", 1), fingerprint="b" * 64,
    result=records.result_file(status="diverged", epoch=3, step=17),
)  # fmt: skip


def lines(failed: list[FailedCell], diverged: list[DivergedCell]) -> list[str]:
    return [line.plain for line in status._failure_lines(failed, diverged, [], False)]


def test_what_failed_and_what_diverged_have_headings_of_their_own() -> None:
    said = lines([FAILED], [DIVERGED])
    assert said[0] == "failed:"
    assert said.index("RuntimeError: out of memory") < said.index("diverged, which is a result:")
    assert "in epoch 3 at step 17" in said[said.index("diverged, which is a result:") + 1]
    assert said[-1] == "1 failed"


def test_a_heading_of_nothing_is_left_out() -> None:
    assert lines([], [DIVERGED])[0] == "diverged, which is a result:"
    assert "failed:" not in lines([], [DIVERGED])
    assert "diverged, which is a result:" not in lines([FAILED], [])
    assert lines([], []) == ["no failures"]


def test_an_error_that_is_its_whole_trace_is_shown_once() -> None:
    error = "its process was killed by SIGKILL (out of memory?)"
    killed = replace(FAILED, failure=FailureFile(error=error, time=1, trace=f"{error}\n"))
    assert [line for line in lines([killed], []) if "SIGKILL" in line] == [error]


def test_status_says_at_which_step_a_cell_diverged() -> None:
    asked = CellRef(
        variant="r2", seed=1, fingerprint="b" * 64, recipe="r", parameters=1, parameters_trained=1, macs=1
    )  # fmt: skip
    cell = CellProgress(asked=asked, state="diverged", epoch=3, step=17)
    assert "diverged in epoch 3 at step 17" in list(status._notes(cell, "se_ratio"))
