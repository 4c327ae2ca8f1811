"""Padding layers over the spatial axes of channels-last maps."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod._errors import LayoutError
from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]

Padding = int | Sequence[int]


class _Pad(Module):
    """Shared by all paddings; ``_spatial`` is the number of spatial axes."""

    _spatial: int
    _mode: str

    def __init__(self, padding: Padding) -> None:
        count = 2 * self._spatial
        pads = (padding,) * count if isinstance(padding, int) else tuple(padding)
        if len(pads) != count:
            raise ValueError(
                f"{type(self).__name__}: expected one padding or {count} of them, (low, high) of "
                f"the last spatial axis first, got {padding!r}."
            )
        self.padding = tuple(int(n) for n in pads)

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes."""
        channel = Channel(-self._spatial - 1)
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array) -> jax.Array:
        if not self._takes(input.ndim):
            raise LayoutError(
                f"{type(self).__name__}: expected {self._spatial + 2} axes with the channels last, "
                f"or {self._spatial + 1} without the batch, got shape {tuple(input.shape)}."
            )
        # an array of the spatial axes alone has no channels
        maps = input.ndim > self._spatial
        return F.pad(input, self.padding, self._mode, self._fill, channels_last=maps)

    def _takes(self, rank: int) -> bool:
        return rank in (self._spatial + 1, self._spatial + 2)

    @property
    def _fill(self) -> float | None:
        return None

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    """Shared by the constant paddings."""

    _mode = "constant"

    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__(padding)
        self.value = value

    @property
    def _fill(self) -> float | None:
        return self.value

    def _takes(self, rank: int) -> bool:
        return rank >= self._spatial

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_ConstantPad):
    """Shared by the paddings with zeros."""

    def __init__(self, padding: Padding) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"{self.padding}"


class _ReflectionPad(_Pad):
    """Shared by the reflections."""

    _mode = "reflect"


class _ReplicationPad(_Pad):
    """Shared by the repetitions of the border."""

    _mode = "replicate"


class _CircularPad(_Pad):
    """Shared by the paddings that wrap around."""

    _mode = "circular"


class CircularPad1d(_CircularPad):
    """Continue with the other end of (N, L, C); the twin of ``torch.nn.CircularPad1d``.

    Args:
        padding: one number for all sides, or (low, high) of L; negative numbers crop.

    >>> CircularPad1d(1)(jnp.ones((1, 4, 2))).shape
    (1, 6, 2)

    Source: torch.nn.CircularPad1d, PyTorch 2.13 documentation.
    """

    _spatial = 1


class CircularPad2d(_CircularPad):
    """Continue with the other end of (N, H, W, C); the twin of ``torch.nn.CircularPad2d``.

    Args:
        padding: one number for all sides, or (low, high) of W, then of H; negative numbers crop.

    >>> CircularPad2d(1)(jnp.ones((1, 4, 3, 2))).shape
    (1, 6, 5, 2)

    Source: torch.nn.CircularPad2d, PyTorch 2.13 documentation.
    """

    _spatial = 2


class CircularPad3d(_CircularPad):
    """Continue with the other end of (N, D, H, W, C); the twin of ``torch.nn.CircularPad3d``.

    Args:
        padding: one number for all sides, or (low, high) of W, of H, of D; negative numbers crop.

    >>> CircularPad3d(1)(jnp.ones((1, 4, 3, 2, 5))).shape
    (1, 6, 5, 4, 5)

    Source: torch.nn.CircularPad3d, PyTorch 2.13 documentation.
    """

    _spatial = 3


class ConstantPad1d(_ConstantPad):
    """Surround with one value of (N, L, C); the twin of ``torch.nn.ConstantPad1d``.

    Args:
        padding: one number for all sides, or (low, high) of L; negative numbers crop.

    >>> ConstantPad1d(1, 0.5)(jnp.ones((1, 4, 2))).shape
    (1, 6, 2)

    Source: torch.nn.ConstantPad1d, PyTorch 2.13 documentation.
    """

    _spatial = 1


class ConstantPad2d(_ConstantPad):
    """Surround with one value of (N, H, W, C); the twin of ``torch.nn.ConstantPad2d``.

    Args:
        padding: one number for all sides, or (low, high) of W, then of H; negative numbers crop.

    >>> ConstantPad2d(1, 0.5)(jnp.ones((1, 4, 3, 2))).shape
    (1, 6, 5, 2)

    Source: torch.nn.ConstantPad2d, PyTorch 2.13 documentation.
    """

    _spatial = 2


class ConstantPad3d(_ConstantPad):
    """Surround with one value of (N, D, H, W, C); the twin of ``torch.nn.ConstantPad3d``.

    Args:
        padding: one number for all sides, or (low, high) of W, of H, of D; negative numbers crop.

    >>> ConstantPad3d(1, 0.5)(jnp.ones((1, 4, 3, 2, 5))).shape
    (1, 6, 5, 4, 5)

    Source: torch.nn.ConstantPad3d, PyTorch 2.13 documentation.
    """

    _spatial = 3


