"""Flatten and Unflatten, in torch's order of elements."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Module

__all__ = ["Flatten", "Unflatten"]


class Flatten(Module):
    """Flatten a range of axes; the twin of ``torch.nn.Flatten``.

    A channels-last map is flattened in torch's (C, H, W) order, so that the weights of a following
    Linear are the same in both frameworks.

    Args:
        start_dim: first axis to flatten, counted in the array given.
        end_dim: last axis to flatten.
        channels_last: the array is a feature map whose channels torch has on axis 1. ``None``
            takes arrays of rank 4 and 5 as such. Say True after a Conv1d, False for (N, T, H, W)
            data that has no channels.

    >>> x = jnp.arange(12.0).reshape(1, 2, 3, 2)          # (N, H, W, C)
    >>> Flatten()(x)[0, :6].tolist()                      # all of channel 0 first
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    >>> Flatten()(jnp.ones((3, 28, 28))).shape
    (3, 784)

    Source: torch.nn.Flatten, PyTorch 2.13 documentation.
    """

    def __init__(
        self, start_dim: int = 1, end_dim: int = -1, *, channels_last: bool | None = None
    ) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim
        self.channels_last = channels_last

    @property
    def axes(self) -> Axes:
        """The input's channels are on axis 1 in torch, unless it is not a feature map.

        A flatten over spatial axes alone, ``Flatten(1, 2)`` or ``Flatten(1, -2)``, keeps them.
        """
        if self.channels_last is False:
            return Axes()
        channel = Channel(1, min_rank=2 if self.channels_last else 4)
        only_space = self.start_dim >= 1 and (
            self.end_dim < -1 or (self.channels_last is None and 0 < self.end_dim < 3)
        )
        # the rank that a map of the least rank keeps: what is no map and comes out with it is none
        left = 4 - (self.end_dim - self.start_dim) if self.end_dim > 0 else 3
        return Axes(inputs=(channel,), output=Channel(1, min_rank=left) if only_space else None)

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.flatten(input, self.start_dim, self.end_dim, channels_last=self.channels_last)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split one axis into several; the twin of ``torch.nn.Unflatten``.

    Args:
        dim: the axis, counted in the array given.
        unflattened_size: the new sizes, as torch has them; one may be -1.
        channels_last: the new axes are a feature map, (C, H, W) in torch: the channels move to the
            end. ``None`` does so when the result has rank 4 or 5 and ``dim`` is 1.

    Raises:
        TypeError: sizes that are not a sequence of ints; named dimensions are not supported.

    >>> Unflatten(1, (2, 3, 4))(jnp.ones((5, 24))).shape
    (5, 3, 4, 2)

    Source: torch.nn.Unflatten, PyTorch 2.13 documentation.
    """

    def __init__(
        self, dim: int, unflattened_size: Sequence[int], *, channels_last: bool | None = None
    ) -> None:
        sizes = tuple(unflattened_size) if isinstance(unflattened_size, Sequence) else None
        if not isinstance(dim, int) or sizes is None or not all(isinstance(n, int) for n in sizes):
            raise TypeError(
                "Unflatten: expected an int and a tuple of ints, got "
                f"dim={dim!r}, unflattened_size={unflattened_size!r}."
            )
        self.dim = dim
        self.unflattened_size = sizes
        self.channels_last = channels_last

    @property
    def axes(self) -> Axes:
        """The output's channels are on axis 1 in torch, if it is a feature map."""
        made = len(self.unflattened_size)
        from_axis_1 = self.dim == 1 or (self.dim == -1 and made > 2)
        if not (from_axis_1 if self.channels_last is None else self.channels_last):
            return Axes()
        return Axes(output=Channel(1, min_rank=2 if self.channels_last else 4))

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.unflatten(input, self.dim, self.unflattened_size, channels_last=self.channels_last)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
