"""Conv1d, Conv2d, Conv3d over channels-last arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from fluxmod.nn import functional as F
from fluxmod.nn.functional._conv import pad_spatial, padding_pairs

from ._axes import Axes, Channel
from ._check import check_floating, tuple_of
from ._init import fan_in_uniform
from ._module import Module

__all__ = ["Conv1d", "Conv2d", "Conv3d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module, nnx.Conv):
    """Shared by the three convolutions; ``_spatial`` is the number of spatial axes."""

    _spatial: int
    _function: Callable[..., jax.Array]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        who, nd = type(self).__name__, self._spatial
        check_groups(who, in_channels, out_channels, groups)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"{who}: padding_mode={padding_mode!r} is not one of {_PADDING_MODES}")
        size = tuple_of(kernel_size, nd, f"{who}: kernel_size")
        strides = tuple_of(stride, nd, f"{who}: stride")
        dilations = tuple_of(dilation, nd, f"{who}: dilation")
        pads = padding_pairs(padding, size, strides, dilations, who)
        fan_in = in_channels // groups * math.prod(size)

        def init(key: Any, shape: tuple[int, ...], dtype: Any, *_: Any) -> jax.Array:
            return fan_in_uniform(key, shape, dtype, fan_in)

        super().__init__(
            in_channels,
            out_channels,
            size,
            strides,
            padding=pads,
            kernel_dilation=dilations,
            feature_group_count=groups,
            use_bias=bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            kernel_init=init,
            bias_init=init,
            rngs=rngs,
        )
        self.padding_mode = padding_mode
        self.torch_padding = (
            padding if isinstance(padding, str) else tuple_of(padding, nd, f"{who}: padding")
        )

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes."""
        channel = Channel(-self._spatial - 1)
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array) -> jax.Array:  # type: ignore[override]  # torch's name
        check_floating(input, type(self).__name__)
        bias = None if self.bias is None else self.bias[...]
        input, kernel, bias = dtypes.promote_dtype(
            (input, self.kernel[...], bias), dtype=self.dtype
        )
        padding: Any = self.torch_padding
        pads: Any = self.padding
        if self.padding_mode != "zeros":
            input = pad_spatial(input, pads, self.padding_mode, type(self).__name__)
            padding = 0
        strides: Any = self.strides
        dilation: Any = self.kernel_dilation
        return type(self)._function(
            input,
            kernel,
            bias,
            strides,
            padding,
            dilation,
            self.feature_group_count,
            precision=self.precision,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        ones, zeros = (1,) * self._spatial, (0,) * self._spatial
        text = (
            f"{self.in_features}, {self.out_features}, kernel_size={self.kernel_size}, "
            f"stride={self.strides}"
        )
        if self.torch_padding != zeros:
            text += f", padding={self.torch_padding}"
        if self.kernel_dilation != ones:
            text += f", dilation={self.kernel_dilation}"
        if self.feature_group_count != 1:
            text += f", groups={self.feature_group_count}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv1d(_ConvNd):
    """Cross-correlate channels-last sequences; the twin of ``torch.nn.Conv1d``, an ``nnx.Conv``.

    Shape:
        x: (N, L, in_channels) or (L, in_channels);
        returns (N, L', out_channels), L' = (L + 2p - d(k - 1) - 1) // s + 1.

    Differs from torch: none in values; ``kernel`` is (k, in/groups, out).

    Raises:
        LayoutError: the last axis is not the channel axis.
        ValueError: channels not divisible by groups; padding='same' with a stride.

    >>> conv = Conv1d(3, 8, 5, rngs=nnx.Rngs(0))
    >>> conv.kernel.shape, conv(jnp.ones((2, 9, 3))).shape
    ((5, 3, 8), (2, 5, 8))

    Source: torch.nn.Conv1d, PyTorch 2.13 documentation.
    """

    _spatial = 1
    _function = staticmethod(F.conv1d)


class Conv2d(_ConvNd):
    """Cross-correlate channels-last images; the twin of ``torch.nn.Conv2d``, an ``nnx.Conv``.

    Shape:
        x: (N, H, W, in_channels), or (H, W, in_channels) for one image;
        returns (N, H', W', out_channels), H' = (H + 2p - d(k - 1) - 1) // s + 1.

    Args:
        padding: pixels per side, a pair, or 'valid' / 'same' ('same' needs stride 1, as in torch).
        rngs: source of the 'params' key; torch's U(+-1/sqrt(fan_in)) is used.

    Differs from torch: none in values; ``kernel`` is (kH, kW, in/groups, out).

    Raises:
        LayoutError: the last axis is not the channel axis.
        ValueError: channels not divisible by groups; padding='same' with a stride.

    >>> conv = Conv2d(3, 8, kernel_size=3, rngs=nnx.Rngs(0))
    >>> conv.kernel.shape
    (3, 3, 3, 8)

    Source: torch.nn.Conv2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.conv2d)


class Conv3d(_ConvNd):
    """Cross-correlate channels-last volumes; the twin of ``torch.nn.Conv3d``, an ``nnx.Conv``.

    Shape:
        x: (N, D, H, W, in_channels) or without N; returns (N, D', H', W', out_channels).

    Differs from torch: none in values; ``kernel`` is (kD, kH, kW, in/groups, out).

    Raises:
        LayoutError: the last axis is not the channel axis.
        ValueError: channels not divisible by groups; padding='same' with a stride.

    >>> Conv3d(3, 8, (1, 2, 3), rngs=nnx.Rngs(0)).kernel.shape
    (1, 2, 3, 3, 8)

    Source: torch.nn.Conv3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.conv3d)


def check_groups(who: str, in_channels: int, out_channels: int, groups: int) -> None:
    problems = []
    if groups <= 0:
        problems.append(f"groups={groups} must be positive")
    else:
        if in_channels % groups:
            problems.append(f"in_channels={in_channels} must be divisible by groups={groups}")
        if out_channels % groups:
            problems.append(f"out_channels={out_channels} must be divisible by groups={groups}")
    if problems:
        raise ValueError(f"{who}: {'; '.join(problems)}.")
