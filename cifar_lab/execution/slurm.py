"""Slurm: batch scripts, their submission, and the state of the queue, by the commands `sbatch` and `squeue`.

A submission is an array job whose tasks take cells from the shared runs folder, as runners on one machine do, and a
second job that follows it, whatever became of it. Source: the manual pages of Slurm 22.05 and later.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import NamedTuple

from cifar_lab.errors import Interrupted, TrackingError, UsageError
from cifar_lab.execution.plan import PlannedCell
from cifar_lab.store.submission import Submission

SAVING = 120
"""Seconds before a task's time limit at which it saves and is queued again."""
SHORTEST = SAVING // 60 + 1
"""Shortest time limit in minutes: one that leaves time to train before a task saves."""
OWN = ("--array", "-a", "--output", "-o", "--open-mode", "--signal", "--time", "-t", "--requeue", "--no-requeue")
"""Options of sbatch that a submission sets itself."""
SLACK, STARTING = 1.5, 600.0
"""Factor on estimated seconds, which may be wrong by as much, and seconds for a start on a busy file system."""
HOUR = 3600.0
MOST_TASKS = 1000
"""Maximum number of tasks of an array: Slurm's default limit is 1,001."""
PATIENCE = 20.0
"""Seconds that a command of Slurm may take."""
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
CONCLUDING = "00:30:00"
"""Time limit of the job that compares and reports."""
TASK = Template(
    """#!/bin/bash
$settings
child=; queue_again=; told=
trap 'queue_again=yes; kill -TERM "$$child"' USR1
trap 'told=yes; kill -TERM "$$child"' TERM
$command &
child=$$!
while true; do
  wait "$$child"; code=$$?
  kill -0 "$$child" 2>/dev/null || break
done
wait "$$child"; code=$$?
if [ "$$code" -eq $interrupted ] && [ -n "$$queue_again" ]; then
  scontrol requeue "$${SLURM_ARRAY_JOB_ID}_$${SLURM_ARRAY_TASK_ID}"
elif [ "$$code" -eq 143 ] && [ -n "$$queue_again" ]; then
  echo "not queued again: its time limit came before its training began; submit again with a longer --time"
elif [ -n "$$told" ] && { [ "$$code" -eq $interrupted ] || [ "$$code" -eq 143 ]; }; then
  sleep 120 & wait $$!  # Slurm ends a preempted task itself, and queues it again; one that had ended by then is lost
fi
exit "$$code"
"""
)
"""Script of a task. Slurm signals the shell, which passes the signal on: the program saves, and exits with 130.

It exits with 143 where it had not begun to train: queued again for a limit that is too short, it would never end.
"""


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """Options of a submission; empty or None: the cluster's defaults, or chosen from estimates."""

    partition: str = ""
    account: str = ""
    gres: str = ""
    """Generic resources of a task, `gpu:1`."""
    minutes: int | None = None
    """Time limit of a task; None: from the estimates."""
    cells_per_task: int | None = None
    """None: as many as take about an hour."""
    max_parallel: int | None = None
    """Maximum number of tasks at the same time."""
    further: tuple[str, ...] = ()
    """Further `#SBATCH` options, `--mem=8G`."""

    def lines(self, *, is_training: bool) -> list[str]:
        """Return the options of a batch script; the job that trains nothing needs no resources."""
        named = {"--partition": self.partition, "--account": self.account}
        lines = [f"{name}={value}" for name, value in named.items() if value]
        if is_training:
            lines += [f"--gres={self.gres}"] if self.gres else []
            lines += self.further
        return lines


class TaskPlan(NamedTuple):
    """Division of cells into tasks."""

    tasks: int
    cells_per_task: int
    minutes: int
    """Time limit of each task."""


class QueuedTask(NamedTuple):
    """One task in Slurm's queue."""

    name: str
    """`17_3`."""
    state: str
    """Slurm's word in lower case: `pending`, `running`, `completing`…"""
    reason: str

    def described(self) -> str:
        """Return name and state, `17_3: pending (Resources)`."""
        because = f" ({self.reason})" if self.state == "pending" and self.reason != "None" else ""
        return f"{self.name}: {self.state}{because}"


def parse_minutes(text: str) -> int:
    """Parse a time limit as Slurm reads it: `90` minutes, `1:30:00`, or `1-12` days and hours; rounded up.

    Raises:
        UsageError: the text has another form, or is too short to train in.
    """
    match = TIME.fullmatch(text)
    seconds = 0
    if match is not None:
        days, *parts = match.groups()
        first, second, third = (int(part) if part is not None else None for part in parts)
        if days is not None or third is not None:  # hours:minutes:seconds, the latter two optional after days
            seconds = (int(days or 0) * 24 + (first or 0)) * 3600 + (second or 0) * 60 + (third or 0)
        else:
            seconds = (first or 0) * 60 + (second or 0)
    if seconds <= 0:
        raise UsageError(f"--time reads 90 (minutes), 1:30:00 or 1-12 (days-hours), got '{text}'")
    if seconds < 60 * SHORTEST:
        raise UsageError(f"--time {text}: a task saves {SAVING} s before its limit, so {SHORTEST} minutes at least")
    return math.ceil(seconds / 60)


def require_further(options: Sequence[str]) -> None:
    """Check further options of sbatch.

    Raises:
        UsageError: one does not begin with a dash, or is one that a submission sets itself.
    """
    for option in options:
        name = re.split(r"[=\s]", option)[0]
        if not option.startswith("-"):
            raise UsageError(f"--sbatch takes an option of sbatch, --sbatch=--mem=8G, got '{option}'")
        if name in OWN or (len(name) > 2 and not name.startswith("--") and name[:2] in OWN):
            raise UsageError(f"--sbatch={option}: a submission sets {name} itself; there are --time and --max-parallel")


