"""Padding in every mode of torch's, over any array or over the spatial axes of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["pad"]

_MODES = {"reflect": "reflect", "circular": "wrap"}


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
        NotImplementedError: an unknown mode.

    >>> pad(jnp.array([[1, 2, 3]]), (2, -1), "replicate").tolist()
    [[1, 1, 1, 2]]
    >>> pad(jnp.ones((1, 2, 2, 3)), (1, 1), channels_last=True).shape
    (1, 2, 4, 3)

    Source: torch.nn.functional.pad, PyTorch 2.13 documentation.
    """
    pairs = _pairs(input, pad, channels_last)
    if mode == "constant":
        fill = jnp.asarray(0 if value is None else value).astype(input.dtype)
        return lax.pad(input, fill, [(low, high, 0) for low, high in pairs])
    if mode not in (*_MODES, "replicate"):
        raise NotImplementedError(
            f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}."
        )
    if value:
        raise ValueError(f"pad: mode={mode!r} takes no value, got {value}.")
    if mode == "replicate":
        return _replicated(input, pairs)
    cropped = lax.slice(
        input,
        [max(-low, 0) for low, _ in pairs],
        [n - max(-high, 0) for n, (_, high) in zip(input.shape, pairs, strict=True)],
    )
    widths = [(max(low, 0), max(high, 0)) for low, high in pairs]
    _check_reach(input, cropped, widths, mode)
    return jnp.pad(cropped, widths, mode=_MODES[mode])


def _replicated(x: jax.Array, pairs: Sequence[tuple[int, int]]) -> jax.Array:
    """Repeat the border; a crop beyond the other border leaves copies of that one, as in torch."""
    for axis, (low, high) in enumerate(pairs):
        n = x.shape[axis]
        if (low, high) == (0, 0):
            continue
        if n == 0:
            raise ValueError(f"pad: mode='replicate' needs elements, got shape {tuple(x.shape)}.")
        if min(low, high) >= 0:
            widths = [(0, 0)] * x.ndim
            widths[axis] = (low, high)
            x = jnp.pad(x, widths, mode="edge")
        else:
            x = jnp.take(x, np.clip(np.arange(-low, n + high), 0, n - 1), axis=axis)
    return x


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


def _check_reach(input: jax.Array, cropped: jax.Array, widths: Any, mode: str) -> None:
    """Reflection needs one element more than it pads, wrapping as many."""
    for n, pair in zip(cropped.shape, widths, strict=True):
        needed = max(pair) + (mode == "reflect")
        if max(pair) and n < needed:
            raise ValueError(
                f"pad: mode={mode!r} with {pair} needs an axis of at least {needed} elements, got "
                f"{n} (input shape {tuple(input.shape)})."
            )
