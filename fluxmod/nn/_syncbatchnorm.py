"""BatchNorm over the whole of a batch that several devices share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod._errors import LayoutError

from ._batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _BatchNorm
from ._module import named_children

__all__ = ["SyncBatchNorm"]


class SyncBatchNorm(_BatchNorm):
    """Normalise each channel over the batch of all devices; the twin of ``torch.nn.SyncBatchNorm``.

    Under ``jax.jit`` with a sharded batch there is nothing to synchronise: an array is the whole
    batch wherever its parts lie, and ``BatchNorm2d`` already takes the statistics of all of it.
    This layer is then the same, for any rank. Inside ``jax.shard_map``, where a function sees one
    device's part, ``axis_name`` names the mesh axes to average over.

    Shape:
        x: (N, C) or (N, *, C); returns the same shape.

    Args:
        process_group: torch's choice of devices; here it is ``axis_name``, so None alone is taken.
        bias: ``False`` leaves the offset out of an affine layer, as in torch 2.13.
        axis_name: mapped axes over which the statistics of a batch are taken besides.

    Raises:
        LayoutError: wrong rank or channel count.
        ValueError: a ``process_group``; one value per channel in training mode.

    >>> SyncBatchNorm(3)(jnp.ones((4, 5, 6, 3))).shape
    (4, 5, 6, 3)

    Source: torch.nn.SyncBatchNorm, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: None = None,
        *,
        bias: bool = True,
        axis_name: str | tuple[str, ...] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        _refuse_group(process_group)
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
        self.process_group = None
        self.axis_name = axis_name

    def _check(self, x: jax.Array) -> None:
        if x.ndim < 2 or not self.num_features:
            raise LayoutError(
                f"SyncBatchNorm: expected at least 2 axes and 1 channel, got shape "
                f"{tuple(x.shape)}."
            )
        super()._check(x)

    @property
    def _ranks(self) -> range:  # type: ignore[override]  # any rank
        return range(2, 65)

    @classmethod
    def convert_sync_batchnorm(
        cls,
        module: nnx.Module,
        process_group: None = None,
        *,
        axis_name: str | tuple[str, ...] | None = None,
    ) -> nnx.Module:
        """Return the module with a SyncBatchNorm in place of every BatchNorm, in place below it.

        The new layers hold the same Variables, so optimizers and ties keep what they had.

        >>> from fluxmod import nn
        >>> net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
        >>> print(nn.SyncBatchNorm.convert_sync_batchnorm(net))
        Sequential(
          (0): SyncBatchNorm(3, eps=1e-05, momentum=0.1, affine=True, bias=True, \
track_running_stats=True)
          (1): ReLU()
        )
        """
        _refuse_group(process_group)
        if isinstance(module, BatchNorm1d | BatchNorm2d | BatchNorm3d | SyncBatchNorm):
            return cls._of(module, axis_name)
        for name, child in list(named_children(module)):
            converted = cls.convert_sync_batchnorm(child, axis_name=axis_name)
            if converted is not child:
                setattr(module, name, converted)
        return module

    @classmethod
    def _of(cls, old: _BatchNorm, axis_name: str | tuple[str, ...] | None) -> SyncBatchNorm:
        new = cls(
            old.num_features,
            old.eps,
            old.momentum,
            old.affine,
            old.track_running_stats,
            bias=old.bias is not None,
            axis_name=axis_name,
            dtype=old.dtype,
            param_dtype=old.param_dtype,
        )
        for name in ("scale", "bias", "mean", "var", "num_batches_tracked"):
            setattr(new, name, getattr(old, name))
        new.deterministic = old.deterministic
        return new


def _refuse_group(process_group: Any) -> None:
    if process_group is not None:
        raise ValueError(
            f"SyncBatchNorm: process_group={process_group!r} has no meaning in JAX. Name the mesh "
            "axes with axis_name= inside jax.shard_map; under jax.jit nothing is needed."
        )
