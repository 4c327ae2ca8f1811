"""torch's default initial distributions, as functions of a key, a shape and a dtype."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["fan_in_uniform", "scaled_uniform", "xavier_uniform"]


def scaled_uniform(key: Any, shape: tuple[int, ...], dtype: Any, bound: float) -> jax.Array:
    """Draw U(-bound, bound)."""
    return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)


def fan_in_uniform(key: Any, shape: tuple[int, ...], dtype: Any, fan_in: int) -> jax.Array:
    """Draw U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default for linear layers and convolutions.

    A layer without inputs (``fan_in == 0``) gets zeros.

    Source: torch.nn.Linear.reset_parameters (kaiming_uniform_ with a=sqrt(5)).
    """
    if fan_in == 0:
        return jnp.zeros(shape, dtype)
    return scaled_uniform(key, shape, dtype, 1.0 / math.sqrt(fan_in))


def xavier_uniform(
    key: Any, shape: tuple[int, ...], dtype: Any, fan_in: int, fan_out: int
) -> jax.Array:
    """Draw U(-b, b) with b = sqrt(6 / (fan_in + fan_out)).

    Source: torch.nn.init.xavier_uniform_.
    """
    return scaled_uniform(key, shape, dtype, math.sqrt(6.0 / (fan_in + fan_out)))
