"""ConvTranspose1d, ConvTranspose2d, ConvTranspose3d over channels-last arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._check import check_channels_last, check_floating, tuple_of
from ._conv import check_groups
from ._init import fan_in_uniform
from ._module import Module

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

Size = int | Sequence[int]


class _ConvTransposeNd(Module, nnx.ConvTranspose):
    """Shared by the three transposed convolutions; ``_spatial`` is the number of spatial axes."""

    _spatial: int
    _function: Callable[..., jax.Array]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        who, nd = type(self).__name__, self._spatial
        check_groups(who, in_channels, out_channels, groups)
        if padding_mode != "zeros":
            raise ValueError(
                f'{who}: only "zeros" padding_mode is supported, got {padding_mode!r}.'
            )
        size = tuple_of(kernel_size, nd, f"{who}: kernel_size")
        strides = tuple_of(stride, nd, f"{who}: stride")
        dilations = tuple_of(dilation, nd, f"{who}: dilation")
        pads = tuple_of(padding, nd, f"{who}: padding")
        more = tuple_of(output_padding, nd, f"{who}: output_padding")
        reach = [d * (k - 1) for d, k in zip(dilations, size, strict=True)]
        fan_in = out_channels // groups * math.prod(size)  # of (I, O/g, *k), as torch counts it

        def init(key: Any, shape: tuple[int, ...], dtype: Any, *_: Any) -> jax.Array:
            if len(shape) > 1:
                shape = (*size, out_channels // groups, in_channels)
            return fan_in_uniform(key, shape, dtype, fan_in)

        super().__init__(
            in_channels,
            out_channels,
            size,
            strides,
            padding=[(r - p, r - p + o) for r, p, o in zip(reach, pads, more, strict=True)],
            kernel_dilation=dilations,
            use_bias=bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            kernel_init=init,
            bias_init=init,
            transpose_kernel=True,
            rngs=rngs,
        )
        self.kernel_shape = (*size, out_channels // groups, in_channels)
        self.groups = groups
        self.torch_padding = pads
        self.output_padding = more

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes."""
        channel = Channel(-self._spatial - 1)
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array, output_size: Sequence[int] | None = None) -> jax.Array:
        who = type(self).__name__
        check_floating(input, who)
        check_channels_last(input, self.in_features, self._spatial, who)
        output_padding = self._output_padding(input, output_size)
        bias = None if self.bias is None else self.bias[...]
        input, kernel, bias = dtypes.promote_dtype(
            (input, self.kernel[...], bias), dtype=self.dtype
        )
        strides: Any = self.strides
        dilation: Any = self.kernel_dilation
        return type(self)._function(
            input,
            kernel,
            bias,
            strides,
            self.torch_padding,
            output_padding,
            self.groups,
            dilation,
            precision=self.precision,
        )

    def _output_padding(
        self, input: jax.Array, output_size: Sequence[int] | None
    ) -> tuple[int, ...]:
        """Return the output padding that gives ``output_size``."""
        if output_size is None:
            return self.output_padding
        who, nd = type(self).__name__, self._spatial
        rank, asked = input.ndim, tuple(int(n) for n in output_size)
        if len(asked) not in (nd, rank):
            raise ValueError(
                f"{who}: output_size must have {nd} elements (spatial) or {rank} (the output's "
                f"whole shape, channels last), got {asked}."
            )
        asked = asked[rank - nd - 1 : -1] if len(asked) == rank else asked
        strides = tuple_of(self.strides or 1, nd, f"{who}: stride")
        dilation = tuple_of(self.kernel_dilation or 1, nd, f"{who}: dilation")
        rows = zip(
            input.shape[-1 - nd : -1],
            strides,
            self.torch_padding,
            dilation,
            tuple_of(self.kernel_size, nd, f"{who}: kernel_size"),
            strict=True,
        )
        least = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in rows)
        most = tuple(n + s - 1 for n, s in zip(least, strides, strict=True))
        if any(not low <= n <= high for low, n, high in zip(least, asked, most, strict=True)):
            raise ValueError(
                f"{who}: requested an output size of {asked}, but valid sizes range from {least} "
                f"to {most} for an input of shape {tuple(input.shape)}."
            )
        return tuple(n - low for n, low in zip(asked, least, strict=True))

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
        if self.output_padding != zeros:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution of channels-last sequences; the twin of ``torch.nn.ConvTranspose1d``.

    An ``nnx.ConvTranspose`` with ``transpose_kernel=True``.

    Shape:
        x: (N, L, in_channels) or (L, in_channels); returns (N, L', out_channels),
        L' = (L - 1) s - 2p + d(k - 1) + output_padding + 1.

    Differs from torch: none in values; ``kernel`` is (k, out/groups, in).

    Raises:
        LayoutError: the last axis is not the channel axis.
        ValueError: channels not divisible by groups; an ``output_size`` out of reach.

    >>> conv = ConvTranspose1d(3, 8, 5, stride=2, rngs=nnx.Rngs(0))
    >>> conv.kernel.shape, conv(jnp.ones((2, 9, 3))).shape
    ((5, 8, 3), (2, 21, 8))

    Source: torch.nn.ConvTranspose1d, PyTorch 2.13 documentation.
    """

    _spatial = 1
    _function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution of channels-last images; the twin of ``torch.nn.ConvTranspose2d``.

    An ``nnx.ConvTranspose`` with ``transpose_kernel=True``, and with groups.

    Shape:
        x: (N, H, W, in_channels), or (H, W, in_channels) for one image;
        returns (N, H', W', out_channels), H' = (H - 1) s - 2p + d(k - 1) + output_padding + 1.

    Args:
        output_padding: rows and columns added on the high side of the output.
        rngs: source of the 'params' key; torch's U(+-1/sqrt(out/groups kH kW)) is used.

    The call takes ``output_size``, the spatial sizes wanted or the whole shape (channels last).

    Differs from torch: none in values; ``kernel`` is (kH, kW, out/groups, in).

    Raises:
        LayoutError: the last axis is not the channel axis.
        ValueError: channels not divisible by groups; an ``output_size`` out of reach.

    >>> conv = ConvTranspose2d(3, 8, 3, stride=2, rngs=nnx.Rngs(0))
    >>> conv.kernel.shape, conv(jnp.ones((2, 4, 5, 3)), output_size=(10, 11)).shape
    ((3, 3, 8, 3), (2, 10, 11, 8))

    Source: torch.nn.ConvTranspose2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTransposeNd):
    """Transposed convolution of channels-last volumes; the twin of ``torch.nn.ConvTranspose3d``.

    An ``nnx.ConvTranspose`` with ``transpose_kernel=True``, and with groups.

    Shape:
        x: (N, D, H, W, in_channels) or without N; returns (N, D', H', W', out_channels).

    Differs from torch: none in values; ``kernel`` is (kD, kH, kW, out/groups, in).

    Raises:
        LayoutError: the last axis is not the channel axis.
        ValueError: channels not divisible by groups; an ``output_size`` out of reach.

    >>> ConvTranspose3d(3, 8, (1, 2, 3), rngs=nnx.Rngs(0)).kernel.shape
    (1, 2, 3, 8, 3)

    Source: torch.nn.ConvTranspose3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.conv_transpose3d)
