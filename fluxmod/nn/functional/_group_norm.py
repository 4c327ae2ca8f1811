"""Normalisation over groups of channels and over single channels of single samples."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_floating

from ._half import compute_dtype
from ._norm import centred

__all__ = ["group_norm", "instance_norm"]

# N batch, S all spatial axes together, G groups, C channels


def group_norm(
    input: jax.Array,
    num_groups: int,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: float = 1e-5,
) -> jax.Array:
    """Normalise every group of neighbouring channels of every sample.

    The twin of ``torch.nn.functional.group_norm``.

    Shape:
        input: (N, *, C); scale, bias: (C,); returns input's shape.

    Raises:
        ValueError: channels that ``num_groups`` does not divide; one value per group; shapes that
            do not fit.
        TypeError: parameters of another dtype (float32 ones fit half precision).

    >>> group_norm(jnp.array([[1.0, 3.0, 10.0, 30.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]

    Source: torch.nn.functional.group_norm, PyTorch 2.13 documentation; Wu and He, 2018.
    """
    who = "group_norm"
    check_floating(input, who)
    if input.ndim < 2:
        raise ValueError(f"{who}: expected at least 2 axes (N, *, C), got {tuple(input.shape)}.")
    batch, channels = input.shape[0], input.shape[-1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"{who}: num_groups={num_groups} must divide the {channels} channels on the last axis "
            f"of input shape {tuple(input.shape)}."
        )
    spatial = math.prod(input.shape[1:-1])
    if batch * channels // num_groups * spatial == 1:
        raise ValueError(
            f"{who}: expected more than 1 value per group, got input shape {tuple(input.shape)} "
            f"and num_groups={num_groups}."
        )
    check_affine(input, scale, bias, who)
    x = input.astype(compute_dtype(input.dtype))
    x = x.reshape(batch, spatial, num_groups, channels // num_groups)
    d, _, var = centred(x, (1, 3))
    out = (d * lax.rsqrt(var + eps)).reshape(input.shape)
    return scaled(out, scale, bias).astype(input.dtype)


def instance_norm(
    input: jax.Array,
    running_mean: jax.Array | None = None,
    running_var: jax.Array | None = None,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    use_input_stats: bool = True,
    eps: float = 1e-5,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise every channel of every sample by itself.

    The twin of ``torch.nn.functional.instance_norm``, as a pure function: it also returns the mean
    and the **unbiased** variance of each channel, averaged over the samples, from which running
    statistics are updated.

    Shape:
        input: (N, *, C); all statistics: (C,); returns (output, mean, var).

    Args:
        use_input_stats: False normalises with ``running_mean`` and ``running_var``.

    Raises:
        ValueError: one value per channel and sample; missing statistics; shapes that do not fit.
        TypeError: parameters of another dtype (float32 ones fit half precision).

    >>> out, mean, var = instance_norm(jnp.array([[[1.0], [3.0]]]), eps=0.0)
    >>> out.tolist(), mean.tolist(), var.tolist()
    ([[[-1.0], [1.0]]], [2.0], [2.0])

    Source: torch.nn.functional.instance_norm, PyTorch 2.13 documentation; Ulyanov et al., 2016.
    """
    who = "instance_norm"
    check_floating(input, who)
    if input.ndim < 2:
        raise ValueError(f"{who}: expected at least 2 axes (N, *, C), got {tuple(input.shape)}.")
    check_affine(input, scale, bias, who, running_mean=running_mean, running_var=running_var)
    x = input.astype(compute_dtype(input.dtype))
    axes = tuple(range(1, x.ndim - 1))
    count = math.prod(x.shape[1:-1])
    if use_input_stats:
        if count == 1:
            raise ValueError(
                f"{who}: expected more than 1 spatial element when training, got input shape "
                f"{tuple(input.shape)}."
            )
        d, centre, biased = centred(x, axes)
        out = d * lax.rsqrt(biased + eps)
        of_batch = lax.stop_gradient((centre, biased * (count / max(count - 1, 1))))
        mean, var = (jnp.mean(s.reshape(x.shape[0], -1), axis=0) for s in of_batch)
    else:
        if running_mean is None or running_var is None:
            raise ValueError(f"{who}: evaluation needs running_mean and running_var, got None.")
        mean, var = running_mean, running_var
        out = (x - last(mean, x)) * lax.rsqrt(last(var, x) + eps)
    return scaled(out, scale, bias).astype(input.dtype), mean, var


def check_affine(
    input: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    who: str,
    **more: jax.Array | None,
) -> None:
    """Require one number per channel, in the input's dtype or, beside half precision, float32."""
    channels = input.shape[-1:]
    allowed = (input.dtype, compute_dtype(input.dtype))
    for name, value in {"scale": scale, "bias": bias, **more}.items():
        if value is None:
            continue
        if value.shape != channels:
            raise ValueError(
                f"{who}: {name} must have shape {channels} for an input of shape "
                f"{tuple(input.shape)} with the channels last, got {tuple(value.shape)}."
            )
        if value.dtype not in allowed and name not in more:
            raise TypeError(
                f"{who}: {name} must be {allowed[-1]} for an input of {input.dtype}, got "
                f"{value.dtype}."
            )


def last(values: jax.Array, like: jax.Array) -> jax.Array:
    """One number per channel, ready to meet a channels-last array."""
    return values.reshape((1,) * (like.ndim - 1) + (-1,)).astype(like.dtype)


def scaled(x: jax.Array, scale: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """Multiply and shift every channel."""
    x = x if scale is None else x * last(scale, x)
    return x if bias is None else x + last(bias, x)
