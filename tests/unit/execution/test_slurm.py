"""Division of cells into tasks, batch scripts as bash runs them, and time limits; Slurm itself is not needed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.cli import run
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError
from cifar_lab.execution.plan import PlannedCell
from cifar_lab.execution.slurm import (
    MOST_TASKS,
    QueuedTask,
    SlurmOptions,
    TaskPlan,
    array_script,
    divide,
    families,
    following_script,
    parse_minutes,
    require_further,
    submit,
    tasks_of_cells,
)
from cifar_lab.store.submission import Submission, SubmittedRequest


def cell(letter: str, *needs: str) -> PlannedCell:
    recipe = Recipe()
    return PlannedCell(variant=letter, seed=0, declared=recipe, recipe=recipe, fingerprint=letter, state="missing",
                       lineage="", needs=needs)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("3:30", 4), ("1:30:00", 90), ("2:00:01", 121), ("1-0", 1440), ("1-12", 2160), ("1-12:30", 2190)],
)
def test_time_limits_read_as_slurms_own(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "-5", "1h", "1:2:3:4", "soon", "0:00:00"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--time reads"):
        parse_minutes(text)


@pytest.mark.parametrize("text", ["1", "2", "2:30", "0:02:00"])
def test_a_time_limit_that_leaves_none_to_train_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--time {text}: a task saves 120 s before its limit, so 3 minutes at least"):
        parse_minutes(text)


@pytest.mark.parametrize(
    "option", ["--array=0-5", "--output=foo.log", "-ofoo.log", "-t5", "--signal=B:TERM@10", "-a 1"]
)
def test_options_that_a_submission_sets_itself_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"--sbatch={option}: a submission sets -"):
        require_further([option])


@pytest.mark.parametrize("option", ["mem=8G", "=foo", " --mem=8G"])
def test_what_is_no_option_of_sbatch_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"--sbatch takes an option of sbatch, --sbatch=--mem=8G, got '{option}'"):
        require_further([option])


def test_other_options_of_sbatch_are_taken() -> None:
    require_further(["--mem=8G", "-C v100", "--exclude=node7", "--mail-type=END,FAIL", "--open", "--arrays"])


def test_stages_that_continue_another_belong_to_its_task() -> None:
    cells = [cell("a"), cell("x"), cell("b", "a"), cell("c", "b", "a"), cell("y", "gone")]
    assert [[each.fingerprint for each in group] for group in families(cells)] == [["a", "b", "c"], ["x"], ["y"]]


def test_a_student_of_several_teachers_is_counted_with_one_of_them() -> None:
    cells = [cell("a"), cell("b"), cell("c", "a", "b"), cell("d", "c", "a", "b")]
    assert [[each.fingerprint for each in group] for group in families(cells)] == [["a", "c", "d"], ["b"]]


def test_a_task_has_about_an_hour_of_cells_and_half_as_much_time_again() -> None:
    cells = [cell(letter) for letter in "abcdefgh"]
    plan = divide(cells, dict.fromkeys("abcdefgh", 1200.0), SlurmOptions())
    assert plan == TaskPlan(tasks=3, cells_per_task=3, minutes=90 + 12)


def test_a_chain_is_never_divided() -> None:
    cells = [cell("a"), cell("b", "a"), cell("c", "b", "a")]
    plan = divide(cells, dict.fromkeys("abc", 3600.0), SlurmOptions())
    assert plan == TaskPlan(tasks=1, cells_per_task=1, minutes=270 + 12)


def test_a_given_time_and_number_are_kept() -> None:
    options = SlurmOptions(minutes=30, cells_per_task=2)
    assert divide([cell(letter) for letter in "abc"], {}, options) == TaskPlan(2, 2, 30)


@pytest.mark.slow
@given(cells=st.integers(1, 5000), each=st.none() | st.integers(1, 100), seconds=st.floats(1, 1e6))
def test_tasks_take_all_cells_within_the_limits_of_an_array(cells: int, each: int | None, seconds: float) -> None:
    made = [cell(str(i)) for i in range(cells)]
    plan = divide(made, {each.fingerprint: seconds for each in made}, SlurmOptions(cells_per_task=each))
    assert plan.tasks <= MOST_TASKS
    assert plan.tasks * plan.cells_per_task >= cells
    assert (plan.tasks - 1) * plan.cells_per_task < cells


def test_options_of_the_cluster_are_lines_of_the_script() -> None:
    options = SlurmOptions(partition="short", account="lab", gres="gpu:1", max_parallel=4, further=("--mem=8G",))
    script = array_script(["true"], "study", TaskPlan(9, 1, 75), options)
    for line in ("--partition=short", "--account=lab", "--gres=gpu:1", "--mem=8G", "--array=0-8%4", "--time=75",
                 "--requeue", "--job-name=study"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    after = following_script([["true"]], "study", options)
    assert "--account=lab" in after
    assert "gres" not in after


CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(%d))
print("on", flush=True)
time.sleep(%s)
sys.exit(%d)
"""
"""Program that ends with a code when it is asked to stop, or by itself."""


