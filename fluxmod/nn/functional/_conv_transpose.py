"""Transposed convolution as torch defines it, over channels-last arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod.nn._check import check_channels_last, check_one_dtype, tuple_of
from fluxmod.nn._lowering import TransposedShape, conv_transposed

from ._conv import check_bias
from ._half import add_bias

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

Size = int | Sequence[int]


def conv_transpose1d(
    input: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    precision: Any = None,
) -> jax.Array:
    """Transposed convolution of sequences; the twin of ``torch.nn.functional.conv_transpose1d``.

    Shape:
        input: (N, L, C) or (L, C); kernel: (k, O/groups, C); returns (N, L', O),
        L' = (L - 1) s - 2p + d(k - 1) + output_padding + 1.

    Raises:
        LayoutError: the last axis is not the channel axis.
        ValueError: ``output_padding`` not below stride or dilation; an output without elements.

    >>> conv_transpose1d(jnp.ones((2, 9, 3)), jnp.ones((5, 4, 3)), stride=2).shape
    (2, 21, 4)

    Source: torch.nn.functional.conv_transpose1d, PyTorch 2.13 documentation.
    """
    return _transposed(
        1, input, kernel, bias, stride, padding, output_padding, groups, dilation, precision
    )


def conv_transpose2d(
    input: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    precision: Any = None,
) -> jax.Array:
    """Transposed convolution of images; the twin of ``torch.nn.functional.conv_transpose2d``.

    Shape:
        input: (N, H, W, C) or (H, W, C); kernel: (kH, kW, O/groups, C); returns (N, H', W', O);
        sizes and errors as in ``conv_transpose1d``.

    >>> conv_transpose2d(jnp.ones((2, 5, 6, 3)), jnp.ones((2, 2, 4, 3)), stride=2).shape
    (2, 10, 12, 4)

    Source: torch.nn.functional.conv_transpose2d, PyTorch 2.13 documentation.
    """
    return _transposed(
        2, input, kernel, bias, stride, padding, output_padding, groups, dilation, precision
    )


def conv_transpose3d(
    input: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    precision: Any = None,
) -> jax.Array:
    """Transposed convolution of volumes; the twin of ``torch.nn.functional.conv_transpose3d``.

    Shape:
        input: (N, D, H, W, C) or (D, H, W, C); kernel: (kD, kH, kW, O/groups, C);
        returns (N, D', H', W', O); sizes and errors as in ``conv_transpose1d``.

    >>> conv_transpose3d(jnp.ones((2, 2, 3, 4, 3)), jnp.ones((1, 2, 2, 4, 3)), stride=2).shape
    (2, 3, 6, 8, 4)

    Source: torch.nn.functional.conv_transpose3d, PyTorch 2.13 documentation.
    """
    return _transposed(
        3, input, kernel, bias, stride, padding, output_padding, groups, dilation, precision
    )


def _transposed(
    nd: int,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
    precision: Any,
) -> jax.Array:
    who = f"conv_transpose{nd}d"
    if kernel.ndim != nd + 2:
        raise ValueError(
            f"{who}: expected a kernel of {nd + 2} axes, ({nd} spatial, outputs / groups, inputs), "
            f"got shape {tuple(kernel.shape)}."
        )
    check_channels_last(x, kernel.shape[-1], nd, who)
    check_one_dtype(who, input=x, kernel=kernel, bias=bias)
    shape = TransposedShape(
        strides=tuple_of(stride, nd, f"{who}: stride"),
        padding=tuple_of(padding, nd, f"{who}: padding"),
        output_padding=tuple_of(output_padding, nd, f"{who}: output_padding"),
        dilation=tuple_of(dilation, nd, f"{who}: dilation"),
        groups=groups,
    )
    _check(x, kernel, shape, who)
    check_bias(bias, kernel.shape[-2] * groups, who)
    batched = x.ndim == nd + 2
    out = conv_transposed(x if batched else x[None], kernel, shape, precision)
    out = add_bias(out, bias)
    return out if batched else out[0]


def _check(x: jax.Array, kernel: jax.Array, shape: TransposedShape, who: str) -> None:
    nd = len(shape.strides)
    spatial = x.shape[-1 - nd : -1]
    problems = [
        f"{name}={value} must be positive"
        for name, value in (("stride", shape.strides), ("dilation", shape.dilation))
        if min(value) < 1
    ]
    problems += [
        f"{name}={value} must not be negative"
        for name, value in (("padding", shape.padding), ("output_padding", shape.output_padding))
        if min(value) < 0
    ]
    rows = zip(shape.output_padding, shape.strides, shape.dilation, strict=True)
    if any(o >= max(s, d) for o, s, d in rows):
        problems.append(
            f"output_padding={shape.output_padding} must be smaller than stride={shape.strides} "
            f"or dilation={shape.dilation}"
        )
    if shape.groups < 1 or kernel.shape[-1] % shape.groups:
        problems.append(f"{kernel.shape[-1]} inputs must be divisible by groups={shape.groups}")
    if 0 in (*spatial, *kernel.shape):
        problems.append(
            f"only the batch may be empty, got shape {tuple(x.shape)} and kernel "
            f"{tuple(kernel.shape)}"
        )
    if problems:
        raise ValueError(f"{who}: {'; '.join(problems)}.")
    sizes = shape.sizes(spatial, kernel.shape[:nd])
    if min(sizes) < 1:
        raise ValueError(
            f"{who}: input of shape {tuple(x.shape)} with padding={shape.padding} would give "
            f"spatial sizes {sizes}."
        )
