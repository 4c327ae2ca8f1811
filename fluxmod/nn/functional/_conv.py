"""Convolution as torch defines it, over channels-last arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_channels_last, check_one_dtype, tuple_of
from fluxmod.nn._lowering import conv_general

from ._half import add_bias

__all__ = ["conv1d", "conv2d", "conv3d", "conv_tbc"]

Padding = int | str | Sequence[int]


def conv1d(
    input: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    precision: Any = None,
) -> jax.Array:
    """Cross-correlate sequences; the twin of ``torch.nn.functional.conv1d``.

    Shape:
        input: (N, L, C) or (L, C); kernel: (k, C/groups, O); returns (N, L', O).

    >>> conv1d(jnp.ones((2, 9, 3)), jnp.ones((5, 3, 4))).shape
    (2, 5, 4)

    Source: torch.nn.functional.conv1d, PyTorch 2.13 documentation.
    """
    return _conv(1, input, kernel, bias, stride, padding, dilation, groups, precision)


def conv2d(
    input: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    precision: Any = None,
) -> jax.Array:
    """Cross-correlate images; the twin of ``torch.nn.functional.conv2d``.

    Shape:
        input: (N, H, W, C) or (H, W, C); kernel: (kH, kW, C/groups, O); returns (N, H', W', O).

    >>> conv2d(jnp.ones((2, 9, 8, 3)), jnp.ones((5, 3, 3, 4)), padding="same").shape
    (2, 9, 8, 4)

    Source: torch.nn.functional.conv2d, PyTorch 2.13 documentation.
    """
    return _conv(2, input, kernel, bias, stride, padding, dilation, groups, precision)


def conv3d(
    input: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    precision: Any = None,
) -> jax.Array:
    """Cross-correlate volumes; the twin of ``torch.nn.functional.conv3d``.

    Shape:
        input: (N, D, H, W, C) or (D, H, W, C); kernel: (kD, kH, kW, C/groups, O);
        returns (N, D', H', W', O).

    >>> conv3d(jnp.ones((2, 5, 6, 7, 3)), jnp.ones((2, 3, 3, 3, 4)), stride=2).shape
    (2, 2, 2, 3, 4)

    Source: torch.nn.functional.conv3d, PyTorch 2.13 documentation.
    """
    return _conv(3, input, kernel, bias, stride, padding, dilation, groups, precision)


def conv_tbc(input: jax.Array, kernel: jax.Array, bias: jax.Array, pad: int = 0) -> jax.Array:
    """Cross-correlate sequences with the time axis first; ``torch.nn.functional.conv_tbc``.

    Shape:
        input: (T, N, C); kernel: (k, C, O), as in torch; bias: (O,); returns (T + 2 pad - k + 1,
        N, O). A negative ``pad`` crops.

    >>> conv_tbc(jnp.ones((9, 2, 3)), jnp.ones((5, 3, 4)), jnp.zeros(4), pad=1).shape
    (7, 2, 4)

    Source: torch.nn.functional.conv_tbc, PyTorch 2.13 documentation.
    """
    who = "conv_tbc"
    if input.ndim != 3 or kernel.ndim != 3 or input.shape[2] != kernel.shape[1]:
        raise ValueError(
            f"{who}: expected an input (T, N, C) and a kernel (k, C, O), got shapes "
            f"{tuple(input.shape)} and {tuple(kernel.shape)}."
        )
    check_one_dtype(who, input=input, kernel=kernel, bias=bias)
    check_bias(bias, kernel.shape[2], who)
    if (length := input.shape[0] + 2 * pad - kernel.shape[0] + 1) < 0:
        raise ValueError(f"{who}: the output would have length {length}.")
    x = lax.pad(input, jnp.zeros((), input.dtype), [(pad, pad, 0), (0, 0, 0), (0, 0, 0)])
    out = conv_general(jnp.moveaxis(x, 0, 1), kernel, (1,), ((0, 0),), (1,), 1, None)
    return jnp.moveaxis(add_bias(out, bias), 1, 0)


def _conv(
    nd: int,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
    precision: Any,
) -> jax.Array:
    who = f"conv{nd}d"
    check_channels_last(x, kernel.shape[-2] * groups, nd, who)
    check_one_dtype(who, input=x, kernel=kernel, bias=bias)
    check_bias(bias, kernel.shape[-1], who)
    strides = tuple_of(stride, nd, f"{who}: stride")
    dilations = tuple_of(dilation, nd, f"{who}: dilation")
    if min(*strides, *dilations) < 1:
        raise ValueError(
            f"{who}: stride and dilation must be positive, got stride={strides}, "
            f"dilation={dilations}."
        )
    pads = padding_pairs(padding, kernel.shape[:nd], strides, dilations, who)
    check_output_size(x, kernel.shape[:nd], pads, dilations, who)
    batched = x.ndim == nd + 2
    out = conv_general(
        x if batched else x[None], kernel, strides, pads, dilations, groups, precision
    )
    out = add_bias(out, bias)
    return out if batched else out[0]


def check_bias(bias: jax.Array | None, outputs: int, who: str) -> None:
    """Reject a bias that does not have one value per output channel."""
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{who}: expected a bias of shape ({outputs},), got {tuple(bias.shape)}.")


def padding_pairs(
    padding: Padding,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    who: str,
) -> tuple[tuple[int, int], ...]:
    """Turn torch's padding argument into (low, high) per axis.

    'same' needs stride 1 and puts the odd element on the high side, as torch does.
    """
    if padding == "valid":
        return ((0, 0),) * len(kernel_size)
    if padding == "same":
        if any(s != 1 for s in strides):
            raise ValueError(
                f"{who}: padding='same' is not supported for strided convolutions; "
                f"got stride={tuple(strides)}. Give the padding as integers."
            )
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str):
        raise ValueError(f"{who}: padding must be 'valid', 'same' or integers, got {padding!r}.")
    sizes = tuple_of(padding, len(kernel_size), f"{who}: padding")
    if any(p < 0 for p in sizes):
        raise ValueError(f"{who}: negative padding is not supported, got {padding!r}.")
    return tuple((p, p) for p in sizes)


def check_output_size(
    x: jax.Array,
    kernel_size: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    who: str,
) -> None:
    """Reject a kernel larger than the padded input, which torch rejects too."""
    space = x.shape[-1 - len(kernel_size) : -1]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    padded = [s + low + high for s, (low, high) in zip(space, pads, strict=True)]
    if any(p < r for p, r in zip(padded, reach, strict=True)):
        raise ValueError(
            f"{who}: the kernel reaches over {tuple(reach)}, more than the padded input size "
            f"{tuple(padded)} (input shape {tuple(x.shape)})."
        )


_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad_spatial(x: jax.Array, pads: Sequence[tuple[int, int]], mode: str, who: str) -> jax.Array:
    """Pad the spatial axes of a channels-last map by torch's padding mode."""
    if mode == "zeros":
        config = [(0, 0, 0)] * (x.ndim - len(pads) - 1)
        config += [(low, high, 0) for low, high in pads] + [(0, 0, 0)]
        return lax.pad(x, jnp.zeros((), x.dtype), config)
    sizes = x.shape[-1 - len(pads) : -1]
    limit = {"reflect": -1, "circular": 0}.get(mode)
    for size, pair in zip(sizes, pads, strict=True):
        if limit is not None and max(pair) > size + limit:
            raise ValueError(
                f"{who}: padding {max(pair)} is too large for an axis of size {size} "
                f"in padding_mode={mode!r}."
            )
    widths = [(0, 0)] * (x.ndim - len(pads) - 1) + list(pads) + [(0, 0)]
    return jnp.pad(x, widths, mode=_PAD_MODES[mode])
