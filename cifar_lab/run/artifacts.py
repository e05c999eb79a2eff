"""The files that a finished cell leaves beside its result: weights, predictions and their table."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import nn

from cifar_lab.errors import DamageError
from cifar_lab.report.figures import confusion_csv
from cifar_lab.tracking import atomic, seal, shape
from cifar_lab.tracking.record import Record
from cifar_lab.train.evaluate import Evaluation, confusion

UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""Exceptions raised on reading a damaged archive of arrays."""
SAME_ACCURACY = 1e-6
"""Tolerance between an accuracy and the mean of its predictions, which is computed in single precision."""


def write(record: Record, net: nn.Module, judged: Evaluation, classes: Sequence[str], result: dict[str, Any]) -> None:
    """Write the files of a finished cell. `result` is also stored in the predictions, which prove most of it.

    The predictions are written last, with the checksums of the files before them: a damaged `result.json` can be
    written again from them.
    """
    weights = {name: tensor.contiguous().cpu() for name, tensor in net.state_dict().items()}
    atomic.write(record.weights, lambda file: file.write(save(weights)))
    text = confusion_csv(classes, confusion(judged, len(classes)).tolist())
    atomic.write(record.confusion, lambda file: file.write(text.encode()))
    record.predictions.unlink(missing_ok=True)  # left by an attempt that was killed here
    copy = json.dumps(seal.seal({**result, "files": record.digests()})).encode()
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        predictions=judged.predictions.numpy().astype(np.uint8),
        labels=judged.labels.numpy().astype(np.uint8),
        confidence=judged.confidence.numpy().astype(np.float32),
        result=np.frombuffer(copy, dtype=np.uint8),
    )
    atomic.write(record.predictions, lambda file: file.write(buffer.getvalue()))


def read_predictions(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted and the true classes of the test images, each (images,).

    Raises:
        DamageError: the file is damaged, or is not the one that the result refers to.
    """
    record.require_sound(record.predictions)
    predictions, labels, _ = _read(record)
    return predictions, labels


def read_copy(record: Record) -> dict[str, Any] | None:
    """Return the copy of `result.json` that the predictions hold, if they confirm it; None without a copy.

    Raises:
        DamageError: the predictions are damaged, or contradict the accuracy in the copy.
    """
    predictions, labels, copy = _read(record)
    if copy is None:
        return None
    rest = seal.unseal(copy) if isinstance(copy, dict) and seal.is_sealed(copy) else None
    if rest is None:
        raise DamageError(f"{record.predictions}: damaged: its copy of the result: {seal.CHANGED}")
    if (rule := shape.broken(rest, shape.RESULT, ("files", "metrics.test/acc"))) is not None:
        raise DamageError(f"{record.predictions}: damaged: its copy of the result: {rule}")
    record.own(record.predictions, rest)
    accuracy = float((predictions == labels).mean())
    if abs(rest["metrics"]["test/acc"] - accuracy) > SAME_ACCURACY:
        raise DamageError(f"{record.predictions}: damaged: its predictions come to an accuracy of {accuracy:.4f}")
    return {**rest, "files": {**rest["files"], record.predictions.name: seal.hash_file(record.predictions)}}


def _read(record: Record) -> tuple[np.ndarray, np.ndarray, Any]:
    path = record.predictions
    try:
        file = np.load(io.BytesIO(seal.content(path)))
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DamageError(f"{path}: damaged: not an archive of arrays")
        with file:
            bad = file.zip.testzip() if file.zip is not None else None
            if bad is not None:
                raise DamageError(f"{path}: damaged: {bad}: {seal.CHANGED}")
            predictions, labels = file["predictions"], file["labels"]
            copy = json.loads(file["result"].tobytes()) if "result" in file else None
    except UNREADABLE as error:
        raise DamageError(f"{path}: cannot be read ({error})") from error
    if labels.ndim != 1 or predictions.shape != labels.shape or not len(labels):
        raise DamageError(f"{path}: damaged: not one prediction for each label")
    return predictions, labels, copy
