"""Convolutions written as other operations; each equals XLA's convolution on its shapes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import optimization_barrier

from .conv_shifts import is_half, shifted
from .products import rows_times

__all__ = ["TILE", "as_columns", "as_matmul", "as_tiles", "in_blocks"]

BLOCK = 32
"""Input channels of a block of groups: fewer make many small convolutions, more waste zeros."""
TILE = 64
"""Outputs of a tile, neighbours times channels: the narrower side of a product."""
MOST_NEIGHBOURS = 8
"""Windows of a tile: of more, most of what the product multiplies is zero."""


def as_matmul(x: jax.Array, kernel: jax.Array, shape: Any, precision: Any) -> jax.Array:
    """Windows that lie side by side: each is one row of a matrix."""
    k, out = shape.kernel, tuple(n // k for n, k in zip(shape.spatial, shape.kernel, strict=True))
    x = x[(slice(None), *(slice(0, n * size) for n, size in zip(out, k, strict=True)))]
    if any(size > 1 for size in k):
        nd = len(k)
        pairs = itertools.chain.from_iterable(zip(out, k, strict=True))
        x = x.reshape(x.shape[0], *pairs, x.shape[-1])
        order = (0, *range(1, 2 * nd, 2), *range(2, 2 * nd + 1, 2), 2 * nd + 1)
        x = x.transpose(order)
    rows = x.reshape(x.shape[0], *out, kernel.size // kernel.shape[-1])
    return _product(rows, kernel, precision)


def as_columns(x: jax.Array, kernel: jax.Array, shape: Any, precision: Any) -> jax.Array:
    """Every window copied into a row of a matrix: for few windows and many channels."""
    x = optimization_barrier(x)  # what gives x is computed once, not for every tap
    parts = shifted(x, shape.kernel, shape.strides, shape.padding, shape.dilation)
    return _product(jnp.concatenate(list(parts), axis=-1), kernel, precision)


def as_tiles(x: jax.Array, kernel: jax.Array, shape: Any, precision: Any) -> jax.Array:
    """Several neighbours of a line from one row of a matrix: for images of few channels.

    The matrix repeats the kernel for each neighbour, shifted, with zeros between; more arithmetic
    than a product of single windows, but in a matrix product of a good size.
    """
    *lead, reach = shape.kernel
    *_, step = shape.strides
    *margins, (before, after) = shape.padding
    width = (shape.spatial[-1] + before + after - reach) // step + 1
    tile = max(1, min(TILE // shape.outputs, MOST_NEIGHBOURS, width))
    count, hop, span = -(-width // tile), step * tile, step * (tile - 1) + reach
    overlap = -(-span // hop) - 1
    x = optimization_barrier(x)  # what gives x is computed once, not for every tap
    end = (count + overlap) * hop - shape.spatial[-1] - before
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [(0, 0, 0), *[(*m, 0) for m in margins], (before, end, 0), (0, 0, 0)])
    x = optimization_barrier(x).reshape(*x.shape[:-2], count + overlap, hop * x.shape[-1])
    none = ((0, 0),) * (len(lead) + 1)
    rows = []
    for line in shifted(x, (*lead, 1), (*shape.strides[:-1], 1), none, (1,) * (len(lead) + 1)):
        whole = [line[..., i : i + count, :] for i in range(overlap + 1)]
        rows.append(jnp.concatenate(whole, axis=-1)[..., : span * shape.inputs])
    table = optimization_barrier(jnp.concatenate(rows, axis=-1))
    sides = [(i * step, span - reach - i * step) for i in range(tile)]
    still = [(0, 0)] * len(lead)
    repeated = jnp.stack([jnp.pad(kernel, (*still, side, (0, 0), (0, 0))) for side in sides], -2)
    out = _product(table, repeated.reshape(-1, tile * shape.outputs), precision)
    out = out.reshape(*out.shape[:-2], count * tile, shape.outputs)
    return optimization_barrier(out[..., :width, :])


def _product(rows: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
    wide = jnp.promote_types(rows.dtype, jnp.float32) if is_half(rows) else None
    matrix = kernel.reshape(-1, kernel.shape[-1])
    product = rows_times(rows, matrix, precision=precision, preferred_element_type=wide)
    return product.astype(rows.dtype)


def in_blocks(
    dense: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, shape: Any, precision: Any
) -> jax.Array:
    """Groups as dense convolutions: some of them side by side in one block-diagonal kernel.

    A NaN or an infinity in one group reaches the other groups of its block: zero times it is NaN.
    """
    merged = 1
    while shape.inputs * merged < BLOCK and shape.groups % (2 * merged) == 0:
        merged *= 2
    count = shape.groups // merged
    parts = kernel.reshape(*shape.kernel, shape.inputs, count, merged, shape.outputs)
    one = replace(shape, groups=1, inputs=merged * shape.inputs, outputs=merged * shape.outputs)
    pieces = []
    for index, piece in enumerate(jnp.split(x, count, axis=-1)):
        own = parts[..., index, :, :]
        pieces.append(dense(piece, _block_diagonal(own, merged), one, precision))
    return jnp.concatenate(pieces, axis=-1)


def _block_diagonal(kernel: jax.Array, merged: int) -> jax.Array:
    """(*k, i, m, o) to (*k, m i, m o), zero where input and output are of different groups."""
    *k, inputs, _, outputs = kernel.shape
    eye = jnp.eye(merged, dtype=kernel.dtype)
    dense = jnp.einsum("...imo,mn->...nimo", kernel, eye)
    return dense.reshape(*k, merged * inputs, merged * outputs)
