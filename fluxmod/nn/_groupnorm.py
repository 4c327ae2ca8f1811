"""GroupNorm and InstanceNorm."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod._errors import LayoutError
from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._batchnorm import _BatchNorm
from ._module import Module

__all__ = ["GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"]


class GroupNorm(Module):
    """Normalise groups of neighbouring channels of every sample; ``torch.nn.GroupNorm``.

    Shape:
        x: (N, *, C); returns the same shape.

    Args:
        bias: ``False`` leaves the offset out of an affine layer, as in torch 2.13.

    Raises:
        ValueError: ``num_groups`` does not divide ``num_channels``; one value per group.
        LayoutError: wrong channel count.

    >>> norm = GroupNorm(2, 4)
    >>> norm.scale.shape, norm(jnp.ones((2, 5, 6, 4))).shape
    ((4,), (2, 5, 6, 4))

    Source: torch.nn.GroupNorm, PyTorch 2.13 documentation; Wu and He, 2018.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing random: accepted so that every layer is built alike
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels={num_channels} must be divisible by "
                f"num_groups={num_groups}."
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.scale: Any = nnx.data(None)
        self.bias: Any = nnx.data(None)
        if affine:
            self.scale = nnx.Param(jnp.ones(num_channels, param_dtype))
            if bias:
                self.bias = nnx.Param(jnp.zeros(num_channels, param_dtype))

    @property
    def axes(self) -> Axes:
        """torch has the channels on axis 1."""
        return Axes(inputs=(Channel(1),), output=Channel(1))

    def __call__(self, input: jax.Array) -> jax.Array:
        if input.ndim > 1 and input.shape[-1] != self.num_channels:
            raise LayoutError(wrong_channels(self, input, self.num_channels, 1))
        if self.dtype is not None:
            input = input.astype(self.dtype)
        return F.group_norm(
            input,
            self.num_groups,
            None if self.scale is None else self.scale[...],
            None if self.bias is None else self.bias[...],
            self.eps,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class _InstanceNorm(_BatchNorm):
    """Shared by the three ranks; ``_ranks`` are those without and with the batch axis."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            bias=bias,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes."""
        channel = Channel(-self._ranks[0])
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array) -> jax.Array:
        self._check(input)
        if self.dtype is not None:
            input = input.astype(self.dtype)
        batched = input.ndim == self._ranks[1]
        out, mean, var = F.instance_norm(
            input if batched else input[None],
            None if self.mean is None else self.mean[...],
            None if self.var is None else self.var[...],
            None if self.scale is None else self.scale[...],
            None if self.bias is None else self.bias[...],
            use_input_stats=self.training or self.mean is None,
            eps=self.eps,
        )
        if self.training and self.mean is not None and self.momentum is not None:
            for stat, new in ((self.mean, mean), (self.var, var)):
                old = stat[...]
                moved = old * (1 - self.momentum) + new.astype(old.dtype) * self.momentum
                stat[...] = moved.astype(old.dtype)
        return out if batched else out[0]

    def _check(self, x: jax.Array) -> None:
        if x.ndim not in self._ranks:
            raise LayoutError(
                f"{type(self).__name__}: expected {self._ranks[0]} or {self._ranks[1]} axes with "
                f"the channels last, got shape {tuple(x.shape)}."
            )
        if x.shape[-1] == self.num_features:
            return
        text = wrong_channels(self, x, self.num_features, x.ndim - self._ranks[0])
        if self.affine or self.track_running_stats:
            raise LayoutError(text)
        warnings.warn(f"{text} Without parameters the number is not used.", stacklevel=3)


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each sample of (N, L, C) or (L, C); ``torch.nn.InstanceNorm1d``.

    With ``track_running_stats`` the averages over the samples' statistics are kept in ``mean`` and
    ``var`` (torch: running_mean, running_var) and are used in evaluation mode. As in torch,
    ``momentum=None`` never moves them and ``num_batches_tracked`` stays 0.

    Args:
        bias: ``False`` leaves the offset out of an affine layer, as in torch 2.13.

    Raises:
        LayoutError: wrong rank; wrong channel count (a warning where the layer holds nothing).
        ValueError: one value per channel and sample.

    >>> InstanceNorm1d(3)(jnp.ones((2, 5, 3))).shape
    (2, 5, 3)

    Source: torch.nn.InstanceNorm1d, PyTorch 2.13 documentation; Ulyanov et al., 2016.
    """

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each image of (N, H, W, C) or (H, W, C); ``nn.InstanceNorm2d``.

    Statistics, errors and sources as in ``InstanceNorm1d``.

    >>> norm = InstanceNorm2d(3, affine=True, track_running_stats=True)
    >>> norm(jnp.ones((2, 5, 6, 3))).shape, norm.scale.shape, norm.mean.shape
    ((2, 5, 6, 3), (3,), (3,))

    Source: torch.nn.InstanceNorm2d, PyTorch 2.13 documentation.
    """

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Normalise each channel of each volume of (N, D, H, W, C) or without N; ``InstanceNorm3d``.

    Statistics, errors and sources as in ``InstanceNorm1d``.

    >>> InstanceNorm3d(3)(jnp.ones((2, 4, 5, 6, 3))).shape
    (2, 4, 5, 6, 3)

    Source: torch.nn.InstanceNorm3d, PyTorch 2.13 documentation.
    """

    _ranks = (4, 5)


def wrong_channels(layer: Module, x: jax.Array, channels: int, first: int) -> str:
    """Say what is wrong; name the fix where axis ``first`` has the size."""
    hint = ""
    if x.shape[first] == channels:
        hint = f" The input looks channels-first; use jnp.moveaxis(x, {first}, -1)."
    return (
        f"{type(layer).__name__}: expected {channels} channels on the last axis, got shape "
        f"{tuple(x.shape)}.{hint}"
    )
