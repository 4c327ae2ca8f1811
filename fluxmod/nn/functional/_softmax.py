"""Softmax and its relatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fluxmod.nn._check import check_floating

from ._half import compute_dtype

__all__ = ["log_softmax", "softmax", "softmin"]


def softmax(input: jax.Array, dim: int | None = None, *, dtype: Any = None) -> jax.Array:
    """Normalise ``exp(x)`` to sum 1 along an axis; the twin of ``torch.nn.functional.softmax``.

    Half precision is computed in float32 and cast back. A row of -inf gives NaN, as in torch.

    Args:
        dim: the axis, counted in the array given. torch's deprecated guess for ``None`` depends on
            the rank and is not made here.
        dtype: cast to it first.

    Raises:
        IndexError: no such axis.
        ValueError: ``dim`` is None.

    >>> softmax(jnp.array([[0.0, 0.0]]), dim=1).tolist()
    [[0.5, 0.5]]

    Source: torch.nn.functional.softmax, PyTorch 2.13 documentation.
    """
    return _along(jax.nn.softmax, input, dim, dtype, "softmax")


def log_softmax(input: jax.Array, dim: int | None = None, *, dtype: Any = None) -> jax.Array:
    """Compute ``log(softmax(x))`` without underflow; ``torch.nn.functional.log_softmax``.

    Arguments and errors as in ``softmax``.

    >>> log_softmax(jnp.array([[0.0, -1000.0]]), dim=1).tolist()
    [[0.0, -1000.0]]

    Source: torch.nn.functional.log_softmax, PyTorch 2.13 documentation.
    """
    return _along(jax.nn.log_softmax, input, dim, dtype, "log_softmax")


def softmin(input: jax.Array, dim: int | None = None, *, dtype: Any = None) -> jax.Array:
    """Compute ``softmax(-x)``; the twin of ``torch.nn.functional.softmin``.

    Arguments and errors as in ``softmax``.

    >>> softmin(jnp.array([[0.0, 0.0]]), dim=1).tolist()
    [[0.5, 0.5]]

    Source: torch.nn.functional.softmin, PyTorch 2.13 documentation.
    """
    return _along(_softmax_of_negative, input, dim, dtype, "softmin")


def _softmax_of_negative(x: jax.Array, axis: int) -> jax.Array:
    return jax.nn.softmax(-x, axis=axis)


def _along(
    function: Callable[..., jax.Array], x: jax.Array, dim: int | None, dtype: Any, who: str
) -> jax.Array:
    if dim is None:
        raise ValueError(
            f"{who}: dim is needed. torch's deprecated default would take axis "
            f"{0 if x.ndim in (0, 1, 3) else 1} of an array of rank {x.ndim} in torch's order of "
            "axes; name the axis of this array."
        )
    rank = max(x.ndim, 1)
    if not -rank <= dim < rank:
        raise IndexError(f"{who}: dim={dim} is out of range for shape {tuple(x.shape)}.")
    if dtype is not None:
        x = x.astype(dtype)
    check_floating(x, who)
    if x.size == 0:
        return x
    wide = jnp.atleast_1d(x.astype(compute_dtype(x.dtype)))
    return function(wide, axis=dim).reshape(x.shape).astype(x.dtype)
