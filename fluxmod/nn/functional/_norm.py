"""Normalisation with two-pass statistics, exact for inputs far from zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_floating

from ._half import compute_dtype

__all__ = ["batch_norm", "layer_norm"]


def centred(
    x: jax.Array, axes: tuple[int, ...], axis_name: Any = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``x - mean``, the mean and the biased variance; the mean is corrected once more.

    The second subtraction removes the rounding error of the first: a row of equal values gives
    exact zeros, as in torch, and large offsets cost no accuracy.

    Args:
        axis_name: mapped axes (of ``shard_map`` or ``vmap``) to average over besides.
    """

    def mean_of(values: jax.Array) -> jax.Array:
        mean = jnp.mean(values, axes, keepdims=True)
        return mean if axis_name is None else lax.pmean(mean, axis_name)

    mean = mean_of(x)
    d = x - mean
    rest = mean_of(d)
    d = d - rest
    return d, mean + rest, mean_of(d * d)


def layer_norm(
    input: jax.Array,
    normalized_shape: Sequence[int],
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: float = 1e-5,
) -> jax.Array:
    """Normalise over the last ``len(normalized_shape)`` axes.

    The twin of ``torch.nn.functional.layer_norm``.

    Shape:
        input: (*, *normalized_shape); scale, bias: normalized_shape; returns input's shape.

    >>> layer_norm(jnp.array([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]

    Source: torch.nn.functional.layer_norm, PyTorch 2.13 documentation.
    """
    check_floating(input, "layer_norm")
    shape = tuple(normalized_shape)
    if not shape or input.shape[input.ndim - len(shape) :] != shape:
        raise ValueError(
            f"layer_norm: expected an input that ends in normalized_shape={shape}, "
            f"got shape {tuple(input.shape)}."
        )
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    x = input.astype(compute_dtype(input.dtype))
    d, _, var = centred(x, axes)
    out = d * lax.rsqrt(var + eps)
    if scale is not None:
        out = out * jnp.broadcast_to(scale, out.shape)
    if bias is not None:
        out = out + jnp.broadcast_to(bias, out.shape)
    return out.astype(input.dtype)


def batch_norm(
    input: jax.Array,
    running_mean: jax.Array | None,
    running_var: jax.Array | None,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    axis_name: Any = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise every channel over all other axes of a channels-last array.

    The twin of ``torch.nn.functional.batch_norm``, as a pure function: it also returns the mean
    and the **unbiased** variance of the batch, from which running statistics are updated.

    Shape:
        input: (*, C); all statistics: (C,); returns (output, mean, var).

    Args:
        axis_name: mapped axes over which the statistics of a batch are taken besides.

    Raises:
        ValueError: one value per channel in training mode; ``eps`` not above 0.

    >>> out, mean, var = batch_norm(jnp.array([[1.0], [3.0]]), None, None, training=True, eps=1e-9)
    >>> out.tolist(), mean.tolist(), var.tolist()
    ([[-1.0], [1.0]], [2.0], [2.0])

    Source: torch.nn.functional.batch_norm, PyTorch 2.13 documentation.
    """
    check_floating(input, "batch_norm")
    if eps <= 0:
        raise ValueError(f"batch_norm: eps must be positive, got {eps}.")
    x = input.astype(compute_dtype(input.dtype))
    count = x.size // x.shape[-1] if x.shape[-1] else 0
    shape = (1,) * (x.ndim - 1) + (-1,)
    if training:
        count *= 1 if axis_name is None else lax.axis_size(axis_name)
        if count == 1:
            raise ValueError(
                "batch_norm: expected more than 1 value per channel when training, got input "
                f"shape {tuple(input.shape)}. Use a larger batch or eval()."
            )
        axes = tuple(range(x.ndim - 1))
        d, centre, var = centred(x, axes, axis_name)
        mean = lax.stop_gradient(centre.reshape(-1))
        unbiased = lax.stop_gradient(var.reshape(-1) * (count / max(count - 1, 1)))
    else:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: evaluation needs running_mean and running_var, got None.")
        mean, unbiased = running_mean, running_var
        d = x - running_mean.reshape(shape)
        var = running_var.reshape(shape)
    out = d * lax.rsqrt(var + eps)
    if scale is not None:
        out = out * scale.reshape(shape)
    if bias is not None:
        out = out + bias.reshape(shape)
    return out.astype(input.dtype), mean, unbiased
