"""BatchNorm with torch's running statistics: unbiased variance, cumulative averages, counters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod._errors import LayoutError
from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Module

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class _BatchNorm(Module):
    """Shared by the three ranks; ``_ranks`` are the ranks an input may have."""

    _ranks: tuple[int, ...]
    axis_name: Any = None

    def __init__(
        self,
        num_features: int,
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
        del rngs  # nothing random: accepted so that every layer is built alike
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.dtype = dtype
        self.param_dtype = param_dtype
        ones, zeros = jnp.ones((num_features,), param_dtype), jnp.zeros(num_features, param_dtype)
        self.scale: Any = nnx.Param(ones) if affine else nnx.data(None)
        self.bias: Any = nnx.Param(zeros) if affine and bias else nnx.data(None)
        tracked = track_running_stats
        self.mean: Any = nnx.BatchStat(zeros) if tracked else nnx.data(None)
        self.var: Any = nnx.BatchStat(ones) if tracked else nnx.data(None)
        self.num_batches_tracked: Any = (
            nnx.BatchStat(jnp.zeros((), jnp.int32), torch_dtype="int64")
            if tracked
            else nnx.data(None)
        )

    @property
    def axes(self) -> Axes:
        """torch has the channels on axis 1."""
        return Axes(inputs=(Channel(1),), output=Channel(1))

    @property
    def use_running_average(self) -> bool:
        """Flax's name for evaluation mode."""
        return self.deterministic

    @use_running_average.setter
    def use_running_average(self, value: bool) -> None:
        self.deterministic = value

    def __call__(self, input: jax.Array) -> jax.Array:
        self._check(input)
        if self.dtype is not None:
            input = input.astype(self.dtype)
        batch_stats = self.training or self.mean is None
        out, mean, var = F.batch_norm(
            input,
            None if batch_stats else self.mean[...],
            None if batch_stats else self.var[...],
            None if self.scale is None else self.scale[...],
            None if self.bias is None else self.bias[...],
            training=batch_stats,
            eps=self.eps,
            axis_name=self.axis_name,
        )
        if self.training and self.mean is not None:
            self._update(mean, var, empty=input.size == 0)
        return out

    def _update(self, mean: jax.Array, var: jax.Array, *, empty: bool) -> None:
        """Move the running statistics; ``momentum=None`` keeps the average of all batches."""
        count = self.num_batches_tracked[...] + 1
        self.num_batches_tracked[...] = count
        if empty:
            return  # torch counts an empty batch, and it has no statistics
        for stat, new in ((self.mean, mean), (self.var, var)):
            old = stat[...]
            weight = 1.0 / count.astype(old.dtype) if self.momentum is None else self.momentum
            stat[...] = (old * (1 - weight) + new.astype(old.dtype) * weight).astype(old.dtype)

    def _check(self, x: jax.Array) -> None:
        who = type(self).__name__
        if x.ndim not in self._ranks:
            raise LayoutError(
                f"{who}: expected {' or '.join(map(str, self._ranks))} axes with the channels "
                f"last, got shape {tuple(x.shape)}."
            )
        if x.shape[-1] != self.num_features:
            hint = ""
            if x.shape[1] == self.num_features:
                hint = " The input looks channels-first; use jnp.moveaxis(x, 1, -1)."
            raise LayoutError(
                f"{who}: expected {self.num_features} channels on the last axis, got shape "
                f"{tuple(x.shape)}.{hint}"
            )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalise each channel of (N, C) or (N, L, C) over the batch; ``torch.nn.BatchNorm1d``.

    ``mean`` and ``var`` (torch: running_mean, running_var) are ``nnx.BatchStat`` and are updated in
    training mode by torch's rule: ``momentum`` weighs the *new* value, the variance kept is the
    unbiased one, ``momentum=None`` averages over ``num_batches_tracked`` batches.

    Args:
        bias: ``False`` leaves the offset out of an affine layer, as in torch 2.13.

    Raises:
        LayoutError: wrong rank or channel count.
        ValueError: one value per channel in training mode.

    >>> BatchNorm1d(3)(jnp.ones((4, 3))).shape
    (4, 3)

    Source: torch.nn.BatchNorm1d, PyTorch 2.13 documentation; Ioffe and Szegedy, 2015.
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of (N, H, W, C) over batch and space; ``torch.nn.BatchNorm2d``.

    Statistics, errors and sources as in ``BatchNorm1d``.

    >>> norm = BatchNorm2d(3)
    >>> norm(jnp.ones((4, 5, 6, 3))).shape, norm.scale.shape, norm.mean.shape
    ((4, 5, 6, 3), (3,), (3,))

    Source: torch.nn.BatchNorm2d, PyTorch 2.13 documentation.
    """

    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalise each channel of (N, D, H, W, C) over batch and space; ``torch.nn.BatchNorm3d``.

    Statistics, errors and sources as in ``BatchNorm1d``.

    >>> BatchNorm3d(3)(jnp.ones((2, 4, 5, 6, 3))).shape
    (2, 4, 5, 6, 3)

    Source: torch.nn.BatchNorm3d, PyTorch 2.13 documentation.
    """

    _ranks = (5,)
