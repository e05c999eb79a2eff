"""Predictions of one trained network, or of several averaged, for images without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_lab.inference.input_images import InputImages
from cifar_lab.inference.network_outputs import Floats, compute_logits, how_all, load_members, softmax
from cifar_lab.inference.run_names import ChosenRuns, require_same_classes
from cifar_lab.report.notebook import Tabular
from cifar_lab.results.stats.unlabelled import mean_agreement

Classes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, repr=False)
class Predictions(Tabular):
    """Predicted class of each image. `to_frame` has a row for each image."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    """Names of the classes."""
    labels: Classes
    """Predicted classes, (N,)."""
    probabilities: Floats
    """Means of the members' probabilities, (N, classes)."""
    members: tuple[str, ...]
    """Names of the runs that were averaged."""
    source: str
    """Name of the images' file or folder."""
    how: str
    """Device, precision and test-time augmentation."""
    has_own_ids: bool
    """False for ids that are positions."""
    unanimous: float | None = None
    """Share of images on which all members agree; None for one member."""
    pairwise: float | None = None
    """Mean share of images on which two members agree; None for one member."""
    notes: tuple[str, ...] = ()

    @property
    def confidence(self) -> Floats:
        """Return the probability of each prediction, (N,)."""
        return np.asarray(self.probabilities.max(axis=1))

    def histogram(self) -> dict[str, int]:
        """Return the number of predictions by class."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def records(self) -> list[dict[str, Any]]:
        """Return id, predicted class, its name and its probability for each image."""
        return [
            {"id": id, "label": int(label), "name": self.classes[label], "confidence": float(confidence)}
            for id, label, confidence in zip(self.ids, self.labels, self.confidence, strict=True)
        ]

    def shown(self) -> Sequence[Mapping[str, Any]]:
        """Return the number of images by class."""
        return [{"class": name, "images": count} for name, count in self.histogram().items()]

    def caption(self) -> str:
        """Return the number of images, the members and the mean confidence in one line."""
        return f"{len(self.ids):,} images · {', '.join(self.members)} · mean confidence {self.confidence.mean():.3f}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single predictions, as JSON values."""
        return {
            "runs": list(self.members), "images": len(self.ids), "input": self.source, "how": self.how,
            "classes": self.histogram(), "mean_confidence": float(self.confidence.mean()),
            "unanimous": self.unanimous, "pairwise_agreement": self.pairwise, "notes": list(self.notes),
        }  # fmt: skip


def predict_images(
    chosen: ChosenRuns, given: InputImages, *, device: str = "auto", tta: str | None = None
) -> Predictions:
    """Predict the class of each image by the mean of the members' probabilities.

    Averaging probabilities of networks from several seeds is the ensemble of Lakshminarayanan et al. (2017), "Simple
    and scalable predictive uncertainty estimation using deep ensembles".

    Args:
        chosen: runs with the same classes.
        given: the images.
        device: `auto`, `cpu`, `cuda`, `mps` or one GPU, `cuda:1`.
        tta: none, mirror or mirror_shift; None for that of each recipe.

    Raises:
        UsageError: the device or the augmentation does not exist, or classes differ.
        TrackingError: weights are missing, damaged or do not fit.
    """
    classes = require_same_classes(chosen)
    members = load_members(chosen.runs, device, tta)
    each = [softmax(compute_logits(member, given.images)) for member in members]
    probabilities = np.asarray(np.mean(each, axis=0, dtype=np.float64), dtype=np.float32)
    answers = np.stack([one.argmax(axis=1) for one in each])
    return Predictions(
        ids=given.ids, classes=classes, labels=probabilities.argmax(axis=1).astype(np.int64),
        probabilities=probabilities, members=tuple(run.name for run in chosen.runs), source=given.source,
        how=how_all(members), has_own_ids=given.has_own_ids,
        unanimous=unanimous_share(answers), pairwise=mean_agreement(list(answers)), notes=(*chosen.notes, *given.notes),
    )  # fmt: skip


def unanimous_share(answers: NDArray[np.integer]) -> float | None:
    """Return the share of images on which all agree, given (members, N) classes; None for one member."""
    return float((answers == answers[0]).all(axis=0).mean()) if len(answers) > 1 else None
