"""The first model of the notes (000, 004): two convolutions."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["Model"]


class Model(nn.Module):
    """Two 5x5 convolutions, a ReLU after each.

    Shape:
        x: (N, H, W, 1) with H, W >= 9; returns (N, H - 8, W - 8, 20).
    """

    axes = nn.Axes(inputs=(nn.Channel(-3),), output=nn.Channel(-3))

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nn.Conv2d(1, 20, 5, rngs=rngs)
        self.conv2 = nn.Conv2d(20, 20, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = F.relu(self.conv1(x))
        return F.relu(self.conv2(x))
