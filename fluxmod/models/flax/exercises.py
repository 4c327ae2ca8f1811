"""The exercises of note 003 as modules: an MLP by hand and in sequence, nesting, dropout."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn

__all__ = ["DropoutNet", "TwoLayerMLP", "TwoParts", "sequential_mlp"]


class TwoLayerMLP(nn.Module):
    """Exercise 1: a two-layer MLP written by hand.

    Shape:
        x: (*, in_dim); returns (*, out_dim).
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, *, rngs: nnx.Rngs) -> None:
        self.fc1 = nn.Linear(in_dim, hidden_dim, rngs=rngs)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_dim, out_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.relu(self.fc1(x)))


def sequential_mlp(in_dim: int, hidden_dim: int, out_dim: int, *, rngs: nnx.Rngs) -> nn.Sequential:
    """Exercise 4: the same MLP as a ``Sequential``; its keys are numbers."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim, rngs=rngs),
        nn.ReLU(),
        nn.Linear(hidden_dim, out_dim, rngs=rngs),
    )


class DropoutNet(nn.Module):
    """Exercise 5: dropout behaves differently in training and evaluation.

    Shape:
        x: (*, dim); returns the same shape.
    """

    def __init__(self, dim: int, p: float = 0.5, *, rngs: nnx.Rngs) -> None:
        self.linear = nn.Linear(dim, dim, rngs=rngs)
        self.dropout = nn.Dropout(p, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dropout(self.linear(x))


class TwoParts(nn.Module):
    """Exercise 6: two sub-modules, so that parameter names are nested.

    Shape:
        x: (*, in_dim); returns (*, out_dim).
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, *, rngs: nnx.Rngs) -> None:
        self.encoder = TwoLayerMLP(in_dim, hidden_dim, hidden_dim, rngs=rngs)
        self.head = TwoLayerMLP(hidden_dim, hidden_dim, out_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.encoder(x))
