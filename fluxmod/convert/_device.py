"""Where converted arrays go."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

__all__ = ["put_like"]


def put_like(value: np.ndarray, current: Any) -> jax.Array:
    """Put an array where the current one lives; it is tied to that place only if that one was.

    JAX compiles for tied and for free arrays separately: a model of both would be compiled once
    more after the first step has tied what it returns.
    """
    if not isinstance(current, jax.Array):
        return jax.device_put(value)
    if getattr(current, "committed", True):
        return jax.device_put(value, current.sharding)
    with jax.default_device(next(iter(current.devices()))):
        return jax.device_put(value)
