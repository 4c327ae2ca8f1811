"""Reshaping in torch's order of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

__all__ = ["flatten", "unflatten"]


def flatten(
    input: jax.Array, start_dim: int = 1, end_dim: int = -1, *, channels_last: bool | None = None
) -> jax.Array:
    """Flatten a range of axes; a channels-last map in torch's (C, H, W) order.

    The twin of ``torch.flatten`` with the defaults of ``torch.nn.Flatten``: the first axis stays.

    Args:
        start_dim: first axis to flatten, counted in the array given.
        end_dim: last axis to flatten.
        channels_last: the array is a feature map whose channels torch has on axis 1. ``None``
            takes arrays of rank 4 and 5 as such.

    Raises:
        ValueError: ``start_dim`` after ``end_dim``; a range that would mix channels and space.

    >>> flatten(jnp.arange(4.0).reshape(1, 1, 2, 2)).tolist()     # (N, H, W, C)
    [[0.0, 2.0, 1.0, 3.0]]

    Source: torch.flatten, PyTorch 2.13 documentation.
    """
    input = input.reshape(1) if input.ndim == 0 else input
    start, end = (_axis(d, input.ndim, "flatten") for d in (start_dim, end_dim))
    if start > end:
        raise ValueError(
            f"flatten: start_dim={start_dim} comes after end_dim={end_dim} for an input of shape "
            f"{tuple(input.shape)}."
        )
    if start == end:
        return input
    last = input.ndim - 1
    if channels_last is None:
        channels_last = input.ndim in (4, 5)
    only_space = 1 <= start <= end < last
    if channels_last and input.ndim > 2 and not only_space:
        if (start, end) != (1, last):
            raise ValueError(
                "flatten: a channels-last map is flattened over all axes but the first, or over "
                f"spatial axes; got start_dim={start_dim}, end_dim={end_dim} for shape "
                f"{tuple(input.shape)}. Pass channels_last=False if it is not a feature map."
            )
        input = jnp.moveaxis(input, -1, 1)
    size = math.prod(input.shape[start : end + 1])
    return input.reshape(input.shape[:start] + (size,) + input.shape[end + 1 :])


def unflatten(
    input: jax.Array, dim: int, sizes: Sequence[int], *, channels_last: bool | None = None
) -> jax.Array:
    """Split one axis into several; the twin of ``torch.unflatten``.

    Args:
        dim: the axis, counted in the array given.
        sizes: the new sizes, as torch has them; one may be -1.
        channels_last: the result is a feature map, (N, C, H, W) in torch: its channels move to the
            end. ``None`` does so when the result has rank 4 or 5 and ``dim`` is 1.

    Raises:
        ValueError: the sizes do not multiply up to the axis.

    >>> unflatten(jnp.ones((5, 24)), 1, (2, 3, 4)).shape
    (5, 3, 4, 2)

    Source: torch.unflatten, PyTorch 2.13 documentation.
    """
    axis, sizes = _axis(dim, input.ndim, "unflatten"), tuple(sizes)
    known = math.prod(size for size in sizes if size != -1)
    given = input.shape[axis]
    fits = known > 0 and given % known == 0 if -1 in sizes else given == known
    if not fits or not sizes or min(sizes) < -1 or sizes.count(-1) > 1:
        raise ValueError(
            f"unflatten: sizes {sizes} do not multiply up to axis {dim} of shape "
            f"{tuple(input.shape)}."
        )
    out = input.reshape(input.shape[:axis] + sizes + input.shape[axis + 1 :])
    if channels_last is None:
        channels_last = axis == 1 and out.ndim in (4, 5)
    return jnp.moveaxis(out, 1, -1) if channels_last else out


def _axis(dim: int, rank: int, who: str) -> int:
    if not -rank <= dim < rank:
        raise IndexError(f"{who}: dim={dim} is out of range for an array of rank {rank}.")
    return dim % rank
