"""Layers that learn from their first input how many features come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ._axes import Axes
from ._batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from ._conv import Conv1d, Conv2d, Conv3d
from ._conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ._groupnorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from ._linear import Linear
from ._module import Module

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


class _Lazy(Module):
    """A layer without its first argument; ``_becomes`` is what it is after the first call."""

    _becomes: type[Any]

    def __init__(
        self,
        *args: Any,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
        **kwargs: Any,
    ) -> None:
        becomes = self._becomes
        if rngs is None and issubclass(becomes, nnx.Linear | nnx.Conv | nnx.ConvTranspose):
            raise TypeError(f"{type(self).__name__}: weights need rngs=nnx.Rngs(...).")

        def build(features: int, source: Any = rngs) -> Any:
            types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": source}
            return becomes(features, *args, **kwargs, **types)

        build(0, nnx.Rngs(0))  # arguments that do not fit are refused now
        self._build: Callable[..., Any] = build

    @property
    def axes(self) -> Axes:
        """Those of the layer it becomes."""
        return self._build(0, nnx.Rngs(0)).axes

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them, with 0 features so far."""
        return self._build(0, nnx.Rngs(0)).extra_repr()

    def __call__(self, input: jax.Array) -> jax.Array:
        if isinstance(input, jax.core.Tracer) or not input.ndim:
            raise ValueError(
                f"{type(self).__name__}: the first call makes the parameters; it takes an array "
                "with the features on its last axis and cannot be part of compiled code. Call the "
                "model once before."
            )
        layer = self._build(input.shape[-1])
        layer.deterministic = self.deterministic
        out = layer(input)  # if this raises nothing has changed
        vars(self).clear()
        vars(self).update(vars(layer))
        object.__setattr__(self, "__class__", self._becomes)
        return out


class LazyLinear(_Lazy):
    """``Linear`` that takes ``in_features`` from its first input; ``torch.nn.LazyLinear``.

    As in torch the first call makes the parameters and turns the layer into a ``Linear``; it keeps
    its place in the model. Before that call there is nothing to convert, to train or to compile:
    call the model once, outside compiled code, with an array of the right shape. So for all lazy
    layers.

    Raises:
        ValueError: a first call from compiled code.

    >>> layer = LazyLinear(5, rngs=nnx.Rngs(0))
    >>> print(layer)
    LazyLinear(in_features=0, out_features=5, bias=True)
    >>> _ = layer(jnp.ones((2, 3)))
    >>> print(layer)
    Linear(in_features=3, out_features=5, bias=True)

    Source: torch.nn.LazyLinear, PyTorch 2.13 documentation.
    """

    _becomes = Linear


class LazyConv1d(_Lazy):
    """``Conv1d`` that takes ``in_channels`` from its first input; ``torch.nn.LazyConv1d``."""

    _becomes = Conv1d


class LazyConv2d(_Lazy):
    """``Conv2d`` that takes ``in_channels`` from its first input; ``torch.nn.LazyConv2d``."""

    _becomes = Conv2d


class LazyConv3d(_Lazy):
    """``Conv3d`` that takes ``in_channels`` from its first input; ``torch.nn.LazyConv3d``."""

    _becomes = Conv3d


class LazyConvTranspose1d(_Lazy):
    """``ConvTranspose1d`` that takes ``in_channels`` from its first input."""

    _becomes = ConvTranspose1d


class LazyConvTranspose2d(_Lazy):
    """``ConvTranspose2d`` that takes ``in_channels`` from its first input."""

    _becomes = ConvTranspose2d


class LazyConvTranspose3d(_Lazy):
    """``ConvTranspose3d`` that takes ``in_channels`` from its first input."""

    _becomes = ConvTranspose3d


class LazyBatchNorm1d(_Lazy):
    """``BatchNorm1d`` that takes ``num_features`` from its first input."""

    _becomes = BatchNorm1d


class LazyBatchNorm2d(_Lazy):
    """``BatchNorm2d`` that takes ``num_features`` from its first input."""

    _becomes = BatchNorm2d


class LazyBatchNorm3d(_Lazy):
    """``BatchNorm3d`` that takes ``num_features`` from its first input."""

    _becomes = BatchNorm3d


class _LazyInstanceNorm(_Lazy):
    """Affine and with running statistics by default, unlike the layer it becomes: as in torch."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        super().__init__(eps, momentum, affine, track_running_stats, bias=bias, **types)


class LazyInstanceNorm1d(_LazyInstanceNorm):
    """``InstanceNorm1d`` that takes ``num_features`` from its first input.

    As in torch it is affine and keeps running statistics by default, which ``InstanceNorm1d`` is
    not and does not.
    """

    _becomes = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm):
    """``InstanceNorm2d`` that takes ``num_features`` from its first input.

    As in torch it is affine and keeps running statistics by default, which ``InstanceNorm2d`` is
    not and does not.
    """

    _becomes = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm):
    """``InstanceNorm3d`` that takes ``num_features`` from its first input.

    As in torch it is affine and keeps running statistics by default, which ``InstanceNorm3d`` is
    not and does not.
    """

    _becomes = InstanceNorm3d
