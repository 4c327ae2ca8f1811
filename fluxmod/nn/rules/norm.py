"""Normalisation layers."""

from __future__ import annotations

from fluxmod.nn._batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fluxmod.nn._groupnorm import GroupNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from fluxmod.nn._layernorm import LayerNorm
from fluxmod.nn._rmsnorm import RMSNorm
from fluxmod.nn._syncbatchnorm import SyncBatchNorm

from ._leaf import Leaf, Rule

_AFFINE = (Leaf("weight", "scale"), Leaf("bias", "bias"))
_BATCH_NORM = (
    *_AFFINE,
    Leaf("running_mean", "mean"),
    Leaf("running_var", "var"),
    Leaf("num_batches_tracked", "num_batches_tracked"),
)


def _over_axes(layer: LayerNorm | RMSNorm) -> tuple[Leaf, ...]:
    """A channels-last map has its channels in front in torch: (C, H, W) -> (H, W, C)."""
    rank = len(layer.normalized_shape)
    perm = (*range(1, rank), 0) if layer.channels_last and rank > 1 else None
    return (Leaf("weight", "scale", perm), Leaf("bias", "bias", perm))


RULES: dict[type, Rule] = {
    BatchNorm1d: _BATCH_NORM,
    BatchNorm2d: _BATCH_NORM,
    BatchNorm3d: _BATCH_NORM,
    GroupNorm: _AFFINE,
    InstanceNorm1d: _BATCH_NORM,
    InstanceNorm2d: _BATCH_NORM,
    InstanceNorm3d: _BATCH_NORM,
    LayerNorm: _over_axes,
    RMSNorm: lambda layer: _over_axes(layer)[:1],
    SyncBatchNorm: _BATCH_NORM,
}
