"""Batch norm folded into the convolution or linear layer in front of it, for evaluation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

__all__ = [
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
]

Weights = tuple[jax.Array, jax.Array]


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """Return a copy of a convolution that computes ``bn(conv(x))`` of evaluation mode.

    Raises:
        ValueError: a layer is in training mode, or ``bn`` has no running statistics.

    >>> from fluxmod import nn
    >>> conv, bn = nn.Conv1d(2, 3, 1, rngs=nnx.Rngs(0)), nn.BatchNorm1d(3)
    >>> conv.eval(); bn.eval()
    >>> x = jnp.ones((1, 4, 2))
    >>> bool(jnp.allclose(fuse_conv_bn_eval(conv, bn)(x), bn(conv(x)), atol=1e-6))
    True

    Source: torch.nn.utils.fuse_conv_bn_eval, PyTorch 2.13 documentation.
    """
    return _fused(conv, bn, "fuse_conv_bn_eval", -2 if transpose else -1)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """Return a copy of a linear layer that computes ``bn(linear(x))`` of evaluation mode.

    Raises:
        ValueError: a layer is in training mode, ``bn`` has no running statistics, or its number of
            features is neither the layer's nor 1.

    >>> from fluxmod import nn
    >>> linear, bn = nn.Linear(2, 3, rngs=nnx.Rngs(0)), nn.BatchNorm1d(3)
    >>> linear.eval(); bn.eval()
    >>> x = jnp.ones((4, 2))
    >>> bool(jnp.allclose(fuse_linear_bn_eval(linear, bn)(x), bn(linear(x)), atol=1e-6))
    True

    Source: torch.nn.utils.fuse_linear_bn_eval, PyTorch 2.13 documentation.
    """
    if bn.num_features not in (linear.out_features, 1):
        raise ValueError(
            f"fuse_linear_bn_eval: expected a batch norm of {linear.out_features} features or 1, "
            f"got {bn.num_features}."
        )
    return _fused(linear, bn, "fuse_linear_bn_eval", -1)


def fuse_conv_bn_weights(
    conv_w: jax.Array,
    conv_b: jax.Array | None,
    bn_rm: jax.Array,
    bn_rv: jax.Array,
    bn_eps: float,
    bn_w: jax.Array | None,
    bn_b: jax.Array | None,
    transpose: bool = False,
) -> Weights:
    """Return the kernel and bias of a convolution with a batch norm folded in.

    Shape:
        conv_w: (*k, in, out), or (*k, out, in) with ``transpose``; all others (out,).

    Source: torch.nn.utils.fuse_conv_bn_weights, PyTorch 2.13 documentation.
    """
    return _folded(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, -2 if transpose else -1)


def fuse_linear_bn_weights(
    linear_w: jax.Array,
    linear_b: jax.Array | None,
    bn_rm: jax.Array,
    bn_rv: jax.Array,
    bn_eps: float,
    bn_w: jax.Array | None,
    bn_b: jax.Array | None,
) -> Weights:
    """Return the kernel and bias of a linear layer with a batch norm folded in.

    Shape:
        linear_w: (in, out); all others (out,).

    Source: torch.nn.utils.fuse_linear_bn_weights, PyTorch 2.13 documentation.
    """
    return _folded(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, -1)


def _folded(
    kernel: jax.Array,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    eps: float,
    scale: jax.Array | None,
    shift: jax.Array | None,
    axis: int,
) -> Weights:
    factor = (1.0 if scale is None else scale) / jnp.sqrt(var + eps)
    shape = [1] * kernel.ndim
    shape[axis] = -1
    bias = jnp.zeros_like(mean) if bias is None else bias
    new = (bias - mean) * factor + (0.0 if shift is None else shift)
    return (kernel * factor.reshape(shape)).astype(kernel.dtype), new.astype(bias.dtype)


def _fused(layer: Any, bn: Any, who: str, axis: int) -> Any:
    if not (layer.deterministic and bn.deterministic):
        raise ValueError(f"{who}: fusion is for evaluation; call eval() on both layers first.")
    if bn.mean is None or bn.var is None:
        raise ValueError(f"{who}: the batch norm has no running statistics.")
    copy = nnx.clone(layer)
    bias, scale, shift = (None if v is None else v[...] for v in (layer.bias, bn.scale, bn.bias))
    mean, var = bn.mean[...], bn.var[...]
    kernel, new = _folded(layer.kernel[...], bias, mean, var, bn.eps, scale, shift, axis)
    copy.kernel.set_value(kernel)
    copy.bias = layer.kernel.replace(new) if layer.bias is None else layer.bias.replace(new)
    return copy
