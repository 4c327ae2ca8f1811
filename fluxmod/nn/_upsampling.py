"""Layers that change the size of maps by resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Module

__all__ = ["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]

Size = int | Sequence[int]
Scale = float | Sequence[float]


def _static(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) else value


class Upsample(Module):
    """Resample the spatial axes of (N, *, C); the twin of ``torch.nn.Upsample``.

    Args:
        size, scale_factor, mode, align_corners, recompute_scale_factor: as in
            ``functional.interpolate``.

    >>> Upsample(scale_factor=2)(jnp.ones((1, 2, 3, 4))).shape
    (1, 4, 6, 4)

    Source: torch.nn.Upsample, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        size: Size | None = None,
        scale_factor: Scale | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size = _static(size)
        if isinstance(scale_factor, Sequence):
            self.scale_factor: Any = tuple(float(f) for f in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    @property
    def axes(self) -> Axes:
        """torch has the channels on axis 1."""
        return Axes(inputs=(Channel(1),), output=Channel(1))

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        by_scale = self.scale_factor is not None
        start = f"scale_factor={self.scale_factor!r}" if by_scale else f"size={self.size!r}"
        return f"{start}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Repeat the nearest pixel; the twin of ``torch.nn.UpsamplingNearest2d``.

    >>> UpsamplingNearest2d(4)(jnp.ones((1, 2, 2, 3))).shape
    (1, 4, 4, 3)

    Source: torch.nn.UpsamplingNearest2d, PyTorch 2.13 documentation.
    """

    def __init__(self, size: Size | None = None, scale_factor: Scale | None = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Interpolate linearly, corners aligned; the twin of ``torch.nn.UpsamplingBilinear2d``.

    >>> UpsamplingBilinear2d(3)(jnp.ones((1, 2, 2, 3))).shape
    (1, 3, 3, 3)

    Source: torch.nn.UpsamplingBilinear2d, PyTorch 2.13 documentation.
    """

    def __init__(self, size: Size | None = None, scale_factor: Scale | None = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)