def start(tmp_path: Path, *, if_asked: int, after: float = 60, by_itself: int = 0) -> subprocess.Popen[str]:
    """Run a task's script; `scontrol` and `sleep` are replaced by programs that write what they are asked."""
    for name in ("scontrol", "sleep"):
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\necho "{name} $@" >> {tmp_path}/asked\n')
        program.chmod(0o755)
    script = tmp_path / "task.sbatch"
    command = [sys.executable, "-c", CHILD % (if_asked, after, by_itself)]
    script.write_text(array_script(command, "study", TaskPlan(1, 1, 5), SlurmOptions()))
    environment = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin", "SLURM_ARRAY_JOB_ID": "17",
                   "SLURM_ARRAY_TASK_ID": "3"}  # fmt: skip
    process = subprocess.Popen(["bash", str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(0.1)  # the shell waits by now
    return process


def asked(tmp_path: Path) -> str:
    return (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""


@pytest.mark.parametrize("code", [0, 1])
def test_a_task_ends_with_the_code_of_its_program(tmp_path: Path, code: int) -> None:
    process = start(tmp_path, if_asked=130, after=0.2, by_itself=code)
    assert process.wait(10) == code
    assert asked(tmp_path) == ""


def test_before_its_time_limit_a_task_saves_and_is_queued_again(tmp_path: Path) -> None:
    process = start(tmp_path, if_asked=130)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 130
    assert asked(tmp_path) == "scontrol requeue 17_3\n"


def test_a_task_that_ends_at_its_time_limit_is_not_queued_again(tmp_path: Path) -> None:
    process = start(tmp_path, if_asked=0)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 0
    assert asked(tmp_path) == ""


def test_a_cancelled_or_preempted_task_saves_and_leaves_the_queue_to_slurm(tmp_path: Path) -> None:
    process = start(tmp_path, if_asked=130)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 130
    assert asked(tmp_path) == "sleep 120\n"


def test_a_task_whose_limit_comes_before_its_training_says_so_and_is_not_queued_again(tmp_path: Path) -> None:
    process = start(tmp_path, if_asked=143)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 143
    assert asked(tmp_path) == ""
    assert process.stdout is not None
    assert "submit again with a longer --time" in process.stdout.read()


def test_a_task_that_is_preempted_before_its_training_is_left_to_slurm(tmp_path: Path) -> None:
    process = start(tmp_path, if_asked=143)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert asked(tmp_path) == "sleep 120\n"


def _submission(job: str, *shares: tuple[str, ...], older: bool = False) -> Submission:
    request = SubmittedRequest(
        ablation="a", folders=(), scale="smoke", data="synthetic", overrides={}, variants=None, seeds=None,
        max_params=1, device="cpu", workers="1", cells_per_gpu=None, compile=None, graph=None, retry_failed=False,
        patience=None,
    )  # fmt: skip
    cells = tuple(cell for share in shares for cell in share)
    return Submission(request=request, runs="/runs", fingerprints=cells, cells_per_task=1, tasks=len(shares), time=1,
                      shares=() if older else shares, job=job)  # fmt: skip


def test_a_cell_waits_for_the_task_whose_share_it_is_in() -> None:
    tasks = [QueuedTask("17_0", "running", "None"), QueuedTask("17_1", "completing", "None"),
             QueuedTask("18_1", "pending", "Resources"), QueuedTask("20_0", "pending", "Priority")]  # fmt: skip
    submissions = [_submission("17", ("a", "b"), ("c",)), _submission("18", ("d",), ("e",)),
                   _submission("20", ("f",), ("g",), older=True), _submission("21", ("h",))]  # fmt: skip
    found = {cell: task.described() for cell, task in tasks_of_cells(submissions, tasks).items()}
    assert found == {
        "a": "17_0: running", "b": "17_0: running", "e": "18_1: pending (Resources)",
        "f": "20_0: pending (Priority)", "g": "20_0: pending (Priority)",
    }  # fmt: skip


def test_a_refusal_of_sbatch_names_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "sbatch: unrecognized option '--memm=8G'\nTry \"sbatch --help\" for more information"
    (tmp_path / "sbatch").write_text(f"#!/bin/bash\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UsageError, match=r"^sbatch: unrecognized option '--memm=8G'$"):
        submit(tmp_path / "cells.sbatch", "task-%a.log")


def test_logs_are_beside_the_script_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my runs#1 50%a"
    folder.mkdir()
    (tmp_path / "sbatch").write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > "{tmp_path}/given"\necho 17\n')
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert submit(folder / "cells.sbatch", "task-%a.log", after="16") == "17"
    assert (tmp_path / "given").read_text().splitlines() == [
        "--parsable", f"--output={tmp_path}/my runs#1 50%%a/task-%a.log", "--dependency=afterany:16",
        f"{folder}/cells.sbatch",
    ]  # fmt: skip


@pytest.mark.parametrize("refuses", [1, 2], ids=["the array", "the job after it"])
def test_what_slurm_refuses_leaves_no_job_no_note_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], refuses: int
) -> None:
    counted, asked_for = tmp_path / "counted", tmp_path / "cancelled"
    scripts = {
        "sbatch": f'echo x >> {counted}; n=$(wc -l < {counted}); [ "$n" -eq {refuses} ] && '
        '{ echo "sbatch: error: Invalid account" >&2; exit 1; }; echo $((16 + n))',
        "squeue": "true",
        "scancel": f'echo "$1" >> {asked_for}',
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/local/bin:/usr/bin:/bin")
    runs = tmp_path / "runs"
    words = ["run-ablation", "se_ratio", "--scale", "smoke", "--seeds", "0", "--engine", "slurm", "--time", "5"]
    assert run([*words, "--runs", str(runs)]) == 2
    assert "Invalid account" in capfd.readouterr().err
    assert [path for path in runs.rglob("*") if path.is_file()] == []
    assert (asked_for.read_text() if asked_for.exists() else "") == ("17\n" if refuses == 2 else "")


def test_runs_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("sbatch", "squeue"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/local/bin:/usr/bin:/bin")
    words = ["run-ablation", "se_ratio", "--scale", "smoke", "--seeds", "0", "--engine", "slurm", "--time", "5"]
    assert run([*words, "--runs", "/dev/full"]) == 2
    assert "runs folder /dev/full: cannot be written" in capfd.readouterr().err
