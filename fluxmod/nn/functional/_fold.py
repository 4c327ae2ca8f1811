"""Sliding windows as columns, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fluxmod._errors import LayoutError
from fluxmod.nn._check import tuple_of
from fluxmod.nn._lowering.conv_shifts import shifted

__all__ = ["fold", "unfold"]

Size = int | Sequence[int]


def unfold(
    input: jax.Array, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> jax.Array:
    """Make a column of every window; the twin of ``torch.nn.functional.unfold``.

    Shape:
        input: (N, H, W, C) or (H, W, C); returns (N, L, C * kH * kW), one row for each place of
        the window, its elements in torch's order: channel, then row, then column.

    Raises:
        LayoutError: another rank.
        ValueError: numbers out of range; a window larger than the padded input.

    >>> unfold(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).tolist()
    [[[0.0, 1.0, 2.0, 3.0]]]

    Source: torch.nn.functional.unfold, PyTorch 2.13 documentation.
    """
    if input.ndim not in (3, 4):
        raise LayoutError(
            f"unfold: expected (N, H, W, C) or (H, W, C), got shape {tuple(input.shape)}."
        )
    if 0 in input.shape[-3:]:
        raise ValueError(f"unfold: only the batch may be empty, got shape {tuple(input.shape)}.")
    k, d, p, s = _arguments("unfold", kernel_size, dilation, padding, stride)
    count = math.prod(_places("unfold", input.shape[-3:-1], k, d, p, s))
    x = input if input.ndim == 4 else input[None]
    pads = tuple((n, n) for n in p)
    taps = jnp.stack(list(shifted(x, k, s, pads, d)), axis=-1)  # (N, H', W', C, kH * kW)
    columns = taps.reshape(x.shape[0], count, x.shape[-1] * math.prod(k))
    return columns if input.ndim == 4 else columns[0]


def fold(
    input: jax.Array,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> jax.Array:
    """Add columns up where their windows lie; the twin of ``torch.nn.functional.fold``.

    Shape:
        input: (N, L, C * kH * kW) or without N, as ``unfold`` makes them; returns (N, H, W, C).

    Raises:
        LayoutError: another rank, or a number of places or elements that does not fit.
        ValueError: numbers out of range.

    >>> fold(jnp.ones((1, 4, 4)), (3, 3), 2)[0, :, :, 0].tolist()
    [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]

    Source: torch.nn.functional.fold, PyTorch 2.13 documentation.
    """
    k, d, p, s = _arguments("fold", kernel_size, dilation, padding, stride)
    sizes = tuple_of(output_size, 2, "fold: output_size")
    if min(sizes) < 1:
        raise ValueError(f"fold: output_size must be positive, got {sizes}.")
    count = math.prod(_places("fold", sizes, k, d, p, s))
    if input.ndim not in (2, 3) or input.shape[-2] != count or input.shape[-1] % math.prod(k):
        raise LayoutError(
            f"fold: expected (N, {count}, C * {math.prod(k)}) for output_size={sizes} and "
            f"kernel_size={k}, got shape {tuple(input.shape)}."
        )
    columns = input if input.ndim == 3 else input[None]
    map_shape = (columns.shape[0], *sizes, columns.shape[-1] // math.prod(k))
    image = jax.ShapeDtypeStruct(map_shape, input.dtype)
    (out,) = jax.linear_transpose(lambda x: unfold(x, k, d, p, s), image)(columns)
    return out if input.ndim == 3 else out[0]


def _arguments(who: str, *values: Size) -> list[tuple[int, ...]]:
    names = ("kernel_size", "dilation", "padding", "stride")
    spread = [tuple_of(v, 2, f"{who}: {name}") for v, name in zip(values, names, strict=True)]
    wrong = [
        f"{name}={v}"
        for v, name in zip(spread, names, strict=True)
        if min(v) < (0 if name == "padding" else 1)
    ]
    if wrong:
        raise ValueError(f"{who}: numbers out of range: {', '.join(wrong)}.")
    return spread


def _places(
    who: str,
    sizes: Sequence[int],
    k: tuple[int, ...],
    d: tuple[int, ...],
    p: tuple[int, ...],
    s: tuple[int, ...],
) -> tuple[int, ...]:
    """How many places the window has along each axis."""
    rows = zip(sizes, k, d, p, s, strict=True)
    counts = tuple((n + 2 * pi - di * (ki - 1) - 1) // si + 1 for n, ki, di, pi, si in rows)
    if min(counts) < 1:
        raise ValueError(
            f"{who}: a window of {k} with dilation={d} does not fit into {tuple(sizes)} with "
            f"padding={p}."
        )
    return counts
