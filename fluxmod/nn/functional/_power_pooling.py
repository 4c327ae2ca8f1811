"""Power-average pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_floating, tuple_of

from ._pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d"]

Size = int | Sequence[int]

_LARGEST = (max_pool1d, max_pool2d, max_pool3d)


def lp_pool1d(
    input: jax.Array,
    norm_type: float,
    kernel_size: int,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> jax.Array:
    """Take the ``p``-norm of each window of (N, L, C); ``torch.nn.functional.lp_pool1d``.

    >>> lp_pool1d(jnp.array([[[3.0], [4.0]]]), 2.0, 2).item()
    5.0

    Source: torch.nn.functional.lp_pool1d, PyTorch 2.13 documentation.
    """
    return _lp_pool(1, avg_pool1d, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: jax.Array,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> jax.Array:
    """Take the ``p``-norm of each window of (N, H, W, C); ``torch.nn.functional.lp_pool2d``.

    The sum of powers keeps no sign and is cut off at zero, as in torch: an odd ``p`` is a norm of
    windows that are not negative only.

    >>> lp_pool2d(jnp.ones((1, 4, 4, 2)), 2.0, 2)[0, 0, 0].tolist()
    [2.0, 2.0]

    Source: torch.nn.functional.lp_pool2d, PyTorch 2.13 documentation.
    """
    return _lp_pool(2, avg_pool2d, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: jax.Array,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> jax.Array:
    """Take the ``p``-norm of each window of (N, D, H, W, C); ``torch.nn.functional.lp_pool3d``.

    >>> lp_pool3d(jnp.ones((1, 2, 2, 2, 1)), 1.0, 2).item()
    8.0

    Source: torch.nn.functional.lp_pool3d, PyTorch 2.13 documentation.
    """
    return _lp_pool(3, avg_pool3d, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(
    nd: int,
    average: Callable[..., jax.Array],
    x: jax.Array,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None,
    ceil_mode: bool,
) -> jax.Array:
    who = f"lp_pool{nd}d"
    check_floating(x, who)
    if not norm_type:
        raise ValueError(f"{who}: norm_type must not be 0.")
    count = math.prod(tuple_of(kernel_size, nd, f"{who}: kernel_size"))
    if math.isinf(norm_type):
        largest = _LARGEST[nd - 1]
        sign = math.copysign(1.0, norm_type)
        size = x * lax.stop_gradient(jnp.sign(x))  # |x|, whose gradient at 0 is 0
        return sign * largest(sign * size, kernel_size, stride, 0, 1, ceil_mode)
    exponent: Any = norm_type
    mean = average(x**exponent, kernel_size, stride, 0, ceil_mode)
    # a window whose powers add up to nothing has gradient 0, as in torch: the root's is infinite
    mean = jnp.where(mean == 0, jnp.zeros_like(mean), mean)
    return (mean * count) ** (1.0 / norm_type)
