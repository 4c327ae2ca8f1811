"""Half precision: where float32 is needed for a sum that eight bits cannot hold."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["add_bias", "compute_dtype"]


def compute_dtype(dtype: Any) -> Any:
    """Half precision is computed in float32, everything else in its own dtype.

    >>> compute_dtype(jnp.bfloat16) == jnp.float32, compute_dtype(jnp.int32) == jnp.int32
    (True, True)
    """
    if not jnp.issubdtype(dtype, jnp.inexact):
        return dtype
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else dtype


def add_bias(out: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Add one value per channel to an array whose channels are last.

    In half precision the sum, and with it the bias's gradient, is taken in float32: XLA would add
    up thousands of terms in eight bits.

    >>> add_bias(jnp.zeros((2, 3)), jnp.array([1.0, 2.0, 3.0])).tolist()
    [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """
    if bias is None:
        return out
    wide = compute_dtype(out.dtype)
    return (out.astype(wide) + jnp.broadcast_to(bias.astype(wide), out.shape)).astype(out.dtype)
