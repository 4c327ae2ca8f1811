"""Softmax layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod._errors import LayoutError
from fluxmod.nn import functional as F

from ._activation import Elementwise
from ._axes import Axes, Channel
from ._module import Module

__all__ = ["LogSoftmax", "Softmax", "Softmax2d", "Softmin"]


class _AlongAxis(Elementwise):
    """Shared by the layers that normalise along one axis; they keep the order of axes they get."""

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """Normalise ``exp(x)`` to sum 1 along an axis; the twin of ``torch.nn.Softmax``.

    Args:
        dim: the axis, counted in the array given: the channels of a feature map are on axis 1 in
            torch and on axis -1 here. Without it the call raises: torch's deprecated guess depends
            on the rank and is not made here.

    Raises:
        IndexError: no such axis.
        ValueError: ``dim`` is None, when called.

    >>> Softmax(dim=1)(jnp.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]

    Source: torch.nn.Softmax, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.softmax(input, self.dim)


class LogSoftmax(_AlongAxis):
    """Compute ``log(softmax(x))`` without underflow; the twin of ``torch.nn.LogSoftmax``.

    Arguments and errors as in ``Softmax``.

    >>> LogSoftmax(dim=1)(jnp.array([[0.0, -1000.0]])).tolist()
    [[0.0, -1000.0]]

    Source: torch.nn.LogSoftmax, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.log_softmax(input, self.dim)


class Softmin(_AlongAxis):
    """Compute ``softmax(-x)``; the twin of ``torch.nn.Softmin``.

    Arguments and errors as in ``Softmax``.

    >>> Softmin(dim=1)(jnp.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]

    Source: torch.nn.Softmin, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.softmin(input, self.dim)


class Softmax2d(Module):
    """Softmax over the channels of each pixel; the twin of ``torch.nn.Softmax2d``.

    Shape:
        x: (N, H, W, C) or (H, W, C); returns the same shape.

    Raises:
        LayoutError: another rank.

    >>> Softmax2d()(jnp.zeros((2, 5, 4, 2)))[0, 0, 0].tolist()
    [0.5, 0.5]

    Source: torch.nn.Softmax2d, PyTorch 2.13 documentation.
    """

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes."""
        return Axes(inputs=(Channel(-3),), output=Channel(-3))

    def __call__(self, input: jax.Array) -> jax.Array:
        if input.ndim not in (3, 4):
            raise LayoutError(
                f"Softmax2d: expected 4 axes (batch, 2 spatial, channels) or 3 without the batch, "
                f"got shape {tuple(input.shape)}."
            )
        return F.softmax(input, -1)
