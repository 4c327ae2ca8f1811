"""Power-average, fractional and undone max pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._check import tuple_of
from ._module import Buffer, Module
from ._pooling import MaxPool1d, MaxPool2d, MaxPool3d  # noqa: F401 - used by the doctests

__all__ = [
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]

Size = int | Sequence[int]
Ratio = float | Sequence[float]


def _static(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) else value


class _LPPool(Module):
    """Shared by the power-average poolings."""

    _spatial: int
    _function: Callable[..., jax.Array]

    def __init__(
        self,
        norm_type: float,
        kernel_size: Size,
        stride: Size | None = None,
        ceil_mode: bool = False,
    ) -> None:
        self.norm_type = norm_type
        self.kernel_size = _static(kernel_size)
        self.stride = _static(stride)
        self.ceil_mode = ceil_mode

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes."""
        channel = Channel(-self._spatial - 1)
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array) -> jax.Array:
        rest = (float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)
        return type(self)._function(input, *rest)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """The ``norm_type``-norm of each window of (N, L, C); the twin of ``torch.nn.LPPool1d``.

    >>> LPPool1d(2, 2)(jnp.ones((1, 4, 3))).shape
    (1, 2, 3)

    Source: torch.nn.LPPool1d, PyTorch 2.13 documentation.
    """

    _spatial = 1
    _function = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool):
    """The ``norm_type``-norm of each window of (N, H, W, C); the twin of ``torch.nn.LPPool2d``.

    >>> LPPool2d(2, 2)(jnp.ones((1, 4, 6, 3))).shape
    (1, 2, 3, 3)

    Source: torch.nn.LPPool2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool):
    """The ``norm_type``-norm of each window of (N, D, H, W, C); the twin of ``torch.nn.LPPool3d``.

    >>> LPPool3d(2, 2)(jnp.ones((1, 4, 6, 2, 3))).shape
    (1, 2, 3, 1, 3)

    Source: torch.nn.LPPool3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.lp_pool3d)


class _MaxUnpool(Module):
    """Shared by the inverses of max pooling."""

    _spatial: int
    _function: Callable[..., jax.Array]

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        who, nd = type(self).__name__, self._spatial
        self.kernel_size = tuple_of(kernel_size, nd, f"{who}: kernel_size")
        step = kernel_size if stride is None else stride
        self.stride = tuple_of(step, nd, f"{who}: stride")
        self.padding = tuple_of(padding, nd, f"{who}: padding")

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes, of indices too."""
        channel = Channel(-self._spatial - 1)
        return Axes(inputs=(channel, channel), output=channel, keywords={"indices": channel})

    def __call__(
        self, input: jax.Array, indices: jax.Array, output_size: Sequence[int] | None = None
    ) -> jax.Array:
        rest = (self.kernel_size, self.stride, self.padding, output_size)
        return type(self)._function(input, indices, *rest)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Put maxima of (N, L, C) back to their places; the twin of ``torch.nn.MaxUnpool1d``.

    >>> values, places = MaxPool1d(2, return_indices=True)(jnp.ones((1, 4, 3)))
    >>> MaxUnpool1d(2)(values, places).shape
    (1, 4, 3)

    Source: torch.nn.MaxUnpool1d, PyTorch 2.13 documentation.
    """

    _spatial = 1
    _function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """Put maxima of (N, H, W, C) back to their places; the twin of ``torch.nn.MaxUnpool2d``.

    >>> values, places = MaxPool2d(2, return_indices=True)(jnp.ones((1, 4, 4, 3)))
    >>> MaxUnpool2d(2)(values, places).shape
    (1, 4, 4, 3)

    Source: torch.nn.MaxUnpool2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """Put maxima of (N, D, H, W, C) back to their places; the twin of ``torch.nn.MaxUnpool3d``.

    >>> values, places = MaxPool3d(2, return_indices=True)(jnp.ones((1, 4, 4, 4, 3)))
    >>> MaxUnpool3d(2)(values, places).shape
    (1, 4, 4, 4, 3)

    Source: torch.nn.MaxUnpool3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.max_unpool3d)


class _FractionalMaxPool(Module):
    """Shared by the fractional poolings."""

    _spatial: int
    _function: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Size,
        output_size: Size | None = None,
        output_ratio: Ratio | None = None,
        return_indices: bool = False,
        _random_samples: Any = None,
        *,
        param_dtype: Any = None,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        who, nd = type(self).__name__, self._spatial
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{who}: give either output_size or output_ratio.")
        self.kernel_size = tuple_of(kernel_size, nd, f"{who}: kernel_size")
        self.return_indices = return_indices
        self._random_samples: Any = nnx.data(None)
        if _random_samples is not None:
            self._random_samples = Buffer(jnp.asarray(_random_samples, param_dtype))
        self.output_size: Any = None
        if output_size is not None:
            self.output_size = tuple_of(output_size, nd, f"{who}: output_size")
        given: Any = output_ratio
        self.output_ratio: Any = None
        if given is not None:
            self.output_ratio = tuple(given) if isinstance(given, Sequence) else (given,) * nd
            if len(self.output_ratio) != nd or not all(0 < r < 1 for r in self.output_ratio):
                raise ValueError(
                    f"{who}: output_ratio must be {nd} numbers between 0 and 1, got {given}."
                )
        self.rngs: Any = nnx.data(None)
        if rngs is not None:
            self.rngs = rngs.dropout.fork()

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes, of indices too."""
        channel = Channel(-self._spatial - 1)
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array, *, rngs: Any = None) -> Any:
        samples = None if self._random_samples is None else self._random_samples[...]
        return type(self)._function(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            samples,
            rngs=self.rngs if rngs is None else rngs,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maximum over windows at random steps; the twin of ``torch.nn.FractionalMaxPool2d``.

    Draws in both modes, as in torch.

    Args:
        output_size, output_ratio: one of them: sizes, or shares of the input's in (0, 1).
        _random_samples: (N, C, 2), used instead of random numbers; a buffer.
        rngs: source of the 'dropout' stream; may also be given to the call.

    >>> FractionalMaxPool2d(2, 3, rngs=nnx.Rngs(0))(jnp.ones((1, 7, 6, 3))).shape
    (1, 3, 3, 3)

    Source: torch.nn.FractionalMaxPool2d, PyTorch 2.13 documentation.
    """

    _spatial = 2
    _function = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maximum over windows at random steps; the twin of ``torch.nn.FractionalMaxPool3d``.

    Draws in both modes, as in torch.

    Args:
        output_size, output_ratio: one of them: sizes, or shares of the input's in (0, 1).
        _random_samples: (N, C, 3), used instead of random numbers; a buffer.
        rngs: source of the 'dropout' stream; may also be given to the call.

    >>> FractionalMaxPool3d(2, 3, rngs=nnx.Rngs(0))(jnp.ones((1, 7, 6, 5, 3))).shape
    (1, 3, 3, 3, 3)

    Source: torch.nn.FractionalMaxPool3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
    _function = staticmethod(F.fractional_max_pool3d)
