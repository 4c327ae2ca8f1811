"""The product of arrays of rows with a matrix of weights."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["rows_times"]


def rows_times(
    rows: jax.Array, matrix: jax.Array, *, precision: Any = None, preferred_element_type: Any = None
) -> jax.Array:
    """Compute ``rows @ matrix``.

    The gradient of the matrix is a product over all rows. Where they have several axes, XLA on the
    CPU brings the cotangent into another order for it, element by element: 37 ms instead of 12 for
    (8, 128, 256) @ (256, 4096). With the axes as one it does not. Accelerators get the product as
    it is, whose axes may be sharded.

    Shape:
        rows: (*, K); matrix: (K, N); returns (*, N).
    """
    options: Any = {"precision": precision, "preferred_element_type": preferred_element_type}
    if rows.ndim < 3 or jax.default_backend() != "cpu":
        return jnp.matmul(rows, matrix, **options)
    several = math.prod(rows.shape[:-1])
    flat = jnp.matmul(rows.reshape(several, rows.shape[-1]), matrix, **options)
    return flat.reshape(*rows.shape[:-1], matrix.shape[-1])
