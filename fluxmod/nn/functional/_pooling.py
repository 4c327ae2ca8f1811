"""Max and average pooling over channels-last arrays, with torch's sizes, counts and ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod._errors import LayoutError
from fluxmod.nn._check import check_floating, tuple_of
from fluxmod.nn._lowering import Windows, window_max, window_sum

from ._half import compute_dtype

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
class Geometry:
    """A pooling's checked arguments and sizes, one entry per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    sizes: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial axes of a channels-last array, with or without a batch axis."""
        return spatial_axes(len(self.sizes))

    @property
    def windows(self) -> tuple[Windows, ...]:
        """The windows along each axis."""
        rows = zip(self.out, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(Windows.strided(*row) for row in rows)


def spatial_axes(nd: int) -> tuple[int, ...]:
    """Return (-nd - 1, ..., -2)."""
    return tuple(range(-nd - 1, -1))


def check_rank(x: jax.Array, nd: int, who: str) -> None:
    """Reject ranks that are no channels-last map, with or without the batch axis."""
    if x.ndim not in (nd + 1, nd + 2):
        raise LayoutError(
            f"{who}: expected {nd + 2} axes with the channels last, or {nd + 1} without the batch, "
            f"got shape {tuple(x.shape)}."
        )


def geometry(
    x: jax.Array,
    nd: int,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    who: str,
) -> Geometry:
    """Check the arguments of a pooling and compute its output sizes.

    Raises:
        LayoutError: wrong rank.
        ValueError: arguments out of range, padding above half the kernel, an empty axis other than
            the batch, sizes that leave no output.
    """
    check_rank(x, nd, who)
    k = tuple_of(kernel_size, nd, f"{who}: kernel_size")
    s = k if stride is None or stride == () else tuple_of(stride, nd, f"{who}: stride")
    p = tuple_of(padding, nd, f"{who}: padding")
    d = tuple_of(dilation, nd, f"{who}: dilation")
    named = {"kernel_size": k, "stride": s, "dilation": d}
    wrong = [f"{name}={v} must be positive" for name, v in named.items() if min(v) <= 0]
    if min(p) < 0:
        wrong.append(f"padding={p} must not be negative")
    if any(2 * low > reach for low, reach in zip(p, k, strict=True)):
        wrong.append(f"padding={p} must be at most half of kernel_size={k}")
    if 0 in x.shape[-1 - nd :]:
        wrong.append(f"only the batch may be empty, got shape {tuple(x.shape)}")
    if wrong:
        raise ValueError(f"{who}: {'; '.join(wrong)}.")
    sizes = tuple(x.shape[-1 - nd : -1])
    out = tuple(_out_size(*row, ceil_mode) for row in zip(sizes, k, s, p, d, strict=True))
    if min(out) < 1:
        raise ValueError(
            f"{who}: input of shape {tuple(x.shape)} is too small for kernel_size={k}: the output "
            f"would have sizes {out}."
        )
    return Geometry(k, s, p, d, sizes, out)


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
    if not jnp.issubdtype(x.dtype, jnp.integer):
        check_floating(x, who)
    g = geometry(x, nd, kernel_size, stride, padding, dilation, ceil_mode, who)
    found = window_max(x, g.windows, g.space, places=return_indices)
    return found if return_indices else found[0]


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
    if not jnp.issubdtype(x.dtype, jnp.integer):
        check_floating(x, who)
    g = geometry(x, nd, kernel_size, stride, padding, 1, ceil_mode, who)
    if divisor_override == 0:
        raise ValueError(f"{who}: divisor_override must not be 0.")
    total = window_sum(x.astype(compute_dtype(x.dtype)), g.windows, g.space)
    count = _counts(g, count_include_pad, total)
    if divisor_override is not None:
        count = jnp.full_like(total, divisor_override)
    return lax.div(total, count).astype(x.dtype)  # integers are rounded towards zero, as in torch


def _counts(g: Geometry, include_pad: bool, like: jax.Array) -> jax.Array:
    """How many places each window averages over; the overhang of ceil_mode never counts."""
    counts = np.ones(like.shape[-1:])
    for n, k, s, p, o in reversed(
        list(zip(g.sizes, g.kernel, g.stride, g.padding, g.out, strict=True))
    ):
        start = np.arange(o) * s - p
        low, high = (-p, n + p) if include_pad else (0, n)
        inside = np.minimum(start + k, high) - np.maximum(start, low)
        counts = np.multiply.outer(np.maximum(inside, 1), counts)
    return jnp.broadcast_to(jnp.asarray(counts, like.dtype), like.shape)


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
    first gets the gradient; NaN wins over all, the last one over the others.

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
