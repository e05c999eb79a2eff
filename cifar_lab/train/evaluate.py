"""Evaluation of a network on images: loss, accuracy and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lab.config import recipe
from cifar_lab.data.augmentation import normalise_only
from cifar_lab.data.splits import ImageSubset
from cifar_lab.train.precision import Precision, autocast

BATCH, ON_A_GPU = 500, 1000
"""Batch sizes; a GPU with small batches waits for its host."""
TTA = Literal["none", "flip", "flip_shift"]


@dataclass(frozen=True)
class Evaluation:
    """Outputs of a network for the N images of a part, in their order."""

    loss: float
    """Mean cross-entropy, without label smoothing."""
    accuracy: float
    """From 0 to 1."""
    predictions: Tensor
    """(N,) int64, on the CPU."""
    labels: Tensor
    """(N,) int64, on the CPU."""
    logits: Tensor
    """(N, classes) float32, on the network's device; weighted means of several views under test-time augmentation."""

    @property
    def confidence(self) -> Tensor:
        """Return the probability of each prediction, (N,) float32 on the CPU."""
        return self.logits.softmax(dim=1).amax(dim=1).cpu()


@torch.no_grad()
def evaluate_network(
    net: nn.Module, part: ImageSubset, data: recipe.DataConfig, precision: Precision, tta: TTA = "none"
) -> Evaluation:
    """Evaluate a network on all images of a part, in batches, without gradients and with running statistics."""
    was_training = net.training
    net.eval()
    device = part.images.device
    logits, labels = [], []
    for positions in torch.arange(len(part), device=device).split(ON_A_GPU if device.type == "cuda" else BATCH):
        images, targets = part.take(positions)
        with autocast(precision, device):
            seen = views(normalise_only(images, data), tta)
            logits.append(sum(weight * net(view).float() for weight, view in seen))
        labels.append(targets)
    net.train(was_training)
    return _judged(torch.cat(logits), torch.cat(labels))


def views(images: Tensor, tta: TTA) -> list[tuple[float, Tensor]]:
    """Return the views of `images` (N, 3, side, side) for test-time augmentation, with their weights, which sum to 1.

    `flip`: each image and its mirror image. `flip_shift`: half of the weight on these, a quarter each on both shifted
    by one pixel up and left, and down and right, padded by reflection (Jordan, 2024, arXiv:2404.00498).
    """
    if tta == "none":
        return [(1.0, images)]
    if tta == "flip":
        return [(0.5, images), (0.5, images.flip(3))]
    side = images.shape[-1]
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    moved = [padded[:, :, at : at + side, at : at + side] for at in (0, 2)]
    weighted = [(0.25, images), *((0.125, each) for each in moved)]
    return [pair for weight, each in weighted for pair in ((weight, each), (weight, each.flip(3)))]


def _judged(logits: Tensor, labels: Tensor) -> Evaluation:
    predictions = logits.argmax(dim=1)
    return Evaluation(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(predictions == labels).sum().item() / len(labels),
        predictions=predictions.cpu(),
        labels=labels.cpu(),
        logits=logits,
    )


def confusion(evaluation: Evaluation, classes: int) -> Tensor:
    """Return (classes, classes) counts: rows are labels, columns predictions."""
    cells = evaluation.labels * classes + evaluation.predictions
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)
