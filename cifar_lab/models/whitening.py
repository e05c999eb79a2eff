"""A stem that whitens: fixed filters, from the training images, whose outputs are uncorrelated and of one size.

Sources: Page (2018), How to train your ResNet 8; Jordan (2024), 94 % on CIFAR-10 in 3.29 seconds, arXiv:2404.00498.
There patches are 2×2; here they are 3×3, as in the convolution that the stem takes the place of, and images keep their
size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 3
PATCH = 3 * SIDE * SIDE
FILTERS = 2 * PATCH
"""Each filter is there with both signs, so that the ReLU behind it loses nothing."""
EPSILON = 5e-4
"""Added to the variances: patches hardly ever vary in the directions of the smallest (Jordan's value)."""


class Whitening(nn.Module):
    """(N, 3, H, W) to (N, 54, H, W), none of it trained: `filters` is a buffer, saved with the weights."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.empty(FILTERS, 3, SIDE, SIDE))

    def reset(self) -> None:
        """What is right for images whose pixels are uncorrelated already: each filter picks one."""
        self.filters.copy_(_both_signs(torch.eye(PATCH)))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Whiten the 3×3 patches of `images`, (N, 3, H, W) float, as the network sees them."""
        self.filters.copy_(_both_signs(whitening(patch_covariance(images))))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(F.conv2d(x, self.filters, padding=SIDE // 2))


def patch_covariance(images: Tensor) -> Tensor:
    """(27, 27), on the CPU: the mean product of two places of a 3×3 patch, over all whole patches of (N, 3, H, W)."""
    images = images.cpu()  # sums are in double precision, which not every GPU has
    total, count = torch.zeros(PATCH, PATCH, dtype=torch.float64), 0
    for some in images.split(500):
        patches = F.unfold(some, SIDE).transpose(1, 2).reshape(-1, PATCH)  # (patches, 27)
        total += (patches.T @ patches).double()
        count += len(patches)
    return total / count


def whitening(covariance: Tensor) -> Tensor:
    """The rows W, (n, n), for which the covariance of W x is 1, but for `EPSILON`: eigenvectors over deviations."""
    variances, vectors = torch.linalg.eigh(covariance)
    rows: Tensor = vectors.T / (variances[:, None] + EPSILON).sqrt()
    signs = torch.sign(rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)))  # an eigenvector has no sign of its own
    return rows * signs


def _both_signs(rows: Tensor) -> Tensor:
    return torch.cat([rows, -rows]).reshape(FILTERS, 3, SIDE, SIDE).float()
