"""Windows as columns, and channels moved into space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Module

__all__ = ["ChannelShuffle", "Fold", "PixelShuffle", "PixelUnshuffle", "Unfold"]

Size = int | Sequence[int]


def _static(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) else value


class Unfold(Module):
    """Make a column of every window of (N, H, W, C); the twin of ``torch.nn.Unfold``.

    Shape:
        x: (N, H, W, C) or (H, W, C); returns (N, L, C * kH * kW), torch's (N, C * kH * kW, L).

    >>> Unfold(2)(jnp.ones((1, 3, 3, 5))).shape
    (1, 4, 20)

    Source: torch.nn.Unfold, PyTorch 2.13 documentation.
    """

    def __init__(
        self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        self.kernel_size = _static(kernel_size)
        self.dilation = _static(dilation)
        self.padding = _static(padding)
        self.stride = _static(stride)

    @property
    def axes(self) -> Axes:
        """torch has the channels in front, of columns too."""
        return Axes(inputs=(Channel(-3),), output=Channel(-2))

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """Add columns up where their windows lie; the twin of ``torch.nn.Fold``.

    Shape:
        x: (N, L, C * kH * kW) or without N, torch's (N, C * kH * kW, L); returns (N, H, W, C).

    >>> Fold((3, 3), 2)(jnp.ones((1, 4, 20))).shape
    (1, 3, 3, 5)

    Source: torch.nn.Fold, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        output_size: Size,
        kernel_size: Size,
        dilation: Size = 1,
        padding: Size = 0,
        stride: Size = 1,
    ) -> None:
        self.output_size = _static(output_size)
        self.kernel_size = _static(kernel_size)
        self.dilation = _static(dilation)
        self.padding = _static(padding)
        self.stride = _static(stride)

    @property
    def axes(self) -> Axes:
        """torch has the channels in front, of columns too."""
        return Axes(inputs=(Channel(-2),), output=Channel(-3))

    def __call__(self, input: jax.Array) -> jax.Array:
        rest = (self.kernel_size, self.dilation, self.padding, self.stride)
        return F.fold(input, self.output_size, *rest)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )


class PixelShuffle(Module):
    """Spread channels over blocks of pixels; the twin of ``torch.nn.PixelShuffle``.

    >>> PixelShuffle(2)(jnp.ones((1, 2, 3, 8))).shape
    (1, 4, 6, 2)

    Source: torch.nn.PixelShuffle, PyTorch 2.13 documentation.
    """

    axes = Axes(inputs=(Channel(-3),), output=Channel(-3))

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Gather blocks of pixels into channels; the twin of ``torch.nn.PixelUnshuffle``.

    >>> PixelUnshuffle(2)(jnp.ones((1, 4, 6, 2))).shape
    (1, 2, 3, 8)

    Source: torch.nn.PixelUnshuffle, PyTorch 2.13 documentation.
    """

    axes = Axes(inputs=(Channel(-3),), output=Channel(-3))

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Deal the channels of groups out in turn; the twin of ``torch.nn.ChannelShuffle``.

    >>> ChannelShuffle(2)(jnp.arange(4).reshape(1, 1, 4)).tolist()
    [[[0, 2, 1, 3]]]

    Source: torch.nn.ChannelShuffle, PyTorch 2.13 documentation.
    """

    axes = Axes(inputs=(Channel(1),), output=Channel(1))

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"groups={self.groups}"
