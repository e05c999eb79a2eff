"""Whitening stem: fixed filters, computed from the training images, with uncorrelated outputs of equal variance.

Sources: Page (2018), How to train your ResNet 8; Jordan (2024), 94 % on CIFAR-10 in 3.29 seconds, arXiv:2404.00498.
They use 2×2 patches; here patches are 3×3, as in the convolution that the stem replaces, and images keep their size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lab.models.cost import FILTERS, PATCH
from cifar_lab.models.cost import STEM_KERNEL as SIDE

EPSILON = 5e-4
"""Added to the variances, as patches hardly vary in the last directions (Jordan's value)."""


class Whitening(nn.Module):
    """Map (N, 3, H, W) to (N, 54, H, W) without trainable parameters: `filters` is a buffer, saved with the weights."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.empty(FILTERS, 3, SIDE, SIDE))

    def reset(self) -> None:
        """Set filters that are right for images with uncorrelated pixels: each selects one pixel of the patch."""
        self.filters.copy_(_both_signs(torch.eye(PATCH)))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Whiten the 3×3 patches of `images`, (N, 3, H, W) float, as the network sees them."""
        self.filters.copy_(_both_signs(whitening(patch_covariance(images))))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(F.conv2d(x, self.filters, padding=SIDE // 2))


def patch_covariance(images: Tensor) -> Tensor:
    """Return (27, 27), on the CPU: mean products of two positions of a 3×3 patch, over all patches of (N, 3, H, W)."""
    images = images.cpu()  # sums need double precision, which not every GPU has
    total, count = torch.zeros(PATCH, PATCH, dtype=torch.float64), 0
    for some in images.split(500):
        patches = F.unfold(some, SIDE).transpose(1, 2).reshape(-1, PATCH)  # (patches, 27)
        total += (patches.T @ patches).double()
        count += len(patches)
    return total / count


def whitening(covariance: Tensor) -> Tensor:
    """Return the whitening matrix W, (n, n): eigenvectors over deviations; W x has unit covariance up to `EPSILON`."""
    variances, vectors = torch.linalg.eigh(covariance)
    rows: Tensor = vectors.T / (variances[:, None] + EPSILON).sqrt()
    signs = torch.sign(rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)))  # an eigenvector has no sign of its own
    return rows * signs


def _both_signs(rows: Tensor) -> Tensor:
    return torch.cat([rows, -rows]).reshape(FILTERS, 3, SIDE, SIDE).float()
