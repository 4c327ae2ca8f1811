"""Padding in every mode of torch's, over any array or over the spatial axes of a map."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["pad"]

_MODES = ("reflect", "replicate", "circular")


def pad(
    input: jax.Array,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
    *,
    channels_last: bool = False,
) -> jax.Array:
    """Pad or crop an array; the twin of ``torch.nn.functional.pad``.

    Args:
        pad: (low, high) of the last axis, then of the axis before it, and so on; negative numbers
            crop.
        mode: 'constant', 'reflect', 'replicate' or 'circular'.
        value: what 'constant' fills in; 0 by default.
        channels_last: the last axis is the channel axis of a map: the pairs start with the axis
            before it.

    Raises:
        ValueError: an odd number of paddings, more of them than axes, a padding that is larger
            than 'reflect' or 'circular' have elements for, an axis that nothing is left of.
        NotImplementedError: an unknown mode; ranks that a mode other than 'constant' does not take.

    >>> pad(jnp.array([[1, 2, 3]]), (2, -1), "replicate").tolist()
    [[1, 1, 1, 2]]
    >>> pad(jnp.ones((1, 2, 2, 3)), (1, 1), channels_last=True).shape
    (1, 2, 4, 3)

    Source: torch.nn.functional.pad, PyTorch 2.13 documentation.
    """
    pairs = _pairs(input, pad, channels_last)
    if mode == "constant":
        return _constant(input, pairs, 0 if value is None else value)
    if mode not in _MODES:
        raise NotImplementedError(
            f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}."
        )
    if value:
        raise ValueError(f"pad: mode={mode!r} takes no value, got {value}.")
    nd = len(pad) // 2
    if nd not in (1, 2, 3) or input.ndim not in (nd + 1, nd + 2):
        raise NotImplementedError(
            f"pad: mode={mode!r} takes paddings of one to three axes of a map with one or two axes "
            f"more, got {tuple(pad)} for shape {tuple(input.shape)}."
        )
    left = [n + low + high for n, (low, high) in zip(input.shape, pairs, strict=True)]
    end = input.ndim - channels_last
    if mode != "circular" and not any(left[end - nd : end]):
        raise ValueError(f"pad: {tuple(pad)} leaves nothing of shape {tuple(input.shape)}.")
    for axis, (low, high) in enumerate(pairs):
        if (low, high) != (0, 0):
            index = _index(tuple(input.shape), axis, low, high, mode)
            input = _taken(input, axis, index)
    return input


def _constant(input: jax.Array, pairs: Sequence[tuple[int, int]], value: float) -> jax.Array:
    """Fill the sides with one value, or crop them."""
    rows = list(zip(input.shape, pairs, strict=True))
    if any(n + min(low, 0) < 0 or n + min(high, 0) < 0 for n, (low, high) in rows):
        raise ValueError(f"pad: {pairs} crops more than there is of shape {tuple(input.shape)}.")
    if jnp.issubdtype(input.dtype, jnp.integer) and isinstance(value, int | float):
        limits = jnp.iinfo(input.dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(f"pad: value={value} is no {input.dtype}.")
    fill = jnp.asarray(value).astype(input.dtype)
    return lax.pad(input, fill, [(low, high, 0) for low, high in pairs])


def _index(shape: tuple[int, ...], axis: int, low: int, high: int, mode: str) -> np.ndarray:
    """The element of an axis that each place of the padded axis repeats.

    Reflection and replication refer to the borders of the axis given, also where the other side is
    cropped; wrapping refers to what the crop leaves.
    """
    n = shape[axis]
    first, stop = (max(-low, 0), n - max(-high, 0)) if mode == "circular" else (0, n)
    left = stop - first
    needed = {"replicate": 1, "reflect": max(low, high) + 1, "circular": max(low, high)}[mode]
    if left < max(needed, 0) or n == 0:
        raise ValueError(
            f"pad: mode={mode!r} with {(low, high)} needs at least {max(needed, 0)} elements of an "
            f"axis, and {left} of {n} are left (input shape {shape})."
        )
    places = np.arange(-low, n + high)
    if mode == "replicate":
        return places.clip(0, n - 1)
    if mode == "reflect":
        return n - 1 - np.abs(n - 1 - np.abs(places))
    return (places - first) % max(left, 1) + first


def _taken(x: jax.Array, axis: int, index: np.ndarray) -> jax.Array:
    """Elements of an axis at static places, as slices: a gather's gradient is a slow scatter."""
    if not index.size:
        return lax.slice_in_dim(x, 0, 0, axis=axis)
    pieces = []
    done = 0
    while done < index.size:
        step = int(index[done + 1] - index[done]) if done + 1 < index.size else 1
        step = step if abs(step) <= 1 else 1
        stop = done + 1
        while stop < index.size and index[stop] - index[stop - 1] == step:
            stop += 1
        low, high = sorted((int(index[done]), int(index[stop - 1])))
        piece = lax.slice_in_dim(x, low, high + 1, axis=axis)
        if step == 0:
            shape = list(x.shape)
            shape[axis] = stop - done
            piece = jnp.broadcast_to(piece, shape)
        pieces.append(lax.rev(piece, (axis,)) if step < 0 else piece)
        done = stop
    return pieces[0] if len(pieces) == 1 else lax.concatenate(pieces, axis)


def _pairs(input: jax.Array, pad: Sequence[int], channels_last: bool) -> list[tuple[int, int]]:
    """A (low, high) for every axis."""
    count, axes = len(pad) // 2, input.ndim - channels_last
    if len(pad) % 2 or count > axes:
        raise ValueError(
            f"pad: expected an even number of paddings, at most {2 * axes} for an input of shape "
            f"{tuple(input.shape)}, got {tuple(pad)}."
        )
    given = [(int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(count)]
    pairs = [(0, 0)] * (axes - count) + given[::-1] + [(0, 0)] * channels_last
    left = [n + low + high for n, (low, high) in zip(input.shape, pairs, strict=True)]
    if min(left, default=0) < 0:
        raise ValueError(
            f"pad: {tuple(pad)} would leave sizes {tuple(left)} of shape {tuple(input.shape)}."
        )
    return pairs
