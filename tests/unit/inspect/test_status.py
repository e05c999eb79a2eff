"""Progress of cells, their dependencies, and remaining time, from records written by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.cli import run
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.inference.stored_cells import load_cells
from cifar_lab.inspect.failures import DivergedCell, FailedCell, read_failures
from cifar_lab.inspect.progress import CellProgress
from cifar_lab.inspect.status import AblationStatus, look
from cifar_lab.store.cell_owner import SILENCE
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef, RecordedCommand
from cifar_lab.store.record_files import DataSource
from cifar_lab.store.selection import cell_names, read_settings, select, typed

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print(flush=True)
    input()
"""
NOW = 1_790_000_000.0


@contextmanager
def held(record: CellRecord) -> Iterator[None]:
    """Another process holds the cell's lock."""
    command = [sys.executable, "-c", HOLD, str(record.folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.kill()


def begin(
    runs: Any, asked: CellRef, *ends: float, began: float = NOW - 100, init_from: str | None = None
) -> CellRecord:
    """A cell of ten epochs that began at `began` and wrote an epoch at each of `ends`, in seconds."""
    recipe = Recipe().override({"train.epochs": 10, "init_from": init_from})
    record = records.begin(CellRecord(runs.folder / asked.fingerprint), seed=asked.seed, recipe=recipe)
    events: list[dict[str, Any]] = [{"event": "start", "time": began}, {"event": "resume", "epoch": 0, "step": 0}]
    for epoch, end in enumerate(ends, start=1):
        values = {"val/acc": epoch / 10, "images_per_second": 100.0}
        events.append({"event": "points", "time": end, "epoch": epoch, "values": values})
        events.append({"event": "checkpoint", "time": end, "epoch": epoch, "step": 0})
    lines = [json.dumps({**event, "time": round(1000 * event.get("time", began))}) for event in events]
    (record.folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    return record


def beat(record: CellRecord, when: float) -> None:
    """The cell's owner on this host, an elsewhere that its lock tells of, gave a sign of life."""
    owner = {"host": "here", "pid": 7, "time": round(1000 * when)}
    (record.folder / "owner.json").write_text(json.dumps(owner))


def fail(record: CellRecord) -> None:
    records.fail(record, "RuntimeError: broke", "Traceback\nRuntimeError: broke")


def status(runs: Any, now: float = NOW) -> AblationStatus:
    return look(select(runs.folder, "se_ratio"), runs.folder, now)


def cells(runs: Any, now: float = NOW) -> dict[str, CellProgress]:
    return {cell.name: cell for cell in status(runs, now).cells}


def test_cells_are_counted_by_state_and_a_finished_study_is_settled(runs: Any) -> None:
    runs.study()
    found = status(runs)
    assert found.counts() == {"finished": 6, "diverged": 0, "running": 0, "failed": 0, "missing": 0, "damaged": 0}
    assert (found.is_settled, found.left) == (True, 0.0)
    assert found.cells[0].test == 0.90
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_running_cell_shows_its_epoch_its_owner_and_what_is_left(runs: Any) -> None:
    asked = runs.cell("r16", 0)
    record = begin(runs, asked, NOW - 60, NOW - 40, NOW - 20)
    beat(record, NOW - 5)
    runs.ask([asked])
    with held(record):
        cell = cells(runs)["r16/s0"]
    assert (cell.state, cell.epoch, cell.epochs, cell.val) == ("running", 3, 10, 0.3)
    assert cell.left == pytest.approx(7 * 20 - 20), "seven epochs of 20 s, of which 20 s have passed"
    assert cell.owner is not None
    assert (cell.owner.pid, cell.seen, cell.silent) == (7, round(1000 * (NOW - 5)), None)


def test_one_epoch_alone_gives_the_pace_from_the_start_of_its_attempt(runs: Any) -> None:
    asked = runs.cell("r16", 0)
    record = begin(runs, asked, NOW - 60, began=NOW - 100)
    runs.ask([asked])
    with held(record):
        assert cells(runs)["r16/s0"].left == pytest.approx(9 * 40 - 60)


def test_a_locked_cell_whose_owner_is_silent_says_so(runs: Any) -> None:
    asked = runs.cell("r16", 0)
    record = begin(runs, asked, NOW - 500)
    beat(record, NOW - 300)
    runs.ask([asked])
    with held(record):
        cell = cells(runs)["r16/s0"]
        assert (cell.state, cell.silent, cell.left) == ("running", pytest.approx(300), None)
        assert cells(runs, NOW - 300 + SILENCE)["r16/s0"].silent is None


def test_a_stopped_cell_goes_on_from_its_checkpoint_and_without_one_from_nothing(runs: Any) -> None:
    asked = runs.cell("r16", 0)
    record = begin(runs, asked, NOW - 60, NOW - 40)
    record.checkpoint.write_bytes(b"state")
    runs.ask([asked])
    assert (cells(runs)["r16/s0"].resumes, cells(runs)["r16/s0"].epoch) == (True, 2)
    record.checkpoint.unlink()
    assert (cells(runs)["r16/s0"].resumes, cells(runs)["r16/s0"].epoch) == (False, 0)


def test_a_stopped_cell_has_the_same_words_in_a_status_and_as_a_stored_cell(
    runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, third = (runs.cell("r16", seed) for seed in range(3))
    begin(runs, one, NOW - 60, NOW - 40).checkpoint.write_bytes(b"state")
    begin(runs, other).checkpoint.write_bytes(b"state")
    begin(runs, third, NOW - 60)
    runs.ask([one, other, third])
    words = ["stopped after epoch 2 of 10", "stopped in its first epoch", "missing"]
    stored = load_cells(runs.folder)
    assert [cell.standing for cell in stored] == words
    assert {cell.state for cell in stored} == {"missing"}
    assert stored.caption() == "3 cells: 3 missing (2 stopped)"
    assert [row["state"] for row in stored.shown()] == words
    assert words[0] in stored[0].caption()
    with pytest.raises(UsageError, match=f"is {words[0]}, not finished, and has no logits"):
        stored[0].logits()
    assert run(["status", "se_ratio", "--runs", str(runs.folder)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(word in shown for word in (words[0], words[1], "3 missing (2 stopped)"))


def test_a_cell_that_a_search_stopped_early_is_pruned_and_not_stopped(runs: Any) -> None:
    asked = runs.cell("t000", 0)
    begin(runs, asked, NOW - 60).checkpoint.write_bytes(b"state")
    runs.ask([asked], ablation="search", tags={asked.fingerprint: {"trial_state": "pruned"}})
    (cell,) = load_cells(runs.folder)
    assert (cell.state, cell.standing) == ("pruned", "pruned")


def test_the_rest_is_estimated_from_the_variant_itself_else_from_its_cost(runs: Any) -> None:
    asked = [runs.cell(name, seed) for name in ("r16", "r4") for seed in (0, 1)]
    runs.end(asked[0], 0.9, seconds=100.0)
    runs.end(asked[2], 0.9, seconds=300.0)
    runs.ask([*asked, runs.cell("r2", 0)])
    found = cells(runs)
    lefts = [found[name].left for name in ("r16/s1", "r4/s1", "r2/s0")]
    assert lefts == pytest.approx([100, 300, 200])
    assert status(runs).left == pytest.approx(600), "nobody trains: one at a time"


def test_two_passes_a_step_take_twice_as_long_as_one(runs: Any) -> None:
    plain, sam = runs.cell("off", 0), CellRef(**{**vars(runs.cell("rho0.05", 0)), "passes": 2})
    runs.end(plain, 0.9, seconds=100.0)
    runs.ask([plain, sam])
    assert cells(runs)["rho0.05/s0"].left == pytest.approx(200)


def test_nothing_is_estimated_of_nothing(runs: Any) -> None:
    runs.ask([runs.cell("r16", 0)])
    assert (status(runs).left, cells(runs)["r16/s0"].left) == (None, None)


def test_a_stage_waits_for_the_one_that_it_continues_and_is_stuck_when_that_fails(runs: Any) -> None:
    first, second, third = (runs.cell(name, 0) for name in ("a", "b", "c"))
    second = CellRef(**{**vars(second), "recipe": f"{second.recipe} after {first.recipe}"})
    third = CellRef(**{**vars(third), "recipe": f"{third.recipe} after {second.recipe}"})
    runs.ask([first, second, third])
    assert [cell.waits_for for cell in status(runs).cells] == [None, "a/s0", "b/s0"]
    assert not status(runs).is_settled
    fail(runs.record(first))
    assert [cell.stuck for cell in status(runs).cells] == [False, True, True]
    assert status(runs).is_settled
    runs.end(first, 0.9)
    assert [cell.waits_for for cell in status(runs).cells] == [None, None, "b/s0"]


def test_a_student_waits_for_each_of_its_teachers_and_is_stuck_when_one_fails(runs: Any) -> None:
    first, second, student = (runs.cell(name, 0) for name in ("a", "b", "c"))
    student = CellRef(**{**vars(student), "teachers": (first.fingerprint, second.fingerprint)})
    runs.ask([first, second, student])
    assert cells(runs)["c/s0"].waits_for == "a/s0"
    runs.end(first, 0.9)
    assert cells(runs)["c/s0"].waits_for == "b/s0"
    fail(runs.record(second))
    assert (cells(runs)["c/s0"].waits_for, cells(runs)["c/s0"].stuck) == ("b/s0", True)
    runs.end(second, 0.9)
    assert cells(runs)["c/s0"].waits_for is None


def test_a_cell_that_was_begun_names_its_parent_itself(runs: Any) -> None:
    parent, child = runs.cell("a", 0), runs.cell("b", 0)
    begin(runs, child, init_from=parent.fingerprint)
    runs.ask([child])
    assert cells(runs)["b/s0"].waits_for == parent.fingerprint[:12]
    runs.end(parent, 0.9)
    assert cells(runs)["b/s0"].waits_for is None


def test_the_plan_of_a_chain_says_which_stage_waits_for_which(runs: Any, tiny_ablation: Path) -> None:
    from cifar_lab.ablation.ablation import Variant
    from cifar_lab.ablation.registry import discover
    from cifar_lab.config import scale
    from cifar_lab.config.execution import Execution
    from cifar_lab.data import load
    from cifar_lab.execution.plan import make_plan
    from cifar_lab.execution.runner import invocation_of

    stages = (Variant(name="off"), Variant(name="on", diff={"model.dropout": 0.2}, continues="off"))
    chain = discover(tiny_ablation).find("tiny").model_copy(update={"variants": stages, "chain": True})
    plan = make_plan(
        chain, scale=scale.find_scale("writeup"), source="synthetic", dataset=load("synthetic"), runs=runs.folder
    )
    execution = Execution(device="cpu", threads=1, precision="fp32")
    invocation_of(plan, execution, RecordedCommand(typed="cifar-lab run-ablation tiny")).write(runs.folder)
    found = look(select(runs.folder, "tiny"), runs.folder)
    assert {cell.name: cell.waits_for for cell in found.cells} == {
        "off/s0": None, "on/s0": "off/s0", "off/s1": None, "on/s1": "off/s1",
    }  # fmt: skip


# Settings


def test_the_latest_setting_is_read_with_all_its_invocations_and_the_others_are_named(runs: Any) -> None:
    runs.study()
    runs.study(scale="writeup", recipe="long")
    runs.ask([runs.cell("r16", 9)])
    setting = select(runs.folder, "se_ratio")
    assert (setting.latest.scale, len(setting.invocations), len(setting.cells)) == ("small", 2, 7)
    assert [typed(other) for other in setting.others] == ["--scale writeup --data cifar10"]
    assert select(runs.folder, "se_ratio", scale="writeup").latest.scale == "writeup"
    assert [found.latest.scale for found in read_settings(runs.folder)] == ["writeup", "small"]
    assert cell_names(runs.folder)[runs.cell("r16", 9).fingerprint][0] == ("se_ratio", "r16", 9)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("se_ratios", "did you mean 'se_ratio'"), ("layers", "one of: se_ratio")],
)
def test_a_study_that_was_not_run_is_refused_with_the_nearest_that_was(runs: Any, name: str, hint: str) -> None:
    runs.study()
    with pytest.raises(TrackingError, match=hint):
        select(runs.folder, name)
    with pytest.raises(TrackingError, match="was run as --scale small --data cifar10"):
        select(runs.folder, "se_ratio", scale="smoke")


# Failures


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("cifar-lab run-ablation se_ratio --seeds 0", "cifar-lab run-ablation se_ratio --seeds 0 --retry-failed"),
        ("cifar-lab train --seeds 0", "cifar-lab train --seeds 0"),
        ("cifar_lab.run('se_ratio')", "cifar_lab.run('se_ratio')"),
    ],
)
def test_a_failure_of_an_older_note_has_the_command_that_was_typed(command: str, expected: str, runs: Any) -> None:
    failed = runs.cell("r16", 0)
    fail(runs.record(failed))
    runs.ask([failed], command=command)
    (bad,) = read_failures([select(runs.folder, "se_ratio")], runs.folder)
    assert isinstance(bad, FailedCell)
    assert bad.again == expected


def test_a_failure_comes_with_the_command_that_tries_it_again_and_undoes_nothing_else(runs: Any) -> None:
    failed, diverged = runs.cell("r16", 0), runs.cell("r4", 0)
    fail(runs.record(failed))
    runs.end(diverged, 0.1, status="diverged", epoch=2)
    retry = "cifar-lab run-ablation se_ratio --runs 'my runs' --retry-failed"
    runs.ask([failed, diverged], command="cifar-lab run-ablation se_ratio --json --redo abc", retry=retry)
    found = {type(bad): bad for bad in read_failures([select(runs.folder, "se_ratio")], runs.folder)}
    bad, result = found[FailedCell], found[DivergedCell]
    assert isinstance(bad, FailedCell)
    assert isinstance(result, DivergedCell)
    assert bad.again == retry
    assert (str(bad.name), bad.failure.error) == ("se_ratio r16/s0", "RuntimeError: broke")
    assert (str(result.name), result.result.epoch) == ("se_ratio r4/s0", 2)


def test_failures_of_other_settings_are_counted_beside_the_one_that_is_shown(
    runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, shared, sound = runs.cell("r4", 0), runs.cell("r16", 0), runs.cell("r4", 1)
    for each in (failed, shared):
        fail(runs.record(each))
    runs.end(sound, 0.9)
    earlier = runs.ask([failed, shared], scale="smoke")
    runs.ask([sound])
    command = ["failures", "se_ratio", "--runs", str(runs.folder)]
    assert run(command) == 0, "that of the setting shown"
    said = capsys.readouterr().out
    assert said.startswith("se_ratio · scale small · ")
    assert "no failures in this setting\n" in said
    assert f"2 cells failed or damaged in another setting: --invocation {earlier} (--scale smoke --data " in said
    assert run([*command, "--invocation", earlier]) == 1, "as the line says"
    assert "2 failed" in capsys.readouterr().out
    runs.ask([shared])
    assert run(command) == 1
    assert "1 cell failed or damaged in another setting" in capsys.readouterr().out, "the other one is shown already"


def test_looking_leaves_a_cell_that_was_never_begun_as_it_is(runs: Any) -> None:
    runs.ask([runs.cell("r16", 0)])
    assert cells(runs, time.time())["r16/s0"].state == "missing"
    assert [path.name for path in runs.folder.iterdir()] == ["invocations"]


def test_what_is_printed_has_no_markup_and_keeps_brackets(runs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bad = runs.cell("r4", 0)
    records.fail(runs.record(bad), "ValueError: [red]no[/]", "[bold]here[/]")
    runs.ask(
        [bad],
        overrides={"model.blocks": [4, 4]},
        data=DataSource(name="[red]images[/]", kind="images", hash="5" * 64, source="images"),
    )
    for line, code in (("status", 0), ("status se_ratio", 0), ("failures se_ratio", 1)):
        assert run([*line.split(), "--runs", str(runs.folder)]) == code
        out = capsys.readouterr().out
        assert "[red]failed" not in out
        assert "\\[" not in out
        assert "[red]no[/]" in out or line == "status"
