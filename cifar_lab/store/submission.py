"""Submissions to a Slurm cluster: what was asked for, as a job's task reads it, and the job's number.

Each has a folder `runs/slurm/<invocation id>/` with its file `submission.json`, batch scripts and logs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from cifar_lab.store.stored_json import Flag, Number, StoredJson, Text, Time, Whole, read_stored

FOLDER, FILE = "slurm", "submission.json"


class SubmittedRequest(StoredJson):
    """Request of a submission, which each task resolves again on its own node."""

    ablation: Text
    folders: tuple[Text, ...]
    """Absolute paths of the folders with ablations of the user's own."""
    scale: Text
    data: Text
    """Source of the images; a path is absolute."""
    overrides: dict[str, JsonValue]
    variants: tuple[Text, ...] | None
    seeds: tuple[Whole, ...] | None
    max_params: Whole
    device: Text
    workers: Text
    cells_per_gpu: Whole | None
    compile: Flag | None
    graph: Flag | None
    retry_failed: Flag
    patience: Number | None


class Submission(StoredJson):
    """Content of `submission.json`; it is written before the job is submitted, and again with the job's number."""

    request: SubmittedRequest
    runs: Text
    """Absolute path of the runs folder."""
    fingerprints: tuple[Text, ...]
    """Cells that the tasks train, with those that wait for them."""
    cells_per_task: Whole
    """Number of cells that one task begins; a cell that continues another is not counted."""
    tasks: Whole
    time: Time
    shares: tuple[tuple[Text, ...], ...] = ()
    """Cells that each task takes first, with those that wait for them; empty in those of an older version."""
    job: Text = ""
    """Number of the array job; empty until Slurm has taken it."""


def submission_folder(runs: Path, invocation: str) -> Path:
    """Return the folder of the submission of an invocation."""
    return runs / FOLDER / invocation


def read_submission(folder: Path) -> Submission | None:
    """Return the submission in `folder`; None if there is none.

    Raises:
        DamageError: it cannot be read, or is invalid.
    """
    return read_stored(folder / FILE, Submission)


def read_submissions(runs: Path) -> Iterator[Submission]:
    """Yield the submissions of a runs folder that Slurm has taken, the oldest first.

    Raises:
        DamageError: one cannot be read, or is invalid.
    """
    for path in sorted((runs / FOLDER).glob(f"*/{FILE}")):
        submission = read_submission(path.parent)
        if submission is not None and submission.job:
            yield submission
