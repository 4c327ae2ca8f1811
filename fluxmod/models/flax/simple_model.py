"""The basic structure and the ``Sequential`` of note 003."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn

__all__ = ["SimpleModel", "mlp"]


class SimpleModel(nn.Module):
    """A linear layer and a ReLU.

    Shape:
        x: (*, in_dim); returns (*, out_dim).
    """

    def __init__(self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs) -> None:
        self.linear = nn.Linear(in_dim, out_dim, rngs=rngs)
        self.relu = nn.ReLU()

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.relu(self.linear(x))


def mlp(*, rngs: nnx.Rngs) -> nn.Sequential:
    """Build the note's ``mlp``: 256-128-64 with a ReLU between.

    Shape:
        x: (*, 256); returns (*, 64).
    """
    return nn.Sequential(
        nn.Linear(256, 128, rngs=rngs),
        nn.ReLU(),
        nn.Linear(128, 64, rngs=rngs),
    )
