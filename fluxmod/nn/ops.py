"""Twins of torch's tensor functions where ``jax.numpy`` has other results or other gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .functional._distance import vector_norm

__all__ = ["max", "min", "norm"]


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


def norm(
    input: jax.Array,
    ord: float = 2.0,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
) -> jax.Array:
    """The norm of vectors along any axes; the twin of ``torch.linalg.vector_norm``.

    Its gradient at zero is 0. That of ``jnp.linalg.norm`` is NaN, which takes two axes for a
    matrix besides.

    >>> float(norm(jnp.array([[3.0, 4.0]])))
    5.0
    """
    axes = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    if not input.ndim:
        return vector_norm(input[None], float(ord), (0,))[0]
    found = vector_norm(input, float(ord), tuple(a % input.ndim for a in axes))
    return found if keepdim else found.squeeze(tuple(a % input.ndim for a in axes))


def _picked(
    input: jax.Array, index: jax.Array, dim: int, keepdim: bool
) -> tuple[jax.Array, jax.Array]:
    values = jnp.take_along_axis(input, index, axis=dim)
    if keepdim:
        return values, index
    return values.squeeze(dim), index.squeeze(dim)
