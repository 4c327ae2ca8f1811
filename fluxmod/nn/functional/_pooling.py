"""Max and average pooling over channels-last arrays, with torch's sizes, counts and ties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod._errors import LayoutError
from fluxmod.nn._check import tuple_of

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]

Size = int | Sequence[int]


@dataclass(frozen=True, slots=True)
class Windows:
    """Where the windows of a pooling lie; one entry per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    sizes: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def high(self) -> tuple[int, ...]:
        """Padding on the high side that the last window needs."""
        return tuple(
            max((o - 1) * s + d * (k - 1) + 1 - n - p, 0)
            for o, s, d, k, n, p in zip(
                self.out,
                self.stride,
                self.dilation,
                self.kernel,
                self.sizes,
                self.padding,
                strict=True,
            )
        )

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """(low, high) per axis."""
        return tuple(zip(self.padding, self.high, strict=True))

    def crop(self, x: jax.Array) -> jax.Array:
        """Drop windows beyond the last one that torch has."""
        return x[(slice(None), *(slice(o) for o in self.out))]


def windows(
    x: jax.Array,
    nd: int,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    who: str,
) -> Windows:
    """Check the arguments of a pooling and compute its output sizes.

    Raises:
        LayoutError: wrong rank.
        ValueError: padding above half the kernel, sizes that leave no output.
    """
    if x.ndim not in (nd + 1, nd + 2):
        raise LayoutError(
            f"{who}: expected {nd + 2} axes with the channels last, or {nd + 1} without the batch, "
            f"got shape {tuple(x.shape)}."
        )
    k = tuple_of(kernel_size, nd, f"{who}: kernel_size")
    s = k if stride is None or stride == () else tuple_of(stride, nd, f"{who}: stride")
    p = tuple_of(padding, nd, f"{who}: padding")
    d = tuple_of(dilation, nd, f"{who}: dilation")
    if any(v <= 0 for v in (*k, *s, *d)) or any(v < 0 for v in p):
        raise ValueError(
            f"{who}: kernel_size={k}, stride={s} and dilation={d} must be positive, padding={p} "
            "not negative."
        )
    if any(2 * low > reach for low, reach in zip(p, k, strict=True)):
        raise ValueError(f"{who}: padding={p} must be at most half of kernel_size={k}.")
    sizes = tuple(x.shape[-1 - nd : -1])
    out = tuple(_out_size(*row, ceil_mode) for row in zip(sizes, k, s, p, d, strict=True))
    if any(o < 1 for o in out):
        raise ValueError(
            f"{who}: input of shape {tuple(x.shape)} is too small for kernel_size={k}: the output "
            f"would have sizes {out}."
        )
    return Windows(k, s, p, d, sizes, out)


