"""The local response normalisation of Lua Torch, which torch.nn.CrossMapLRN2d keeps as it was."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from fluxmod.nn._check import check_floating

from ._half import compute_dtype
from ._rms_norm import channel_sum


def cross_map_lrn(
    input: jax.Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """Divide (N, H, W, C) by ``(k + alpha / size * sum of squares)^beta`` over nearby channels.

    Equal to torch's layer in value and in gradient, both of which differ from the definition:
    torch's running sum never lets go of channel 0, and its gradient sums over a window that sits
    one channel too low.

    >>> cross_map_lrn(jnp.ones((1, 1, 1, 2)), 1, alpha=1.0, beta=1.0).tolist()
    [[[[0.5, 0.3333333432674408]]]]
    """
    who = "CrossMapLRN2d"
    check_floating(input, who)
    if input.ndim != 4:
        raise ValueError(f"{who}: expected 4 axes (N, H, W, C), got shape {tuple(input.shape)}.")
    if size < 1:
        raise ValueError(f"{who}: size must be at least 1, got {size}.")
    wide = input.astype(compute_dtype(input.dtype))
    return _lrn(wide, size, alpha, beta, k).astype(input.dtype)


def _divisor(x: jax.Array, size: int, alpha: float, k: float) -> jax.Array:
    squares = x * x
    reach = (size - 1) // 2
    summed = channel_sum(squares, reach, reach)
    beyond = jnp.arange(x.shape[-1]) > reach
    first = jnp.where(beyond, squares[..., :1], 0)  # never let go of
    return (summed + first) * (alpha / size) + k


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _lrn(x: jax.Array, size: int, alpha: float, beta: float, k: float) -> jax.Array:
    return x * _divisor(x, size, alpha, k) ** -beta


def _forward(
    x: jax.Array, size: int, alpha: float, beta: float, k: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    divisor = _divisor(x, size, alpha, k)
    return x * divisor**-beta, (x, divisor)


def _backward(
    size: int,
    alpha: float,
    beta: float,
    k: float,
    kept: tuple[jax.Array, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array]:
    x, divisor = kept
    power = divisor**-beta
    ratio = cotangent * x * power / divisor
    below = size - size // 2 if size > 1 else 0
    summed = channel_sum(ratio, below, size - 1 - below)
    return (cotangent * power - 2 * alpha * beta / size * x * summed,)


_lrn.defvjp(_forward, _backward)
