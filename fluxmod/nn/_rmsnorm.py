"""RMSNorm and the local response normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F
from fluxmod.nn.functional._cross_map import cross_map_lrn

from ._axes import Axes, Channel
from ._module import Module

__all__ = ["CrossMapLRN2d", "LocalResponseNorm", "RMSNorm"]


class RMSNorm(Module):
    """Divide by the root mean square over the last axes; the twin of ``torch.nn.RMSNorm``.

    Shape:
        x: (*, *normalized_shape); returns the same shape.

    Args:
        normalized_shape: sizes of the last axes, as torch has them.
        eps: added to the mean square; that of the dtype computed in (float32 for half precision)
            unless given.
        channels_last: the normalised axes are a feature map with the channels first in torch and
            last here: (C, H, W) in torch is stored and applied as (H, W, C).

    Raises:
        ValueError: an input that does not end in these axes.

    >>> norm = RMSNorm(4)
    >>> norm.scale.shape, norm(jnp.ones((2, 4))).shape
    ((4,), (2, 4))

    Source: torch.nn.RMSNorm, PyTorch 2.13 documentation; Zhang and Sennrich, 2019.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
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
        self.scale: Any = nnx.data(None)
        if elementwise_affine:
            self.scale = nnx.Param(jnp.ones(self._stored_shape(), param_dtype))

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

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.dtype is not None:
            x = x.astype(self.dtype)
        scale = None if self.scale is None else self.scale[...]
        return F.rms_norm(x, self._stored_shape(), scale, self.eps)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class LocalResponseNorm(Module):
    """Normalise over neighbouring channels of (N, *, C); ``torch.nn.LocalResponseNorm``.

    Args:
        size: how many channels the mean of squares is taken over.

    Raises:
        ValueError: an input of fewer than 3 axes.

    >>> LocalResponseNorm(2)(jnp.ones((2, 5, 6, 3))).shape
    (2, 5, 6, 3)

    Source: torch.nn.LocalResponseNorm, PyTorch 2.13 documentation; Krizhevsky et al., 2012.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    @property
    def axes(self) -> Axes:
        """torch has the channels on axis 1."""
        return Axes(inputs=(Channel(1),), output=Channel(1))

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """Normalise over neighbouring channels as Lua Torch did; ``torch.nn.CrossMapLRN2d``.

    Values and gradients are torch's, which differ from the definition: channel 0 stays in every
    window behind it, and the gradient's window sits one channel too low. Use ``LocalResponseNorm``
    for new models.

    Shape:
        x: (N, H, W, C); returns the same shape.

    Raises:
        ValueError: an input of another rank.

    >>> CrossMapLRN2d(2)(jnp.ones((2, 5, 6, 3))).shape
    (2, 5, 6, 3)

    Source: torch.nn.CrossMapLRN2d, PyTorch 2.13 documentation.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)

    def __call__(self, input: jax.Array) -> jax.Array:
        return cross_map_lrn(input, self.size, self.alpha, self.beta, self.k)
