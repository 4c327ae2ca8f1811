"""Normalisation by magnitude alone: root mean squares, and neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod.nn._check import check_floating

from ._half import compute_dtype

__all__ = ["local_response_norm", "rms_norm"]


def rms_norm(
    input: jax.Array,
    normalized_shape: Sequence[int],
    scale: jax.Array | None = None,
    eps: float | None = None,
) -> jax.Array:
    """Divide by the root mean square over the last ``len(normalized_shape)`` axes.

    The twin of ``torch.nn.functional.rms_norm``.

    Shape:
        input: (*, *normalized_shape); scale: normalized_shape; returns input's shape.

    Args:
        eps: added to the mean square; the spacing of numbers at 1 of the dtype that is computed
            in, unless given (half precision is computed in float32).

    Raises:
        ValueError: shapes that do not fit.

    >>> rms_norm(jnp.array([[3.0, -3.0]]), (2,), eps=0.0).tolist()
    [[1.0, -1.0]]

    Source: torch.nn.functional.rms_norm, PyTorch 2.13 documentation; Zhang and Sennrich, 2019.
    """
    check_floating(input, "rms_norm")
    shape = tuple(normalized_shape)
    if not shape or input.shape[input.ndim - len(shape) :] != shape or input.ndim < len(shape):
        raise ValueError(
            f"rms_norm: expected an input that ends in normalized_shape={shape}, "
            f"got shape {tuple(input.shape)}."
        )
    if scale is not None and scale.shape != shape:
        raise ValueError(
            f"rms_norm: expected a scale of normalized_shape={shape}, got {tuple(scale.shape)}."
        )
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    x = input.astype(compute_dtype(input.dtype))
    eps = float(jnp.finfo(x.dtype).eps) if eps is None else eps
    out = x * lax.rsqrt(jnp.mean(x * x, axes, keepdims=True) + eps)
    if scale is not None:
        out = out * jnp.broadcast_to(scale.astype(out.dtype), out.shape)
    return out.astype(input.dtype)


def local_response_norm(
    input: jax.Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """Divide by ``(k + alpha * mean of squares)^beta`` over ``size`` neighbouring channels.

    The twin of ``torch.nn.functional.local_response_norm``. The mean counts zeros beyond the first
    and the last channel.

    Shape:
        input: (N, *, C), at least 3 axes; returns the same shape.

    Raises:
        ValueError: fewer than 3 axes; ``size`` below 1.

    >>> local_response_norm(jnp.ones((1, 1, 2)), 1, alpha=1.0, beta=1.0).tolist()
    [[[0.5, 0.5]]]

    Source: torch.nn.functional.local_response_norm, PyTorch 2.13 documentation; Krizhevsky et al.,
    2012.
    """
    who = "local_response_norm"
    check_floating(input, who)
    if input.ndim < 3:
        raise ValueError(
            f"{who}: expected at least 3 axes (N, *, C), got shape {tuple(input.shape)}."
        )
    if size < 1:
        raise ValueError(f"{who}: size must be at least 1, got {size}.")
    if input.size == 0:
        return input
    x = input.astype(compute_dtype(input.dtype))
    mean = channel_sum(x * x, size // 2, (size - 1) // 2) / size
    return (x / (mean * alpha + k) ** beta).astype(input.dtype)


def channel_sum(x: jax.Array, below: int, above: int) -> jax.Array:
    """Sum each channel with its neighbours: ``below`` before it and ``above`` after it.

    >>> channel_sum(jnp.array([1.0, 2.0, 4.0]), 1, 0).tolist()
    [1.0, 3.0, 6.0]
    """
    ones = (1,) * (x.ndim - 1)
    window = (*ones, below + above + 1)
    padding = (*((0, 0) for _ in ones), (below, above))
    zero = np.zeros((), x.dtype)  # known when traced, so that the sum has a gradient
    return lax.reduce_window(x, zero, lax.add, window, (1,) * x.ndim, padding)
