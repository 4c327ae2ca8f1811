"""Undoing max pooling: values back to the places they came from."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fluxmod._errors import LayoutError
from fluxmod.nn._check import tuple_of
from fluxmod.nn._checked import check_indices

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]

Size = int | Sequence[int]


def max_unpool1d(
    input: jax.Array,
    indices: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """Put maxima of (N, L, C) back; the twin of ``torch.nn.functional.max_unpool1d``.

    >>> max_unpool1d(jnp.array([[[5.0]]]), jnp.array([[[1]]]), 2)[0, :, 0].tolist()
    [0.0, 5.0]

    Source: torch.nn.functional.max_unpool1d, PyTorch 2.13 documentation.
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: jax.Array,
    indices: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """Put maxima of (N, H, W, C) back; the twin of ``torch.nn.functional.max_unpool2d``.

    Shape:
        input, indices: (N, H, W, C) or (H, W, C), as ``max_pool2d(return_indices=True)`` gives
        them: an index counts the pixels of one channel of the output. Returns (N, H', W', C) with
        zeros elsewhere.

    Args:
        output_size: the sizes of space, or of the whole output; less than a stride from the
            default (H - 1) s - 2 p + k.

    Raises:
        LayoutError: ranks or shapes that do not fit.
        TypeError: indices that are not integers.
        ValueError: an output size that is out of reach.
        IndexError: indices outside the output, where they are known; elsewhere they are dropped.

    >>> places = jnp.full((1, 1, 1, 1), 3)
    >>> max_unpool2d(jnp.full((1, 1, 1, 1), 5.0), places, 2)[0, :, :, 0].tolist()
    [[0.0, 0.0], [0.0, 5.0]]

    Source: torch.nn.functional.max_unpool2d, PyTorch 2.13 documentation.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: jax.Array,
    indices: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """Put maxima of (N, D, H, W, C) back; the twin of ``torch.nn.functional.max_unpool3d``.

    >>> ones = jnp.ones((1, 1, 1, 1, 1))
    >>> max_unpool3d(ones, ones.astype(int), 2).shape
    (1, 2, 2, 2, 1)

    Source: torch.nn.functional.max_unpool3d, PyTorch 2.13 documentation.
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _max_unpool(
    nd: int,
    x: jax.Array,
    indices: jax.Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    output_size: Sequence[int] | None,
) -> jax.Array:
    who = f"max_unpool{nd}d"
    if x.ndim not in (nd + 1, nd + 2) or x.shape != indices.shape:
        raise LayoutError(
            f"{who}: expected input and indices of one shape with {nd + 2} axes, or {nd + 1} "
            f"without the batch, got {tuple(x.shape)} and {tuple(indices.shape)}."
        )
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(f"{who}: indices must be integers, got {indices.dtype}.")
    k = tuple_of(kernel_size, nd, f"{who}: kernel_size")
    s = k if stride is None else tuple_of(stride, nd, f"{who}: stride")
    p = tuple_of(padding, nd, f"{who}: padding")
    sizes = _output_sizes(who, x.shape[-1 - nd : -1], k, s, p, output_size)
    batched = x if x.ndim == nd + 2 else x[None]
    places = indices.reshape(batched.shape[0], -1, x.shape[-1])
    check_indices(places, math.prod(sizes), who)
    values = batched.reshape(places.shape)
    out = _scattered(values, places, math.prod(sizes))
    return out.reshape(*x.shape[: x.ndim - nd - 1], *sizes, x.shape[-1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _scattered(values: jax.Array, places: jax.Array, size: int) -> jax.Array:
    """(N, P, C) values at their places of (N, size, C); of several at one place the last stays.

    The derivative reads each place anew, so that every one of them has all of it, as in torch.
    """
    return _placed(values, places, size, "set")


@_scattered.defjvp
def _scattered_jvp(
    size: int, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    values, places = primals
    return _scattered(values, places, size), _placed(tangents[0], places, size, "add")


def _placed(values: jax.Array, places: jax.Array, size: int, how: str) -> jax.Array:
    batch, _, channels = values.shape
    zeros = jnp.zeros((batch, size, channels), values.dtype)
    rows = jnp.broadcast_to(jnp.arange(batch)[:, None, None], places.shape)
    columns = jnp.broadcast_to(jnp.arange(channels)[None, None], places.shape)
    at = zeros.at[rows, jnp.where(places < 0, size, places), columns]
    return getattr(at, how)(values, mode="drop")


def _output_sizes(
    who: str,
    space: Sequence[int],
    k: tuple[int, ...],
    s: tuple[int, ...],
    p: tuple[int, ...],
    output_size: Sequence[int] | None,
) -> tuple[int, ...]:
    rows = zip(space, k, s, p, strict=True)
    default = tuple((n - 1) * si - 2 * pi + ki for n, ki, si, pi in rows)
    if output_size is None:
        sizes = default
    else:
        nd = len(default)
        given = tuple(int(n) for n in output_size)
        # whole shapes have the channels last, and the batch first
        sizes = given if len(given) == nd else given[len(given) - nd - 1 : -1]
        reach = [(n - si, n + si) for n, si in zip(default, s, strict=True)]
        if len(given) not in (nd, nd + 1, nd + 2) or any(
            not low < n < high for n, (low, high) in zip(sizes, reach, strict=True)
        ):
            raise ValueError(
                f"{who}: output_size={given} is out of reach: sizes of space must lie between "
                f"{reach} (exclusive)."
            )
    if min(sizes) < 1:
        raise ValueError(f"{who}: the output would have sizes {sizes}.")
    return sizes
