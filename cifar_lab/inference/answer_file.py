"""Files of answers: one line or entry for each image, in the form that a competition expects."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cifar_lab.errors import UsageError
from cifar_lab.inference.input_images import InputImages
from cifar_lab.inference.predictions import Predictions
from cifar_lab.results.measurements import read_table
from cifar_lab.store import atomic_file

HEADER = ("ID", "Labels")
Format = Literal["csv", "npz"]


@dataclass(frozen=True, kw_only=True)
class AnswerTable:
    """A CSV file of answers as it was read."""

    header: tuple[str, str]
    answers: dict[str, str]
    """Second column by first, in the order of the file."""


@dataclass(frozen=True, kw_only=True)
class ChangedAnswers:
    """Comparison of predictions with an earlier file."""

    changed: int
    """Number of images with another answer."""
    common: int
    """Number of images in both."""
    only_earlier: int
    only_now: int


def read_answers(path: Path, option: str) -> AnswerTable:
    """Return the answers of a CSV file with a header and two columns; further columns are not read.

    `option` names the file in errors, as it was given.

    Raises:
        UsageError: it cannot be read, has no rows or fewer than two columns, or an id twice.
    """
    name = f"{option} {path}"
    try:
        rows = [row for row in csv.reader(io.StringIO(read_table(path), newline=""), strict=True) if row]
    except csv.Error as error:
        raise UsageError(f"{name}: not a CSV file: {error}") from error
    if len(rows) < 2 or min(map(len, rows)) < 2:
        raise UsageError(f"{name}: expected a header and rows of two columns, ID and label")
    answers: dict[str, str] = {}
    for row in rows[1:]:
        if row[0].strip() in answers:
            raise UsageError(f"{name}: the id '{row[0].strip()}' is there twice")
        answers[row[0].strip()] = row[1].strip()
    return AnswerTable(header=(rows[0][0], rows[0][1]), answers=answers)


def in_order_of(found: InputImages | Predictions, like: AnswerTable, path: Path) -> list[int]:
    """Return the position of the image, or its prediction, for each id of a sample file, in its order.

    Images without ids of their own are taken in their order, if there are as many as rows.

    Raises:
        UsageError: numbers or ids differ.
    """
    wanted = list(like.answers)
    if len(wanted) != len(found.ids):
        raise UsageError(f"--like {path}: {len(wanted):,} rows for {len(found.ids):,} images in {found.source}")
    if not found.has_own_ids:
        return list(range(len(wanted)))
    place = {id: at for at, id in enumerate(found.ids)}
    missing = [id for id in wanted if id not in place]
    if missing:
        raise UsageError(
            f"--like {path}: {found.source} has no image '{missing[0]}' ({len(missing):,} of {len(wanted):,} ids are "
            f"missing; its first is '{found.ids[0]}')"
        )
    return [place[id] for id in wanted]


def csv_text(
    ids: Sequence[str], found: Predictions, order: Sequence[int], header: Sequence[str] = HEADER, *, names: bool = False
) -> str:
    """Return a CSV table with a line for each image: id, and class index or, with `names`, class name."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(header)
    for id, at in zip(ids, order, strict=True):
        label = int(found.labels[at])
        table.writerow([id, found.classes[label] if names else label])
    return buffer.getvalue()


def write_answers(
    path: Path, found: Predictions, *, format: Format = "csv", like: Path | None = None, names: bool = False
) -> None:
    """Write predictions atomically: complete, or not at all.

    Args:
        path: file to write.
        found: the predictions.
        format: `csv`; or `npz`, with ids, labels, probabilities and classes.
        like: sample file whose header, ids, order and number are taken over.
        names: write names of classes in place of their numbers (csv).

    Raises:
        UsageError: the sample file does not fit.
        OSError: the file cannot be written.
    """
    sample = read_answers(like, "--like") if like is not None else None
    order = in_order_of(found, sample, like) if sample is not None and like is not None else range(len(found.ids))
    ids = list(sample.answers) if sample is not None else list(found.ids)
    if format == "csv":
        text = csv_text(ids, found, order, sample.header if sample is not None else HEADER, names=names)
        atomic_file.write_text(path, text)
        return
    chosen = np.array(list(order), dtype=np.int64)
    arrays = {
        "ids": np.array(ids), "labels": found.labels[chosen],
        "probabilities": found.probabilities[chosen], "classes": np.array(found.classes),
    }  # fmt: skip
    atomic_file.write_arrays(path, arrays)


def count_changes(
    found: Predictions, earlier: AnswerTable, path: Path, ids: Sequence[str] | None = None
) -> ChangedAnswers:
    """Compare predictions with the answers of an earlier file, by id; class names and numbers are both understood.

    `ids`: ids as they are written, if a sample file renamed them.

    Raises:
        UsageError: the two have no id in common, or an answer is neither a number nor a name of a class.
    """
    numbers = {name: at for at, name in enumerate(found.classes)} | {str(at): at for at in range(len(found.classes))}
    now = dict(zip(ids if ids is not None else found.ids, found.labels.tolist(), strict=True))
    common = [id for id in now if id in earlier.answers]
    if not common:
        raise UsageError(
            f"--against {path}: no id in common: '{next(iter(earlier.answers))}' there, '{next(iter(now))}' here"
        )
    for id in common:
        if earlier.answers[id] not in numbers:
            raise UsageError(f"--against {path}: id '{id}' has '{earlier.answers[id][:40]}', which is no class")
    changed = sum(numbers[earlier.answers[id]] != now[id] for id in common)
    return ChangedAnswers(
        changed=changed, common=len(common), only_earlier=len(earlier.answers) - len(common),
        only_now=len(now) - len(common),
    )  # fmt: skip
