"""Twins of torch's tensor functions where ``jax.numpy`` has other results or other gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._random import rows_chosen
from .functional._distance import vector_norm

__all__ = [
    "abs",
    "clamp",
    "fmax",
    "fmin",
    "join_rows",
    "masked_rows",
    "masked_scatter",
    "max",
    "min",
    "nonzero",
    "norm",
    "scatter_reduce",
    "split_rows",
    "unfold",
    "windows",
]

Bound = jax.Array | float | None
Lengths = jax.Array | Sequence[jax.Array | int]


def abs(input: jax.Array) -> jax.Array:
    """The absolute value; the twin of ``torch.abs``.

    Its gradient at zero is 0; that of ``jnp.abs`` is 1.

    >>> float(jax.grad(abs)(0.0))
    0.0
    """
    still = lax.stop_gradient(jnp.abs(input))  # zero and NaN
    return jnp.where(input > 0, input, jnp.where(input < 0, -input, still))


def clamp(input: jax.Array, min: Bound = None, max: Bound = None) -> jax.Array:
    """Values held between two bounds; the twin of ``torch.clamp``.

    Args:
        min, max: numbers, or arrays that broadcast with the input; ``None`` for no bound.

    On a bound the gradient goes to the input, whole. ``jnp.clip`` and ``jnp.maximum`` split it with
    the bound, so after a ReLU half of it is lost.

    >>> [float(jax.grad(lambda x: clamp(x, min=0.0))(x)) for x in (-1.0, 0.0, 1.0)]
    [0.0, 1.0, 1.0]
    """
    still = lax.stop_gradient(jnp.clip(input, min, max))
    if not jnp.issubdtype(still.dtype, jnp.floating):
        return still
    low = -jnp.inf if min is None else min
    high = jnp.inf if max is None else max
    bound = jnp.where((input > high) | (high < low), high, still)
    bound = jnp.where((input < low) & (low < high), low, bound)
    inside = (input >= low) & (input <= high)
    lost = jnp.isnan(input) | jnp.isnan(low) | jnp.isnan(high)
    return jnp.where(inside, input, jnp.where(lost, jnp.nan, bound))


def fmax(input: jax.Array, other: jax.Array) -> jax.Array:
    """The larger of two values, NaN left out; the twin of ``torch.fmax``.

    Of equal values the first gets the gradient; ``jnp.fmax`` splits it.

    >>> float(jax.grad(fmax)(1.0, 1.0)), float(fmax(1.0, jnp.nan))
    (1.0, 1.0)
    """
    return jnp.where((input >= other) | jnp.isnan(other), input, other)


def fmin(input: jax.Array, other: jax.Array) -> jax.Array:
    """The smaller of two values, NaN left out; the twin of ``torch.fmin``."""
    return jnp.where((input <= other) | jnp.isnan(other), input, other)


def join_rows(arrays: Sequence[jax.Array], lengths: Lengths) -> jax.Array:
    """What ``split_rows`` took apart, one array again; of each piece its first rows.

    Args:
        lengths: how many rows each of the arrays gives; in all as many as one has.

    Shape:
        arrays: (N, *) each; returns (N, *).

    >>> pieces = split_rows(jnp.array([5, 6, 7]), jnp.array([1, 2]))
    >>> join_rows([10 * pieces[0], -pieces[1]], jnp.array([1, 2])).tolist()
    [50, -6, -7]
    """
    starts = _starts(jnp.asarray(lengths))
    joined, *others = arrays
    place = jnp.arange(len(joined)).reshape(-1, *[1] * (joined.ndim - 1))
    for start, array in zip(starts[1:], others, strict=True):
        joined = jnp.where(place < start, joined, jnp.roll(array, start, axis=0))
    return joined


def masked_rows(input: jax.Array, mask: jax.Array) -> jax.Array:
    """The rows ``input[mask]``, of a size that is known beforehand.

    There are ``mask.size`` rows: first those where the mask is true, in order, then the first of
    them again and again, so that nothing is computed on others.

    Shape:
        input: (*mask, *); mask: (*mask); returns (mask.size, *).

    Raises:
        TypeError: the mask is not of bools.

    >>> masked_rows(jnp.arange(3), jnp.array([False, True, True])).tolist()
    [1, 2, 1]
    """
    if mask.dtype != bool:
        raise TypeError(f"masked_rows: expected a mask of bools, got one of {mask.dtype}.")
    rows_chosen()
    rows = input.reshape(mask.size, *input.shape[mask.ndim :])
    (places,) = jnp.nonzero(mask.ravel(), size=mask.size, fill_value=-1)
    return rows[jnp.where(places < 0, places[:1], places)]


def masked_scatter(input: jax.Array, mask: jax.Array, source: jax.Array) -> jax.Array:
    """The input with the first numbers of ``source``, in order, where ``mask`` is true.

    The twin of ``Tensor.masked_scatter``: how models put the features of an image at the places of
    its tokens. Where the mask has more true entries than ``source`` has numbers, which torch
    refuses, compiled code gives NaN, or the lowest number of a type that has none.

    Raises:
        TypeError: the mask is not of bools.

    >>> mask = jnp.array([False, True, True])
    >>> masked_scatter(jnp.zeros(3), mask, jnp.array([1.0, 2.0, 3.0])).tolist()
    [0.0, 1.0, 2.0]
    """
    if mask.dtype != bool:
        raise TypeError(f"masked_scatter: expected a mask of bools, got one of {mask.dtype}.")
    shape = jnp.broadcast_shapes(input.shape, mask.shape)
    input, mask = jnp.broadcast_to(input, shape), jnp.broadcast_to(mask, shape)
    if not source.size:
        return input
    places = jnp.cumsum(mask.ravel()).reshape(shape) - 1
    chosen = source.ravel().at[jnp.where(mask, places, 0)].get(mode="fill")
    return jnp.where(mask, chosen.astype(input.dtype), input)


def max(input: jax.Array, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """The largest values along an axis and their places; the twin of ``torch.max(input, dim)``.

    The gradient goes to the place alone. That of ``jnp.max`` is shared by all equal values, and was
    NaN in a compiled PointNet.

    >>> [a.tolist() for a in max(jnp.array([[1.0, 3.0, 3.0]]), 1)]
    [[3.0], [1]]
    """
    return _picked(input, jnp.argmax(input, axis=dim, keepdims=True), dim, keepdim)


def min(input: jax.Array, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """The smallest values along an axis and their places; as ``max``.

    >>> [a.tolist() for a in min(jnp.array([[2.0, 1.0, 1.0]]), 1)]
    [[1.0], [1]]
    """
    return _picked(input, jnp.argmin(input, axis=dim, keepdims=True), dim, keepdim)


def nonzero(input: jax.Array, *, as_tuple: bool = False) -> Any:
    """The places of what is not zero, a row each; the twin of ``torch.nonzero``.

    A compiled program needs a size beforehand, so there are ``input.size`` rows. Those after the
    last place are behind the end of every array: JAX reads the last entry there and writes nothing.

    Args:
        as_tuple: an array for each axis instead of one with a column for each.

    Shape:
        input: (*); returns (input.size, input.ndim).

    >>> (places,) = nonzero(jnp.array([0, 3, 5]), as_tuple=True)
    >>> jnp.zeros(3).at[places].add(jnp.ones(3)).tolist()
    [0.0, 1.0, 1.0]
    """
    rows_chosen()
    input = jnp.atleast_1d(input) if as_tuple else input
    places = jnp.argwhere(input, size=input.size, fill_value=jnp.iinfo(jnp.int32).max)
    return tuple(places.T) if as_tuple else places


def norm(
    input: jax.Array,
    ord: float = 2.0,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
) -> jax.Array:
    """The norm of vectors along any axes; the twin of ``torch.linalg.vector_norm``.

    Its gradient at zero is 0. That of ``jnp.linalg.norm`` is NaN, which takes two axes for a
    matrix besides.

    >>> float(norm(jnp.array([[3.0, 4.0]])))
    5.0
    """
    if input.dtype in (jnp.bfloat16, jnp.float16):  # powers need more places than these have
        return norm(input.astype(jnp.float32), ord, dim, keepdim).astype(input.dtype)
    axes = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    if not input.ndim:
        return vector_norm(input[None], float(ord), (0,))[0]
    found = vector_norm(input, float(ord), tuple(a % input.ndim for a in axes))
    return found if keepdim else found.squeeze(tuple(a % input.ndim for a in axes))


def scatter_reduce(
    input: jax.Array,
    dim: int,
    index: jax.Array,
    src: jax.Array,
    reduce: str,
    *,
    include_self: bool = True,
) -> jax.Array:
    """Values reduced into the places that an index names; the twin of ``Tensor.scatter_reduce``.

    Args:
        reduce: "sum", "mean", "amax" or "amin".
        include_self: False: the input's own values count only where nothing is put.

    Equal largest (smallest) values share the gradient, as in torch; the input's own takes its share
    even where it does not count.

    >>> args = jnp.ones(3), 0, jnp.array([0, 0, 2]), jnp.array([4.0, 2.0, 8.0])
    >>> scatter_reduce(*args, "mean", include_self=False).tolist()
    [3.0, 1.0, 8.0]
    """
    if not input.ndim:
        index, src = index.reshape(1), src.reshape(1)
        return scatter_reduce(input[None], 0, index, src, reduce, include_self=include_self)[0]
    src = src[tuple(slice(n) for n in index.shape)]
    grid = list(jnp.indices(index.shape, sparse=True))
    grid[dim] = index
    count = jnp.zeros(input.shape, int).at[tuple(grid)].add(1)
    own = jnp.full(input.shape, True) if include_self else count == 0
    if reduce in ("sum", "mean"):
        total = jnp.where(own, input, 0).at[tuple(grid)].add(src)
        size = jnp.maximum(count + own, 1).astype(input.dtype)
        whole = jnp.issubdtype(input.dtype, jnp.integer)
        return total if reduce == "sum" else total // size if whole else total / size
    if reduce not in ("amax", "amin"):
        raise ValueError(f"scatter_reduce: expected sum, mean, amax or amin, got {reduce!r}.")
    low, high = _range(input.dtype)
    start = jnp.where(own, input, low if reduce == "amax" else high).at[tuple(grid)]
    found = lax.stop_gradient(start.max(src) if reduce == "amax" else start.min(src))
    if not jnp.issubdtype(input.dtype, jnp.floating):
        return found
    mine, theirs = input == found, src == found[tuple(grid)]
    shares = mine.astype(input.dtype).at[tuple(grid)].add(theirs.astype(input.dtype))
    slope = (
        jnp.where(own & mine, _slope(input), 0)
        .at[tuple(grid)]
        .add(jnp.where(theirs, _slope(src), 0))
    )
    return found + slope / jnp.maximum(shares, 1)


def _range(dtype: jnp.dtype) -> tuple[float | int, float | int]:
    """The smallest and the largest value."""
    if jnp.issubdtype(dtype, jnp.floating):
        return -jnp.inf, jnp.inf
    if jnp.issubdtype(dtype, jnp.bool_):
        return False, True
    return jnp.iinfo(dtype).min, jnp.iinfo(dtype).max


@jax.custom_jvp
def _slope(x: jax.Array) -> jax.Array:
    """Zero, with the derivative of ``x``."""
    return jnp.zeros_like(x)


@_slope.defjvp
def _slope_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return _slope(primals[0]), tangents[0]


def split_rows(input: jax.Array, lengths: Lengths) -> list[jax.Array]:
    """Consecutive rows, a piece for each length; the twin of ``torch.split(input, lengths)``.

    The lengths may be computed, while a compiled program needs sizes beforehand: every piece has
    as many rows as the input, first its own, then its first again and again.

    Args:
        lengths: how many rows each piece has; in all as many as the input.

    Shape:
        input: (N, *); lengths: (pieces); returns ``pieces`` arrays of (N, *).

    >>> [piece[:n].tolist() for piece, n in zip(split_rows(jnp.arange(3), [1, 2]), [1, 2])]
    [[0], [1, 2]]
    """
    rows_chosen()
    counts = jnp.asarray(lengths)
    place = jnp.arange(len(input))
    return [
        jnp.take(input, jnp.where(place < count, start + place, start), axis=0, mode="clip")
        for start, count in zip(_starts(counts), counts, strict=True)
    ]


def _starts(counts: jax.Array) -> jax.Array:
    """Where each of consecutive pieces begins."""
    return jnp.cumsum(counts) - counts


def unfold(input: jax.Array, dimension: int, size: int, step: int) -> jax.Array:
    """Overlapping windows along an axis, each along a new last axis; twin of ``Tensor.unfold``.

    >>> unfold(jnp.arange(5), 0, 3, 2).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    if not input.ndim:
        return input[None][:size]
    axis = dimension % input.ndim
    return jnp.moveaxis(windows(input, axis, size, step), axis + 1, -1)


def windows(input: jax.Array, dimension: int, size: int, step: int) -> jax.Array:
    """Overlapping windows along an axis, which becomes two: their number and their size.

    What ``Tensor.as_strided`` is mostly used for. ``unfold`` moves the second axis to the end.

    >>> windows(jnp.arange(10).reshape(5, 2), 0, 3, 2).shape
    (2, 3, 2)
    """
    axis = dimension % input.ndim
    starts = jnp.arange(0, input.shape[axis] - size + 1, step)
    return jnp.take(input, starts[:, None] + jnp.arange(size), axis=axis, mode="clip")


def _picked(
    input: jax.Array, index: jax.Array, dim: int, keepdim: bool
) -> tuple[jax.Array, jax.Array]:
    values = jnp.take_along_axis(input, index, axis=dim)
    if keepdim:
        return values, index
    return values.squeeze(dim), index.squeeze(dim)
