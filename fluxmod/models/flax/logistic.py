"""Logistic regression as a module (note 000)."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """One linear unit and a sigmoid.

    Shape:
        x: (N, inputs); returns (N, 1).
    """

    def __init__(self, inputs: int, *, rngs: nnx.Rngs) -> None:
        self.layer = nn.Linear(inputs, 1, rngs=rngs)
        self.activation = nn.Sigmoid()

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.layer(x)
        return self.activation(x)