class ReflectionPad1d(_ReflectionPad):
    """Mirror, the border not repeated, (N, L, C); the twin of ``torch.nn.ReflectionPad1d``.

    Args:
        padding: one number for all sides, or (low, high) of L; negative numbers crop.

    >>> ReflectionPad1d(1)(jnp.ones((1, 4, 2))).shape
    (1, 6, 2)

    Source: torch.nn.ReflectionPad1d, PyTorch 2.13 documentation.
    """

    _spatial = 1


class ReflectionPad2d(_ReflectionPad):
    """Mirror, the border not repeated, (N, H, W, C); the twin of ``torch.nn.ReflectionPad2d``.

    Args:
        padding: one number for all sides, or (low, high) of W, then of H; negative numbers crop.

    >>> ReflectionPad2d(1)(jnp.ones((1, 4, 3, 2))).shape
    (1, 6, 5, 2)

    Source: torch.nn.ReflectionPad2d, PyTorch 2.13 documentation.
    """

    _spatial = 2


class ReflectionPad3d(_ReflectionPad):
    """Mirror, the border not repeated, (N, D, H, W, C); the twin of ``torch.nn.ReflectionPad3d``.

    Args:
        padding: one number for all sides, or (low, high) of W, of H, of D; negative numbers crop.

    >>> ReflectionPad3d(1)(jnp.ones((1, 4, 3, 2, 5))).shape
    (1, 6, 5, 4, 5)

    Source: torch.nn.ReflectionPad3d, PyTorch 2.13 documentation.
    """

    _spatial = 3


class ReplicationPad1d(_ReplicationPad):
    """Repeat the border of (N, L, C); the twin of ``torch.nn.ReplicationPad1d``.

    Args:
        padding: one number for all sides, or (low, high) of L; negative numbers crop.

    >>> ReplicationPad1d(1)(jnp.ones((1, 4, 2))).shape
    (1, 6, 2)

    Source: torch.nn.ReplicationPad1d, PyTorch 2.13 documentation.
    """

    _spatial = 1


class ReplicationPad2d(_ReplicationPad):
    """Repeat the border of (N, H, W, C); the twin of ``torch.nn.ReplicationPad2d``.

    Args:
        padding: one number for all sides, or (low, high) of W, then of H; negative numbers crop.

    >>> ReplicationPad2d(1)(jnp.ones((1, 4, 3, 2))).shape
    (1, 6, 5, 2)

    Source: torch.nn.ReplicationPad2d, PyTorch 2.13 documentation.
    """

    _spatial = 2


class ReplicationPad3d(_ReplicationPad):
    """Repeat the border of (N, D, H, W, C); the twin of ``torch.nn.ReplicationPad3d``.

    Args:
        padding: one number for all sides, or (low, high) of W, of H, of D; negative numbers crop.

    >>> ReplicationPad3d(1)(jnp.ones((1, 4, 3, 2, 5))).shape
    (1, 6, 5, 4, 5)

    Source: torch.nn.ReplicationPad3d, PyTorch 2.13 documentation.
    """

    _spatial = 3


class ZeroPad1d(_ZeroPad):
    """Surround with zeros of (N, L, C); the twin of ``torch.nn.ZeroPad1d``.

    Args:
        padding: one number for all sides, or (low, high) of L; negative numbers crop.

    >>> ZeroPad1d(1)(jnp.ones((1, 4, 2))).shape
    (1, 6, 2)

    Source: torch.nn.ZeroPad1d, PyTorch 2.13 documentation.
    """

    _spatial = 1


class ZeroPad2d(_ZeroPad):
    """Surround with zeros of (N, H, W, C); the twin of ``torch.nn.ZeroPad2d``.

    Args:
        padding: one number for all sides, or (low, high) of W, then of H; negative numbers crop.

    >>> ZeroPad2d(1)(jnp.ones((1, 4, 3, 2))).shape
    (1, 6, 5, 2)

    Source: torch.nn.ZeroPad2d, PyTorch 2.13 documentation.
    """

    _spatial = 2


class ZeroPad3d(_ZeroPad):
    """Surround with zeros of (N, D, H, W, C); the twin of ``torch.nn.ZeroPad3d``.

    Args:
        padding: one number for all sides, or (low, high) of W, of H, of D; negative numbers crop.

    >>> ZeroPad3d(1)(jnp.ones((1, 4, 3, 2, 5))).shape
    (1, 6, 5, 4, 5)

    Source: torch.nn.ZeroPad3d, PyTorch 2.13 documentation.
    """

    _spatial = 3
