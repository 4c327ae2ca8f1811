"""A port whose layers are those of ``flax.nnx`` alone, as its users write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import nnx

from fluxmod import nn


def with_plain_layers(model: nnx.Module) -> nnx.Module:
    """Replace convolutions, products, norms and tables in place; what is between them stays."""
    replaced: dict[int, nnx.Module] = {}
    for _, module in list(nnx.iter_modules(model)):
        children = enumerate(module) if isinstance(module, nnx.List) else vars(module).items()
        for name, child in list(children):
            make = LAYERS.get(type(child))
            if make is None:
                continue
            plain = replaced.setdefault(id(child), make(child))
            if isinstance(module, nnx.List):
                module[name] = plain
            else:
                setattr(module, name, plain)
    return model


def _conv(layer: Any) -> nnx.Module:
    if layer.padding_mode != "zeros":
        return layer
    plain = nnx.Conv(
        layer.in_features,
        layer.out_features,
        layer.kernel_size,
        layer.strides,
        padding=layer.padding,
        kernel_dilation=layer.kernel_dilation,
        feature_group_count=layer.feature_group_count,
        use_bias=layer.bias is not None,
        rngs=nnx.Rngs(0),
    )
    return _with(plain, layer, "kernel", "bias")


def _linear(layer: Any) -> nnx.Module:
    plain = nnx.Linear(
        layer.in_features, layer.out_features, use_bias=layer.bias is not None, rngs=nnx.Rngs(0)
    )
    return _with(plain, layer, "kernel", "bias")


def _batch_norm(layer: Any) -> nnx.Module:
    plain = nnx.BatchNorm(
        layer.num_features,
        use_running_average=not layer.training,
        momentum=1 - layer.momentum,
        epsilon=layer.eps,
        use_scale=layer.scale is not None,
        use_bias=layer.bias is not None,
        rngs=nnx.Rngs(0),
    )
    return _with(plain, layer, "scale", "bias", "mean", "var")


def _layer_norm(layer: Any) -> nnx.Module:
    if len(layer.normalized_shape) > 1:
        return layer
    plain = nnx.LayerNorm(
        layer.normalized_shape[0],
        epsilon=layer.eps,
        use_scale=layer.scale is not None,
        use_bias=layer.bias is not None,
        rngs=nnx.Rngs(0),
    )
    return _with(plain, layer, "scale", "bias")


def _embedding(layer: Any) -> nnx.Module:
    plain = nnx.Embed(layer.num_embeddings, layer.features, rngs=nnx.Rngs(0))
    return _with(plain, layer, "embedding")


def _with(plain: nnx.Module, layer: Any, *names: str) -> nnx.Module:
    """Give the new layer the old one's arrays."""
    for name in names:
        if (array := getattr(layer, name)) is not None:
            setattr(plain, name, array)
    return plain


LAYERS: dict[type, Callable[[Any], nnx.Module]] = {
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
}