def _out_size(n: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    out = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
    # the last window must start inside the input or its low padding
    return out - 1 if ceil_mode and (out - 1) * s >= n + p else out


def _max_pool(
    nd: int,
    x: jax.Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    who = f"max_pool{nd}d"
    w = windows(x, nd, kernel_size, stride, padding, dilation, ceil_mode, who)
    batched = x.ndim == nd + 2
    x = x if batched else x[None]
    if return_indices or any(d != 1 for d in w.dilation):
        out, indices = _max_by_slices(x, w)
        if not return_indices:
            return out if batched else out[0]
        return (out, indices) if batched else (out[0], indices[0])
    out = lax.reduce_window(
        x,
        _lowest(x.dtype),
        lax.max,
        (1, *w.kernel, 1),
        (1, *w.stride, 1),
        ((0, 0), *w.pads, (0, 0)),
    )
    out = w.crop(out)
    return out if batched else out[0]


def _lowest(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.floating):
        return np.array(-np.inf, dtype)
    return np.array(jnp.iinfo(dtype).min, dtype)


def _max_by_slices(x: jax.Array, w: Windows) -> tuple[jax.Array, jax.Array]:
    """Maximum and its flat place in the unpadded input; the first one of equal values."""
    values = jnp.pad(x, ((0, 0), *w.pads, (0, 0)), constant_values=_lowest(x.dtype))
    places = np.arange(math.prod(w.sizes)).reshape(w.sizes)
    places = np.pad(places, w.pads)
    parts, where = [], []
    for offset in itertools.product(*(range(k) for k in w.kernel)):
        cut = tuple(
            slice(i * d, i * d + (o - 1) * s + 1, s)
            for i, d, o, s in zip(offset, w.dilation, w.out, w.stride, strict=True)
        )
        parts.append(values[(slice(None), *cut)])
        where.append(places[cut])
    stacked = jnp.stack(parts, axis=-1)  # (N, *O, C, K)
    best = jnp.argmax(stacked, axis=-1, keepdims=True)
    table = jnp.asarray(np.stack(where, axis=-1))[None, ..., None, :]  # (1, *O, 1, K)
    table = jnp.broadcast_to(table, stacked.shape)
    picked = jnp.take_along_axis(stacked, best, axis=-1)[..., 0]
    return picked, jnp.take_along_axis(table, best, axis=-1)[..., 0]


def _avg_pool(
    nd: int,
    x: jax.Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> jax.Array:
    who = f"avg_pool{nd}d"
    w = windows(x, nd, kernel_size, stride, padding, 1, ceil_mode, who)
    if divisor_override == 0:
        raise ValueError(f"{who}: divisor_override must not be 0.")
    batched = x.ndim == nd + 2
    x = x if batched else x[None]
    total = w.crop(_window_sum(x, w.kernel, w.stride, w.pads))
    if divisor_override is not None:
        out = total / divisor_override
    else:
        counts = _counts(w, count_include_pad)
        out = total / jnp.asarray(counts[..., None], total.dtype)
    return out if batched else out[0]


def _window_sum(x: Any, kernel: Any, stride: Any, pads: Any) -> jax.Array:
    zero = np.zeros((), x.dtype)
    window, strides = (1, *kernel, 1), (1, *stride, 1)
    return lax.reduce_window(x, zero, lax.add, window, strides, ((0, 0), *pads, (0, 0)))


def _counts(w: Windows, include_pad: bool) -> np.ndarray:
    """How many positions each window averages over; the overhang of ceil_mode never counts."""
    per_axis = []
    for n, k, s, p, o in zip(w.sizes, w.kernel, w.stride, w.padding, w.out, strict=True):
        start = np.arange(o) * s - p
        low, high = (-p, n + p) if include_pad else (0, n)
        per_axis.append(np.minimum(start + k, high) - np.maximum(start, low))
    counts = per_axis[0]
    for axis in per_axis[1:]:
        counts = counts[..., None] * axis
    return np.asarray(counts)


def max_pool1d(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value in each window of (N, L, C) or (L, C); ``torch.nn.functional.max_pool1d``.

    With ``return_indices`` also where it was, as a flat index into the length. Of equal values the
    first gets the gradient; NaN wins.

    >>> max_pool1d(jnp.arange(6.0).reshape(1, 6, 1), 2)[0, :, 0].tolist()
    [1.0, 3.0, 5.0]

    Source: torch.nn.functional.max_pool1d, PyTorch 2.13 documentation.
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value in each window of (N, H, W, C); as ``max_pool1d``.

    >>> max_pool2d(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]

    Source: torch.nn.functional.max_pool2d, PyTorch 2.13 documentation.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value in each window of (N, D, H, W, C); as ``max_pool1d``.

    >>> max_pool3d(jnp.ones((1, 4, 4, 4, 2)), 2).shape
    (1, 2, 2, 2, 2)

    Source: torch.nn.functional.max_pool3d, PyTorch 2.13 documentation.
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> jax.Array:
    """Mean of each window of (N, L, C) or (L, C); ``torch.nn.functional.avg_pool1d``.

    >>> avg_pool1d(jnp.arange(4.0).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [0.5, 2.5]

    Source: torch.nn.functional.avg_pool1d, PyTorch 2.13 documentation.
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """Mean of each window of (N, H, W, C); ``torch.nn.functional.avg_pool2d``.

    >>> avg_pool2d(jnp.ones((1, 4, 4, 2)), 2).shape
    (1, 2, 2, 2)

    Source: torch.nn.functional.avg_pool2d, PyTorch 2.13 documentation.
    """
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """Mean of each window of (N, D, H, W, C); ``torch.nn.functional.avg_pool3d``.

    >>> avg_pool3d(jnp.ones((1, 4, 4, 4, 2)), 2).shape
    (1, 2, 2, 2, 2)

    Source: torch.nn.functional.avg_pool3d, PyTorch 2.13 documentation.
    """
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
