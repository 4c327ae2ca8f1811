"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]

Size = int | Sequence[int]


def _static(size: Any) -> Any:
    """A size as given, lists as tuples: what a layer keeps must be hashable."""
    return tuple(size) if isinstance(size, Sequence) else size


class _Pool(Module):
    """Shared by all poolings; ``_spatial`` is the number of spatial axes."""

    _spatial: int
    _function: Callable[..., Any]

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes, of indices too."""
        channel = Channel(-self._spatial - 1)
        return Axes(inputs=(channel,), output=channel)


class _MaxPool(_Pool):
    """Shared by MaxPool1d, MaxPool2d and MaxPool3d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = _static(kernel_size)
        self.stride = _static(kernel_size if stride is None else stride)
        self.padding = _static(padding)
        self.dilation = _static(dilation)
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def __call__(self, input: jax.Array) -> Any:
        return type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class _AvgPool(_Pool):
    """Shared by AvgPool2d and AvgPool3d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size = _static(kernel_size)
        self.stride = _static(kernel_size if stride is None else stride)
        self.padding = _static(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def __call__(self, input: jax.Array) -> jax.Array:
        return type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_Pool):
    """Mean of each window of (N, L, C); the twin of ``torch.nn.AvgPool1d``.

    >>> AvgPool1d(2)(jnp.ones((2, 6, 3))).shape
    (2, 3, 3)

    Source: torch.nn.AvgPool1d, PyTorch 2.13 documentation.
    """

    _spatial = 1

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = _single(kernel_size)
        self.stride = _single(kernel_size if stride is None else stride)
        self.padding = _single(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _single(size: Size) -> tuple[int, ...]:
    return tuple(size) if isinstance(size, Sequence) else (size,)


class _AdaptiveAvgPool(_Pool):
    """Shared by the adaptive averages."""

    def __init__(self, output_size: Any) -> None:
        self.output_size = _static(output_size)

    def __call__(self, input: jax.Array) -> jax.Array:
        return type(self)._function(input, self.output_size)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(_Pool):
    """Shared by the adaptive maxima."""

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self.output_size = _static(output_size)
        self.return_indices = return_indices

    def __call__(self, input: jax.Array) -> Any:
        return type(self)._function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"output_size={self.output_size}"


class MaxPool1d(_MaxPool):
    """Largest value in each window of (N, L, C); the twin of ``torch.nn.MaxPool1d``.

    >>> MaxPool1d(2)(jnp.ones((2, 6, 3))).shape
    (2, 3, 3)

    Source: torch.nn.MaxPool1d, PyTorch 2.13 documentation.
    """

    _spatial = 1
    _function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """Largest value in each window of (N, H, W, C); the twin of ``torch.nn.MaxPool2d``.

    >>> MaxPool2d(2)(jnp.ones((2, 6, 6, 3))).shape
    (2, 3, 3, 3)

    Source: torch.nn.MaxPool2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """Largest value in each window of (N, D, H, W, C); the twin of ``torch.nn.MaxPool3d``.

    >>> MaxPool3d(2)(jnp.ones((2, 6, 6, 6, 3))).shape
    (2, 3, 3, 3, 3)

    Source: torch.nn.MaxPool3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.max_pool3d)


class AvgPool2d(_AvgPool):
    """Mean of each window of (N, H, W, C); the twin of ``torch.nn.AvgPool2d``.

    >>> AvgPool2d(2)(jnp.ones((2, 6, 6, 3))).shape
    (2, 3, 3, 3)

    Source: torch.nn.AvgPool2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """Mean of each window of (N, D, H, W, C); the twin of ``torch.nn.AvgPool3d``.

    >>> AvgPool3d(2)(jnp.ones((2, 6, 6, 6, 3))).shape
    (2, 3, 3, 3, 3)

    Source: torch.nn.AvgPool3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.avg_pool3d)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean over so many windows of (N, L, C); ``torch.nn.AdaptiveAvgPool1d``.

    >>> AdaptiveAvgPool1d(4)(jnp.ones((2, 6, 3))).shape
    (2, 4, 3)

    Source: torch.nn.AdaptiveAvgPool1d, PyTorch 2.13 documentation.
    """

    _spatial = 1
    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean over so many windows of (N, H, W, C); ``torch.nn.AdaptiveAvgPool2d``.

    >>> AdaptiveAvgPool2d(4)(jnp.ones((2, 6, 6, 3))).shape
    (2, 4, 4, 3)

    Source: torch.nn.AdaptiveAvgPool2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean over so many windows of (N, D, H, W, C); ``torch.nn.AdaptiveAvgPool3d``.

    >>> AdaptiveAvgPool3d(4)(jnp.ones((2, 6, 6, 6, 3))).shape
    (2, 4, 4, 4, 3)

    Source: torch.nn.AdaptiveAvgPool3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.adaptive_avg_pool3d)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Largest value in so many windows of (N, L, C); ``torch.nn.AdaptiveMaxPool1d``.

    >>> AdaptiveMaxPool1d(4)(jnp.ones((2, 6, 3))).shape
    (2, 4, 3)

    Source: torch.nn.AdaptiveMaxPool1d, PyTorch 2.13 documentation.
    """

    _spatial = 1
    _function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Largest value in so many windows of (N, H, W, C); ``torch.nn.AdaptiveMaxPool2d``.

    >>> AdaptiveMaxPool2d(4)(jnp.ones((2, 6, 6, 3))).shape
    (2, 4, 4, 3)

    Source: torch.nn.AdaptiveMaxPool2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Largest value in so many windows of (N, D, H, W, C); ``torch.nn.AdaptiveMaxPool3d``.

    >>> AdaptiveMaxPool3d(4)(jnp.ones((2, 6, 6, 6, 3))).shape
    (2, 4, 4, 4, 3)

    Source: torch.nn.AdaptiveMaxPool3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.adaptive_max_pool3d)
