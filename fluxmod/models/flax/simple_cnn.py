"""A small image classifier (note 001)."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["SimpleCNN"]


class SimpleCNN(nn.Module):
    """Convolution, batch normalisation and pooling, then two linear layers.

    Shape:
        x: (N, 28, 28, 1); returns (N, 10) logits.
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.features = nn.Sequential(
            nn.Conv2d(
                in_channels=1, out_channels=16, kernel_size=5, stride=1, padding=2, rngs=rngs
            ),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 14 * 14, 128, rngs=rngs),
            nn.ReLU(),
            nn.Dropout(0.5, rngs=rngs),
            nn.Linear(128, 10, rngs=rngs),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.features(x)  # (N, 14, 14, 16)
        x = F.flatten(x)  # (N, 16 * 14 * 14), in torch's order
        return self.classifier(x)