def require_slurm() -> None:
    """Check that Slurm's commands are here.

    Raises:
        UsageError: they are not.
    """
    if shutil.which("sbatch") is None:
        raise UsageError("--engine slurm: no command `sbatch` here; submit from a login node of the cluster")


def families(cells: Sequence[PlannedCell]) -> list[list[PlannedCell]]:
    """Group cells by an ancestor among them, which one task begins; the others continue it or learn from it in turn.

    A cell with several teachers is counted with one of them: the task that finishes the last of them trains it.
    """
    roots: dict[str, str] = {}
    groups: dict[str, list[PlannedCell]] = {}
    here = {cell.fingerprint for cell in cells}
    for cell in cells:  # parents come before children
        ancestor = next((each for each in cell.needs if each in here), None)
        root = roots.get(ancestor or "", cell.fingerprint)
        roots[cell.fingerprint] = root
        groups.setdefault(root, []).append(cell)
    return list(groups.values())


def divide(cells: Sequence[PlannedCell], estimates: Mapping[str, float], options: SlurmOptions) -> TaskPlan:
    """Divide cells into tasks: about an hour each, unless a number is given.

    `estimates`: seconds by fingerprint; may be empty if `options` have a time limit.
    """
    groups = families(cells)
    longest = max(sum(estimates.get(cell.fingerprint, 0.0) for cell in group) for group in groups)
    each = options.cells_per_task or (max(1, int(HOUR / longest)) if longest else 1)
    each = max(min(each, len(groups)), math.ceil(len(groups) / MOST_TASKS))
    minutes = options.minutes or math.ceil((SLACK * each * longest + STARTING + SAVING) / 60)
    return TaskPlan(math.ceil(len(groups) / each), each, minutes)


def array_script(command: Sequence[str], name: str, plan: TaskPlan, options: SlurmOptions) -> str:
    """Return the batch script of an array job; each task runs `command`, and is queued again at its time limit.

    `name`: of the job.
    """
    at_once = f"%{options.max_parallel}" if options.max_parallel else ""
    lines = [
        f"--job-name={name}", f"--array=0-{plan.tasks - 1}{at_once}", f"--time={plan.minutes}",
        f"--signal=B:USR1@{SAVING}", "--requeue", "--open-mode=append",
        *options.lines(is_training=True),
    ]  # fmt: skip
    return TASK.substitute(
        settings=_settings(lines), command=shlex.join(command), interrupted=Interrupted.exit_code
    )  # fmt: skip


def following_script(commands: Sequence[Sequence[str]], name: str, options: SlurmOptions) -> str:
    """Return the batch script of a job that runs `commands` one after another, the later ones in any case."""
    lines = [f"--job-name={name}", f"--time={CONCLUDING}", *options.lines(is_training=False)]
    return "\n".join(["#!/bin/bash", _settings(lines), *map(shlex.join, commands), ""])


def _settings(lines: Sequence[str]) -> str:
    return "\n".join(f"#SBATCH {line}" for line in lines)


def submit(script: Path, log: str, *, after: str = "") -> str:
    """Submit a batch script and return the job's number.

    Args:
        script: the batch script.
        log: name of the file beside it that is written, with Slurm's `%a` for the number of a task.
        after: job that must have ended, in whatever way.

    Raises:
        UsageError: Slurm refuses it; the message is Slurm's.
    """
    depends = [f"--dependency=afterany:{after}"] if after else []
    output = str(script.parent).replace("%", "%%")  # an argument: in a script `#` begins a comment, a space an option
    answer = _ask(["sbatch", "--parsable", f"--output={output}/{log}", *depends, str(script)])
    if answer.returncode:
        raise UsageError(f"sbatch: {_refusal(answer.stderr)}")
    return answer.stdout.strip().partition(";")[0]  # a cluster's name follows where there are several


def cancel(job: str) -> None:
    """Cancel a job; one that has ended is ignored."""
    _ask(["scancel", job])


def queued(jobs: Sequence[str]) -> list[QueuedTask]:
    """Return the tasks of `jobs` that have not ended.

    Raises:
        TrackingError: Slurm does not answer.
    """
    if not jobs or shutil.which("squeue") is None:
        return []
    answer = _ask(["squeue", "--noheader", "--array", f"--jobs={','.join(jobs)}", "--format=%i|%T|%r"])
    if answer.returncode and "Invalid job id" not in answer.stderr:  # one that ended some time ago
        raise TrackingError(f"squeue: {_refusal(answer.stderr)}")
    rows = [line.split("|") for line in answer.stdout.splitlines() if line.count("|") == 2]
    return [QueuedTask(name, state.lower(), reason) for name, state, reason in rows]


def tasks_of_cells(submissions: Sequence[Submission], tasks: Sequence[QueuedTask]) -> dict[str, QueuedTask]:
    """Return the task that is to train each cell, by fingerprint; none for cells whose task has ended or is ending.

    In a submission of an older version any task stands for all cells.
    """
    found: dict[str, QueuedTask] = {}
    for task in tasks:
        job, _, number = task.name.partition("_")
        if task.state == "completing":
            continue
        for each in submissions:
            if each.job == job:
                share = each.shares[int(number)] if each.shares and number.isdecimal() else each.fingerprints
                found |= dict.fromkeys(share, task)
    return found


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrackingError(f"{command[0]}: {error}") from error


def _refusal(text: str) -> str:
    """Return what a command of Slurm says, in one line, without its name and its advice to ask for help."""
    lines = [re.sub(r"^\w+: (?:error: |fatal: )?", "", line.strip()) for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith("Try ")]
    return "; ".join(said) or "no reason given"
