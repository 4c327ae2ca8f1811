"""The basic structure and the ``Sequential`` of note 003."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SimpleModel", "mlp"]


class SimpleModel(nn.Module):
    """A linear layer and a ReLU.

    Shape:
        x: (*, in_dim); returns (*, out_dim).
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply both layers."""
        return self.relu(self.linear(x))


def mlp() -> nn.Sequential:
    """Build the note's ``mlp``: 256-128-64 with a ReLU between.

    Shape:
        x: (*, 256); returns (*, 64).
    """
    return nn.Sequential(
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
    )
