"""One pass over images: loss, accuracy and predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lab import recipe
from cifar_lab.data.augment import normalise_only
from cifar_lab.data.split import Part
from cifar_lab.train.precision import Precision, autocast

BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    """What a network says about a part: `predictions` and `labels` (N,) int64, `confidence` (N,) of the predicted."""

    loss: float
    accuracy: float
    predictions: Tensor
    labels: Tensor
    confidence: Tensor


@torch.no_grad()
def evaluate(net: nn.Module, part: Part, data: recipe.Data, precision: Precision) -> Evaluation:
    """Mean cross-entropy (without label smoothing), accuracy in [0, 1], and each image's prediction."""
    was_training = net.training
    net.eval()
    device = part.images.device
    logits, labels = [], []
    for positions in torch.arange(len(part), device=device).split(BATCH):
        images, targets = part.take(positions)
        with autocast(precision, device):
            logits.append(net(normalise_only(images, data)).float())
        labels.append(targets)
    net.train(was_training)
    return _judged(torch.cat(logits), torch.cat(labels))


def _judged(logits: Tensor, labels: Tensor) -> Evaluation:
    confidence, predictions = logits.softmax(dim=1).max(dim=1)
    return Evaluation(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(predictions == labels).sum().item() / len(labels),
        predictions=predictions.cpu(),
        labels=labels.cpu(),
        confidence=confidence.cpu(),
    )


def confusion(evaluation: Evaluation, classes: int = 10) -> Tensor:
    """(classes, classes) counts: rows are labels, columns predictions."""
    cells = evaluation.labels * classes + evaluation.predictions
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)
