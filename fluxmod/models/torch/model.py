"""The first model of the notes (000, 004): two convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Model"]


class Model(nn.Module):
    """Two 5x5 convolutions, a ReLU after each.

    Shape:
        x: (N, 1, H, W) with H, W >= 9; returns (N, 20, H - 8, W - 8).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 20, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both convolutions."""
        x = F.relu(self.conv1(x))
        return F.relu(self.conv2(x))
