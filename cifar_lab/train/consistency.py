"""Consistency of a network's outputs for several views of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def consistency_loss(logits: Sequence[Tensor]) -> Tensor:
    """Return the Jensen-Shannon divergence between the predictions for views of one batch, its mean over images, ().

    AugMix's consistency loss (Hendrycks et al., 2020, arXiv:1912.02781, equation 2): the mean Kullback-Leibler
    divergence of each view's prediction from the mean prediction. It is computed from logarithms; the authors' code
    takes the mean prediction as at least 1e-7 instead.

    `logits`: (B, classes) of each view, at least two, at least in fp32.
    """
    known = [F.log_softmax(each, dim=1) for each in logits]
    mixture = torch.logsumexp(torch.stack(known), dim=0) - math.log(len(known))
    divergences = [F.kl_div(mixture, each, reduction="batchmean", log_target=True) for each in known]
    return torch.stack(divergences).mean()
