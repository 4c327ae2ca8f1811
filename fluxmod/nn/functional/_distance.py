"""Norms and distances, with torch's gradients where two points meet or coordinates tie."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod.nn._check import check_floating

from ._half import compute_dtype
from ._reduction import common_dtype

__all__ = ["cosine_similarity", "normalize", "pairwise_distance", "pdist"]


def normalize(
    input: jax.Array, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12
) -> jax.Array:
    """Divide by the ``p``-norm along ``dim``; the twin of ``torch.nn.functional.normalize``.

    Args:
        dim: axes counted in the array given.
        eps: the least norm to divide by.

    Raises:
        IndexError: no such axis.

    >>> normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]

    Source: torch.nn.functional.normalize, PyTorch 2.13 documentation.
    """
    check_floating(input, "normalize")
    axes = _axes(dim, input, "normalize")
    x = input.astype(compute_dtype(input.dtype))
    norm = vector_norm(x, p, axes)
    return (x / jnp.where(norm < eps, eps, norm)).astype(input.dtype)


def cosine_similarity(x1: jax.Array, x2: jax.Array, dim: int = 1, eps: float = 1e-8) -> jax.Array:
    """Return the cosine of the angle between vectors along ``dim``.

    The twin of ``torch.nn.functional.cosine_similarity``. A vector of zeros gives 0.

    Shape:
        x1, x2: broadcast to one shape; returns it without axis ``dim``.

    Args:
        dim: an axis counted in the broadcast shape.
        eps: the least norm to divide by.

    Raises:
        TypeError: neither holds floats.
        ValueError: the shapes do not broadcast.
        IndexError: no such axis.

    >>> cosine_similarity(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])).tolist()
    [0.7071067690849304]

    Source: torch.nn.functional.cosine_similarity, PyTorch 2.13 documentation.
    """
    who = "cosine_similarity"
    a, b, dtype = both(x1, x2, who)
    axes = _axes(dim, a, who)
    first, second = (x / _at_least(vector_norm(x, 2.0, axes), eps) for x in (a, b))
    return jnp.sum(first * second, axes).astype(dtype)


def pairwise_distance(
    x1: jax.Array, x2: jax.Array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> jax.Array:
    """Return the ``p``-norm of ``x1 - x2 + eps`` along the last axis.

    The twin of ``torch.nn.functional.pairwise_distance``.

    Shape:
        x1, x2: broadcast to one shape (*, D); returns (*), or (*, 1) with ``keepdim``.

    Raises:
        TypeError: neither holds floats.
        ValueError: the shapes do not broadcast.

    >>> pairwise_distance(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]]), eps=0.0).tolist()
    [5.0]

    Source: torch.nn.functional.pairwise_distance, PyTorch 2.13 documentation.
    """
    a, b, dtype = both(x1, x2, "pairwise_distance", integers=True)
    axes = (a.ndim - 1,) if a.ndim else ()
    norm = vector_norm(a - b + eps, p, axes)
    return (norm if keepdim or not axes else norm[..., 0]).astype(dtype)


def pdist(input: jax.Array, p: float = 2.0) -> jax.Array:
    """Return the ``p``-norm distance of every pair of rows; ``torch.nn.functional.pdist``.

    Shape:
        input: (N, D); returns (N * (N - 1) / 2): row 0 with 1, 2, ..., row 1 with 2, ...

    Raises:
        ValueError: an input of another rank; a negative ``p``.

    >>> pdist(jnp.array([[0.0], [3.0], [4.0]])).tolist()
    [3.0, 4.0, 1.0]

    Source: torch.nn.functional.pdist, PyTorch 2.13 documentation.
    """
    check_floating(input, "pdist")
    if input.ndim != 2:
        raise ValueError(f"pdist: expected 2 axes (N, D), got shape {tuple(input.shape)}.")
    if p < 0:
        raise ValueError(f"pdist: p must not be negative, got {p}.")
    first, second = np.triu_indices(input.shape[0], 1)
    x = input.astype(compute_dtype(input.dtype))
    return vector_norm(x[first] - x[second], p, (1,), "every")[:, 0].astype(input.dtype)


def both(
    x1: jax.Array, x2: jax.Array, who: str, *, integers: bool = False
) -> tuple[jax.Array, jax.Array, Any]:
    """Broadcast two arrays to one shape and to the dtype to compute in; also the result's.

    Args:
        integers: whether two arrays of integers or bools are taken, as float32.
    """
    dtype = common_dtype(x1, x2)
    if integers and not jnp.issubdtype(dtype, jnp.inexact):
        dtype = jnp.dtype(jnp.float32)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"{who}: expected floating point inputs, got {x1.dtype} and {x2.dtype}. "
            "Convert them first: x.astype(jnp.float32)."
        )
    try:
        shape = np.broadcast_shapes(x1.shape, x2.shape)
    except ValueError:
        raise ValueError(
            f"{who}: inputs of shapes {tuple(x1.shape)} and {tuple(x2.shape)} do not broadcast."
        ) from None
    wide = compute_dtype(dtype)
    a, b = (jnp.broadcast_to(x.astype(wide), shape) for x in (x1, x2))
    return a, b, dtype


def _axes(dim: int | tuple[int, ...], x: jax.Array, who: str) -> tuple[int, ...]:
    """The axes meant; a scalar has none, and takes 0 and -1 for it, as in torch."""
    dims = (dim,) if isinstance(dim, int) else dim
    rank = max(x.ndim, 1)
    if any(not -rank <= d < rank for d in dims):
        raise IndexError(f"{who}: dim={dim} is out of range for shape {tuple(x.shape)}.")
    return tuple(d % rank for d in dims) if x.ndim else ()


def _at_least(norm: jax.Array, eps: float) -> jax.Array:
    """``max(norm, eps)`` with the gradient of ``norm`` throughout."""
    return jnp.where(norm < eps, norm - lax.stop_gradient(norm) + eps, norm)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def vector_norm(x: jax.Array, p: float, axes: tuple[int, ...], ties: str = "split") -> jax.Array:
    """The ``p``-norm over ``axes``, which stay with size 1; its gradient at zero is 0.

    Args:
        ties: for infinite ``p``, whether coordinates that tie 'split' the gradient or 'every' one
            has all of it.

    >>> vector_norm(jnp.array([3.0, 4.0]), 2.0, (0,)).tolist()
    [5.0]
    """
    size = jnp.abs(x)
    if p == 0:
        return jnp.sum((x != 0).astype(x.dtype), axes, keepdims=True)
    if p == 1:
        return jnp.sum(size, axes, keepdims=True)
    if p == 2:
        return jnp.sqrt(jnp.sum(jnp.real(x * jnp.conj(x)), axes, keepdims=True))
    if p == math.inf:
        return jnp.max(size, axes, keepdims=True, initial=0)
    if p == -math.inf:
        return jnp.min(size, axes, keepdims=True, initial=jnp.inf)
    return jnp.sum(size**p, axes, keepdims=True) ** (1 / p)


@vector_norm.defjvp
def _vector_norm_jvp(
    p: float,
    axes: tuple[int, ...],
    ties: str,
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    (x,), (along,) = primals, tangents
    norm = vector_norm(x, p, axes, ties)
    return norm, jnp.sum(_slope(x, norm, p, axes, ties) * along, axes, keepdims=True)


def _slope(x: jax.Array, norm: jax.Array, p: float, axes: tuple[int, ...], ties: str) -> jax.Array:
    """The norm's derivative by each coordinate."""
    sign = jnp.where(jnp.isnan(x), 0, jnp.sign(x))
    if p == 0:
        return jnp.zeros_like(x)
    if p == 1:
        return sign
    if p == 2:
        return jnp.where(norm == 0, 0, x / jnp.where(norm == 0, 1, norm))
    if math.isinf(p):
        chosen = (jnp.abs(x) == norm) | jnp.isnan(x)
        shared: Any = jnp.sum(chosen, axes, keepdims=True) if ties == "split" else 1
        return sign * chosen.astype(x.dtype) / jnp.asarray(shared, x.dtype)
    zero = norm == 0
    scale = jnp.where(zero, 0, jnp.where(zero, 1, norm) ** (1 - p))
    at_zero = x == 0
    power = jnp.where(at_zero, 0, jnp.where(at_zero, 1, jnp.abs(x)) ** (p - 1))
    return sign * power * scale
