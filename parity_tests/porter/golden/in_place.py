"""InPlace, ported from torch by fluxmod."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["InPlace"]


class InPlace(nn.Module):
    """The port of ``parity_tests.porter.models.misc.InPlace``.

    Shape:
        x: (N, 6); returns (N, 6), (N, 6), (N, 3), ().
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.fc = nn.Linear(6, 6, rngs=rngs)

    def __call__(self, x: jax.Array):
        y = self.fc(x)
        y = y.at[:, 2:4].set(0.0)
        y = y.at[:, 0].add(1.0)
        z = y.at[:, 1].set(x[:, 0] * 2)
        view = z.reshape(-1, 2, 3)
        view = view.at[:, 1].multiply(3.0)
        z = view.reshape(z.shape)
        z = F.relu(z)
        view = z.reshape(-1, 2, 3)
        return z, {"y": y, "last": (view[:, 0], z.sum())}
