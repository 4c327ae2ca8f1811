"""Logistic regression as a module (note 000)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """One linear unit and a sigmoid.

    Shape:
        x: (N, inputs); returns (N, 1).
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, 1)
        self.activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability."""
        x = self.layer(x)
        return self.activation(x)
