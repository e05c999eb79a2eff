"""Squeeze-and-excitation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SEBlock(nn.Module):
    """Scales each channel by a gate in (0, 1) computed from the pooled channels (Hu et al., 2018, arXiv:1709.01507).

    Two 1×1 convolutions with bias, as in the Efficient ResNets code: `2·C·H + C + H` parameters for a hidden width H.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1)
        self.excite = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        pooled = x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        gates = torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))
        return x * gates
