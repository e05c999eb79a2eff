"""The files that a finished cell leaves beside its result: weights, predictions and their table."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from safetensors.torch import save
from torch import Tensor, nn

from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.store import atomic_file, checksum
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.confusion import format_confusion
from cifar_lab.store.record_files import ResultFile
from cifar_lab.store.stored_json import parse_stored
from cifar_lab.train.evaluate import Evaluation, confusion

UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""Exceptions raised on reading a damaged archive of arrays."""
TEST_ACCURACY = "test/acc"
SAME_ACCURACY = 1e-6
"""Tolerance between an accuracy and the mean of its predictions, which is computed in single precision."""


def write_artifacts(
    record: CellRecord, net: nn.Module, judged: Evaluation, classes: Sequence[str], result: ResultFile,
    val: Evaluation | None = None,
) -> None:  # fmt: skip
    """Write the files of a finished cell. `result` goes into the predictions, too, which prove most of it.

    The predictions are written last, with the checksums of the files before them: `result.json` can be written again
    from them if it is damaged.

    Args:
        record: the record of the cell.
        net: the network whose weights are kept.
        judged: its outputs for the test images.
        classes: their names.
        result: the content of `result.json`.
        val: its outputs for the validation images, if some were held out.
    """
    # Each is a copy: weights that a network has under several names share memory, which safetensors refuses.
    weights = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in net.state_dict().items()}
    atomic_file.write_atomically(record.weights, lambda file: file.write(save(weights)))
    atomic_file.write_text(record.confusion, format_confusion(classes, confusion(judged, len(classes)).tolist()))
    record.predictions.unlink(missing_ok=True)  # left by an attempt that was killed here
    small = np.min_scalar_type(len(classes) - 1)  # uint8 up to 256 classes, else uint16
    copy = json.dumps(checksum.seal({**result.as_json(), "files": record.digests()})).encode()
    arrays: dict[str, np.ndarray] = {
        "predictions": judged.predictions.numpy().astype(small),
        "labels": judged.labels.numpy().astype(small),
        "confidence": judged.confidence.numpy().astype(np.float32),
        "logits": _half(judged.logits),
        "result": np.frombuffer(copy, dtype=np.uint8),
    }
    if val is not None:
        arrays |= {"val_logits": _half(val.logits), "val_labels": val.labels.numpy().astype(small)}
    atomic_file.write_arrays(record.predictions, arrays)


def _half(logits: Tensor) -> np.ndarray:
    """Return logits in half precision; those beyond its range, which no sensible network has, are at its end."""
    most = float(np.finfo(np.float16).max)
    return logits.float().clamp(-most, most).cpu().numpy().astype(np.float16)


def read_logits(record: CellRecord, part: Literal["test", "val"] = "test") -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of a finished cell, (images, classes) float32 of half precision, and the labels, (images,).

    The images are in the order of the data set; those of `val` are the held-out ones in ascending order.

    Raises:
        DamageError: the file is damaged, or is not the one that the result was written with.
        TrackingError: the record has none of this part.
    """
    record.require_sound(record.predictions)
    arrays = _arrays(record)
    name, labels = ("logits", "labels") if part == "test" else ("val_logits", "val_labels")
    if name not in arrays:
        why = "no image was held out" if part == "val" and "logits" in arrays else "an older version wrote it"
        raise TrackingError(f"{record.fingerprint[:12]} has no logits of {part}: {why}")
    if arrays[name].ndim != 2 or len(arrays[name]) != len(arrays[labels]):
        raise DamageError(f"{record.predictions}: damaged: not one row of logits for each label of {part}")
    return arrays[name].astype(np.float32), arrays[labels]


def read_predictions(record: CellRecord) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted and the true classes of the test images, each (images,).

    Raises:
        DamageError: the file is damaged, or is not the one that the result refers to.
    """
    record.require_sound(record.predictions)
    predictions, labels, _ = _read(record)
    return predictions, labels


def read_copy(record: CellRecord) -> ResultFile | None:
    """Return the copy of `result.json` that the predictions hold, if they confirm it; None without a copy.

    Raises:
        DamageError: the predictions are damaged, or contradict the accuracy in the copy.
    """
    predictions, labels, copy = _read(record)
    if copy is None:
        return None
    rest = checksum.unseal(copy) if isinstance(copy, dict) and checksum.is_sealed(copy) else None
    if rest is None:
        raise DamageError(f"{record.predictions}: damaged: its copy of the result: {checksum.CHANGED}")
    where = f"{record.predictions}: damaged: its copy of the result"
    result = parse_stored(rest, ResultFile, where)
    if TEST_ACCURACY not in result.metrics:
        raise DamageError(f"{where}: 'metrics.{TEST_ACCURACY}' is missing")
    record.require_own(record.predictions, result)
    accuracy = float((predictions == labels).mean())
    if abs(result.metrics[TEST_ACCURACY] - accuracy) > SAME_ACCURACY:
        raise DamageError(f"{record.predictions}: damaged: its predictions come to an accuracy of {accuracy:.4f}")
    files = {**result.files, record.predictions.name: checksum.hash_file(record.predictions)}
    return result.model_copy(update={"files": files})


def _read(record: CellRecord) -> tuple[np.ndarray, np.ndarray, Any]:
    """Return predictions, labels, and the copy of the result; None in place of it where there is none."""
    path, arrays = record.predictions, _arrays(record)
    try:
        predictions, labels = arrays["predictions"], arrays["labels"]
        copy = json.loads(arrays["result"].tobytes()) if "result" in arrays else None
    except UNREADABLE as error:
        raise DamageError(f"{path}: cannot be read ({error})") from error
    if labels.ndim != 1 or predictions.shape != labels.shape or not len(labels):
        raise DamageError(f"{path}: damaged: not one prediction for each label")
    return predictions, labels, copy


def _arrays(record: CellRecord) -> dict[str, np.ndarray]:
    """Return all arrays of the predictions' file.

    Raises:
        DamageError: it cannot be read, or a checksum of the archive is not that of its content.
    """
    path = record.predictions
    try:
        file = np.load(io.BytesIO(checksum.content(path)))
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DamageError(f"{path}: damaged: not an archive of arrays")
        with file:
            bad = file.zip.testzip() if file.zip is not None else None
            if bad is not None:
                raise DamageError(f"{path}: damaged: {bad}: {checksum.CHANGED}")
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise DamageError(f"{path}: cannot be read ({error})") from error
