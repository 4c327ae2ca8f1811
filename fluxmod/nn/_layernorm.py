"""LayerNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Module

__all__ = ["LayerNorm"]


class LayerNorm(Module):
    """Normalise over the last axes; the twin of ``torch.nn.LayerNorm``.

    Shape:
        x: (*, *normalized_shape); returns the same shape.

    Args:
        normalized_shape: sizes of the last axes, as torch has them.
        channels_last: the normalised axes are a feature map with the channels first in torch and
            last here: (C, H, W) in torch is stored and applied as (H, W, C).

    Differs from torch: statistics are computed in two passes with a corrected mean, so that large
    offsets cost no accuracy.

    >>> norm = LayerNorm(4, rngs=nnx.Rngs(0))
    >>> norm.scale.shape, norm(jnp.arange(8.0).reshape(2, 4)).shape
    ((4,), (2, 4))

    Source: torch.nn.LayerNorm, PyTorch 2.13 documentation; Ba, Kiros and Hinton, 2016.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        channels_last: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing random: accepted so that every layer is built alike
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(int(size) for size in shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.channels_last = channels_last
        self.dtype = dtype
        self.param_dtype = param_dtype
        stored = self._stored_shape()
        self.scale = nnx.data(None)
        self.bias = nnx.data(None)
        if elementwise_affine:
            self.scale = nnx.Param(jnp.ones(stored, param_dtype))
            if bias:
                self.bias = nnx.Param(jnp.zeros(stored, param_dtype))

    def _stored_shape(self) -> tuple[int, ...]:
        """Sizes of the normalised axes in the order of the Flax array."""
        shape = self.normalized_shape
        return (*shape[1:], shape[0]) if self.channels_last else shape

    @property
    def axes(self) -> Axes:
        """The same order, or torch's channels in front of the normalised axes."""
        if not self.channels_last:
            return Axes()
        channel = Channel(-len(self.normalized_shape))
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array) -> jax.Array:
        if self.dtype is not None:
            input = input.astype(self.dtype)
        return F.layer_norm(
            input,
            self._stored_shape(),
            None if self.scale is None else self.scale[...],
            None if self.bias is None else self.bias[...],
            self.eps,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )
