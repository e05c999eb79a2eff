"""Logits that are added to the record of a finished cell: those an older version did not keep, and of training images.

predictions.npz      written as the worker writes it, for a record without logits
train_logits.npz     logits (float16) and labels of all training images in the order of the data, and the checksum
                     of the weights that they were computed with
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.inference.network_outputs import Floats, Member, compute_logits
from cifar_lab.store import atomic_file, checksum
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.train import cell_artifacts
from cifar_lab.train.evaluate import evaluate_network

FILE = "train_logits.npz"
PATIENCE = 1.0
"""Seconds to wait for the lock of a cell."""


@dataclass(frozen=True, kw_only=True)
class FillOutcome:
    """Outcome of adding logits to a record."""

    is_written: bool
    reason: str
    """Sentence on what was written, or why nothing was."""


def lacks_logits(record: CellRecord) -> bool:
    """Tell whether a finished record has no logits of its test images, as those of older versions."""
    try:
        cell_artifacts.read_logits(record, "test")
    except DamageError:
        raise
    except TrackingError:
        return True
    return False


def fill_logits(member: Member, dataset: Dataset) -> FillOutcome:
    """Write the logits of test and held-out images to an older record, as the worker would have.

    Nothing is written unless the accuracy computed here equals the recorded one within
    `cell_artifacts.SAME_ACCURACY`, so that the logits are those of the recorded result.

    Raises:
        TrackingError: another process holds the cell.
        OSError: the record cannot be written.
    """
    run, recipe = member.run, member.recipe
    record = CellRecord(run.cell.folder)
    parts = split(dataset, recipe.data, recipe.train.protocol, member.device)
    judged = evaluate_network(member.net, parts.test, recipe.data, member.precision, recipe.train.tta)
    recorded = run.cell.metrics["test/acc"]
    if abs(judged.accuracy - recorded) > cell_artifacts.SAME_ACCURACY:
        reason = (
            f"{run.name}: no logits were stored: {100 * judged.accuracy:.2f} % here, {100 * recorded:.2f} % recorded"
        )
        return FillOutcome(is_written=False, reason=reason)
    has_val = parts.watched_name == "val"
    how = (recipe.data, member.precision, recipe.train.tta)
    val = evaluate_network(member.net, parts.watched, *how) if has_val else None
    try:
        with record.owned(patience=PATIENCE):
            result = record.result()
            if result is None:
                raise TrackingError(f"{run.name}: its result is gone")
            cell_artifacts.write_artifacts(record, member.net, judged, run.cell.classes, result, val)
            record.write_result(result.model_copy(update={"files": record.digests()}))
    except Timeout as error:
        raise TrackingError(f"{run.name}: another process holds this cell") from error
    return FillOutcome(is_written=True, reason=f"{run.name}: its record had no logits; they were stored")


def write_train_logits(member: Member, dataset: Dataset) -> FillOutcome:
    """Write the logits of all training images, in half precision and in the order of the data.

    Raises:
        OSError: the record cannot be written.
    """
    record = CellRecord(member.run.cell.folder)
    logits = compute_logits(member, dataset.train_images)
    most = float(np.finfo(np.float16).max)
    arrays: dict[str, np.ndarray] = {
        "logits": logits.clip(-most, most).astype(np.float16), "labels": dataset.train_labels.astype(np.uint8),
        "weights": np.array(checksum.hash_file(record.weights)),
    }  # fmt: skip
    atomic_file.write_arrays(record.folder / FILE, arrays)
    return FillOutcome(is_written=True, reason=f"{member.run.name}: logits of {len(logits):,} training images stored")


def read_train_logits(record: CellRecord) -> tuple[Floats, NDArray[np.uint8]]:
    """Return the logits of all training images, (N, classes) float32 of half precision, and the labels, (N,).

    Raises:
        DamageError: the file cannot be read, or was computed with other weights.
        TrackingError: there is none.
    """
    path = record.folder / FILE
    if not path.exists():
        short = record.fingerprint[:12]
        raise TrackingError(f"{short} has no logits of train; `cifar-lab evaluate {short} --train-logits` stores them")
    try:
        with np.load(io.BytesIO(checksum.content(path)), allow_pickle=False) as arrays:
            logits, labels, weights = arrays["logits"], arrays["labels"], str(arrays["weights"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamageError(f"{path}: cannot be read ({error})") from error
    if weights != checksum.hash_file(record.weights):
        raise DamageError(f"{path}: damaged: computed with other weights than those of the record")
    return logits.astype(np.float32), labels
