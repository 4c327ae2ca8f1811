"""The FashionMNIST classifier of note 002, and its Sequential variant."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn

__all__ = ["NeuralNetwork", "Predictor", "seq_modules"]


class NeuralNetwork(nn.Module):
    """Three linear layers over a flattened image.

    Shape:
        x: (N, 28, 28) or (N, 28, 28, 1); returns (N, 10) logits.
    """

    axes = nn.Axes(inputs=(nn.Channel(1, min_rank=4),))

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 512, rngs=rngs),
            nn.ReLU(),
            nn.Linear(512, 512, rngs=rngs),
            nn.ReLU(),
            nn.Linear(512, 10, rngs=rngs),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.flatten(x)
        return self.linear_relu_stack(x)


class Predictor(nn.Module):
    """The note's prediction: logits, then ``Softmax(dim=1)``, then the most probable class.

    Shape:
        x: as the network takes it; returns probabilities (N, 10) and classes (N,).
    """

    axes = NeuralNetwork.axes

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.network = NeuralNetwork(rngs=rngs)
        self.softmax = nn.Softmax(dim=1)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        probabilities = self.softmax(self.network(x))
        return probabilities, probabilities.argmax(1)


def seq_modules(*, rngs: nnx.Rngs) -> nn.Sequential:
    """Build the note's ``seq_modules``: flatten, 784-20, ReLU, 20-10.

    Shape:
        x: (N, 28, 28); returns (N, 10) logits.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 20, rngs=rngs),
        nn.ReLU(),
        nn.Linear(20, 10, rngs=rngs),
    )
