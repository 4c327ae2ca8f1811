"""Twins of torch's tensor functions where ``jax.numpy`` has other results or other gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["max", "min"]


def max(input: jax.Array, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """The largest values along an axis and their places; the twin of ``torch.max(input, dim)``.

    The gradient goes to the place alone. That of ``jnp.max`` is shared by all equal values, and was
    NaN in a compiled PointNet.

    >>> [a.tolist() for a in max(jnp.array([[1.0, 3.0, 3.0]]), 1)]
    [[3.0], [1]]
    """
    return _picked(input, jnp.argmax(input, axis=dim, keepdims=True), dim, keepdim)


def min(input: jax.Array, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """The smallest values along an axis and their places; as ``max``.

    >>> [a.tolist() for a in min(jnp.array([[2.0, 1.0, 1.0]]), 1)]
    [[1.0], [1]]
    """
    return _picked(input, jnp.argmin(input, axis=dim, keepdims=True), dim, keepdim)


def _picked(
    input: jax.Array, index: jax.Array, dim: int, keepdim: bool
) -> tuple[jax.Array, jax.Array]:
    values = jnp.take_along_axis(input, index, axis=dim)
    if keepdim:
        return values, index
    return values.squeeze(dim), index.squeeze(dim)
