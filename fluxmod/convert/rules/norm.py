"""Normalisation layers."""

from __future__ import annotations

from fluxmod import nn

from ._leaf import Leaf, Rule

_AFFINE = (Leaf("weight", "scale"), Leaf("bias", "bias"))
_BATCH_NORM = (
    *_AFFINE,
    Leaf("running_mean", "mean"),
    Leaf("running_var", "var"),
    Leaf("num_batches_tracked", "num_batches_tracked"),
)


def _over_axes(layer: nn.LayerNorm | nn.RMSNorm) -> tuple[Leaf, ...]:
    """A channels-last map has its channels in front in torch: (C, H, W) -> (H, W, C)."""
    rank = len(layer.normalized_shape)
    perm = (*range(1, rank), 0) if layer.channels_last and rank > 1 else None
    return (Leaf("weight", "scale", perm), Leaf("bias", "bias", perm))


RULES: dict[type, Rule] = {
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.BatchNorm3d: _BATCH_NORM,
    nn.GroupNorm: _AFFINE,
    nn.InstanceNorm1d: _BATCH_NORM,
    nn.InstanceNorm2d: _BATCH_NORM,
    nn.InstanceNorm3d: _BATCH_NORM,
    nn.LayerNorm: _over_axes,
    nn.RMSNorm: lambda layer: _over_axes(layer)[:1],
    nn.SyncBatchNorm: _BATCH_NORM,
}
