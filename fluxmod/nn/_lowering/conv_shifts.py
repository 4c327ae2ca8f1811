"""Depthwise convolution as a sum of shifted copies, each times its tap of the kernel."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import optimization_barrier

from .tangents import with_tangents

__all__ = ["by_shifts", "is_half", "shifted"]

TERMS = (8, 16, 32)
"""Blocks of windows whose products with the cotangent are added before they are reduced."""
MOST_SUMS = 2**22
"""Elements of that sum for all taps: of a larger one, more blocks are added."""


def _sum_of_shifts(x: jax.Array, kernel: jax.Array, shape: Any, precision: Any) -> jax.Array:
    """One input channel per group: a sum of shifted copies, each times its tap of the kernel.

    The barriers keep XLA from computing what gives ``x`` once more for every tap, and the sum once
    more for everything that reads it.
    """
    del precision  # products of single numbers
    x, kernel, dtype = _wide(x, kernel)
    parts = shifted(optimization_barrier(x), *_window(shape))
    pairs = zip(parts, _taps(kernel, shape), strict=True)
    total = _total(part[..., None] * tap for part, tap in pairs)
    return optimization_barrier(_merged(total).astype(dtype))


def _by_input(dx: jax.Array, kernel: jax.Array, shape: Any, precision: Any) -> jax.Array:
    """The sum for another input, written outwards: each copy is placed in a larger array.

    Transposed, the cotangent is padded once and read in shifted parts; the other way round it would
    be padded for every tap: 3.1 ms for 0.5 of 7x7, 96 channels, 8 x 16 x 16.
    """
    del precision
    dx, kernel, dtype = _wide(optimization_barrier(dx), kernel)
    zero = jnp.zeros((), dx.dtype)
    reach = [d * (k - 1) for d, k in zip(shape.dilation, shape.kernel, strict=True)]
    copies = []
    for tap, index in zip(_taps(kernel, shape), _indices(shape), strict=True):
        ahead = [d * i for d, i in zip(shape.dilation, index, strict=True)]
        place = [(r - a, a, 0) for r, a in zip(reach, ahead, strict=True)]
        copies.append(lax.pad(dx[..., None] * tap, zero, [_WHOLE, *place, _WHOLE, _WHOLE]))
    total = optimization_barrier(_merged(_total(copies)))
    edges = [(lo - r, hi - r, 0) for (lo, hi), r in zip(shape.padding, reach, strict=True)]
    dense = lax.pad(total, zero, [_WHOLE, *edges, _WHOLE])
    steps = (1, *shape.strides, 1)
    return lax.slice(dense, (0,) * dense.ndim, dense.shape, steps).astype(dtype)


_WHOLE = (0, 0, 0)


def _by_kernel(x: jax.Array, dkernel: jax.Array, shape: Any, precision: Any) -> jax.Array:
    """The sum for another kernel, in blocks of windows that share a copy of it for every window.

    Transposed, products of the blocks are added while they are read, for all taps in one loop, and
    only that sum is written and reduced: 25 ms for 2 of 3x3, 96 channels, 16 x 32 x 32.
    """
    del precision
    x, dkernel, dtype = _wide(x, dkernel)
    no_padding = ((0, 0),) * len(shape.kernel)
    padded = jnp.pad(optimization_barrier(x), ((0, 0), *shape.padding, (0, 0)))
    parts = list(shifted(optimization_barrier(padded), *_window(shape, no_padding)))
    batch, rows, *rest = parts[0].shape
    known = [size for size in parts[0].shape if isinstance(size, int)]
    products = len(parts) * math.prod(known) * shape.outputs
    terms = next((n for n in TERMS if products <= n * MOST_SUMS), TERMS[-1])
    images = _divisor(batch, terms)
    lines = _divisor(rows, terms // images)
    sizes = (len(parts), batch // images, rows // lines, *rest, shape.outputs)
    single = (len(parts), *[1] * (len(sizes) - 3), shape.groups, shape.outputs)
    copies = optimization_barrier(jnp.broadcast_to(dkernel.reshape(single), sizes))
    taps = [tap[0] for tap in lax.split(copies, [1] * len(parts))]
    _, m, n, *_ = sizes
    blocks = []
    for i, j in itertools.product(range(images), range(lines)):
        own = [part[i * m : (i + 1) * m, j * n : (j + 1) * n] for part in parts]
        blocks.append(_total(part[..., None] * tap for part, tap in zip(own, taps, strict=True)))
    strips = [jnp.concatenate(blocks[i : i + lines], 1) for i in range(0, len(blocks), lines)]
    return optimization_barrier(_merged(jnp.concatenate(strips)).astype(dtype))


by_shifts = with_tangents(_sum_of_shifts, by_input=_by_input, by_kernel=_by_kernel)
"""The sum of shifts; both gradients are one fused loop each."""


def _total(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def _divisor(size: Any, most: int) -> int:
    """The largest divisor of ``size`` up to ``most``; 1 of a size that is a symbol."""
    if not isinstance(size, int):
        return 1
    return max(n for n in range(1, most + 1) if size % n == 0)


def _taps(kernel: jax.Array, shape: Any) -> list[jax.Array]:
    """The kernel's numbers for each place in the window: (1, ..., groups, outputs of a group)."""
    count = math.prod(shape.kernel)
    ones = (1,) * len(shape.kernel)
    return list(lax.split(kernel.reshape(count, *ones, shape.groups, shape.outputs), [1] * count))


def _indices(shape: Any) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, shape.kernel))


def _window(shape: Any, padding: Any = None) -> tuple[Any, ...]:
    return shape.kernel, shape.strides, padding or shape.padding, shape.dilation


def _merged(x: jax.Array) -> jax.Array:
    """(*, groups, outputs of a group) to (*, channels)."""
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _wide(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    """Both in float32 at least, and the dtype to return to."""
    if is_half(x):
        return x.astype(jnp.float32), kernel.astype(jnp.float32), x.dtype
    return x, kernel, x.dtype


def shifted(
    x: jax.Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Iterator[jax.Array]:
    """Yield the part of the padded input that each tap of a kernel meets, taps in row order."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows = list(zip(x.shape[1:-1], kernel, strides, dilation, strict=True))
    reach = [(n - d * (k - 1) - 1) // s * s + 1 for n, k, s, d in rows]
    for tap in itertools.product(*map(range, kernel)):
        start = [d * i for i, d in zip(tap, dilation, strict=True)]
        stop = [a + r for a, r in zip(start, reach, strict=True)]
        yield lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *strides, 1))


def is_half(x: jax.Array) -> bool:
    """Whether products of the array's numbers are added in float32."""
    return jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32
