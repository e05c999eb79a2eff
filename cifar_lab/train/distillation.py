"""Knowledge distillation: the outputs of trained networks as targets beside the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lab.config.distillation_config import DistillationConfig
from cifar_lab.train.precision import Precision, autocast


class Distillation:
    """Teachers of a training, and the loss with their targets (Hinton, Vinyals and Dean, 2015, arXiv:1503.02531).

    Teachers see the augmented, mixed images of the step that the student sees, in evaluation mode and without
    gradients; they never change, and are no part of a checkpoint. The targets of several are the mean of their
    probabilities at the temperature, the prediction of their ensemble. The mean of their logits would be a geometric
    mean, in which a single teacher that is sure of its error rules a class out for all.

    MixUp, CutMix and label smoothing change the targets of the cross-entropy alone: the teachers' targets are their
    answers to the mixed image.
    """

    def __init__(self, teachers: Sequence[nn.Module], config: DistillationConfig) -> None:
        """Freeze `teachers`, at least one, on the device of the student."""
        self.teachers = [teacher.eval().requires_grad_(requires_grad=False) for teacher in teachers]
        self.temperature, self.weight = config.temperature, config.weight

    @torch.no_grad()
    def soft_targets(self, inputs: Tensor, precision: Precision) -> Tensor:
        """Return the logarithm of the teachers' mean probabilities for `inputs` at the temperature, (B, classes)."""
        with autocast(precision, inputs.device):
            logits = [teacher(inputs) for teacher in self.teachers]
        known = [_log_probabilities(each, self.temperature) for each in logits]
        return torch.logsumexp(torch.stack(known), dim=0) - math.log(len(known)) if len(known) > 1 else known[0]

    def loss(self, logits: Tensor, soft_targets: Tensor, hard_loss: Tensor) -> Tensor:
        """Return (1 - weight) * hard_loss + weight * T² * KL(teachers ‖ student), the mean of the batch, ().

        `logits`: (B, classes) of the student. T² keeps the gradient's size when the temperature changes.
        """
        student = _log_probabilities(logits, self.temperature)
        divergence = F.kl_div(student, soft_targets, reduction="batchmean", log_target=True)
        return (1 - self.weight) * hard_loss + self.weight * self.temperature**2 * divergence


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Return the log-softmax of the logits over the temperature, at least in fp32."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.log_softmax(wide / temperature, dim=1)
