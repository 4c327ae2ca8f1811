"""Resampling: every mode of torch's, each axis by itself from tables made when traced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxmod._errors import LayoutError

from ._adaptive_pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from ._half import compute_dtype
from ._resample import antialias_taps, cubic_taps, linear_taps, nearest_index

__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]

_RANKS = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}
_ALIGNABLE = ("linear", "bilinear", "bicubic", "trilinear")
Scale = float | Sequence[float]


def interpolate(
    input: jax.Array,
    size: int | Sequence[int] | None = None,
    scale_factor: Scale | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> jax.Array:
    """Resize the spatial axes of a map; the twin of ``torch.nn.functional.interpolate``.

    Shape:
        input: (N, L, C), (N, H, W, C) or (N, D, H, W, C); returns it with the new sizes.

    Args:
        size: the new sizes.
        scale_factor: or factors; sizes are rounded down, and the factor given is the one used
            unless ``recompute_scale_factor``.
        mode: 'nearest', 'nearest-exact', 'linear', 'bilinear', 'bicubic', 'trilinear' or 'area'.
        align_corners: the first and last samples of both grids coincide.
        antialias: widen the window when shrinking; 'bilinear' and 'bicubic'.

    Raises:
        LayoutError: an array that is no batch of maps.
        ValueError: both or neither of ``size`` and ``scale_factor``, or what a mode does not take.
        NotImplementedError: a mode that does not fit the rank.

    >>> interpolate(jnp.array([[[1.0], [2.0]]]), scale_factor=2)[0, :, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    >>> interpolate(jnp.ones((1, 4, 6, 3)), (8, 3), mode="bilinear").shape
    (1, 8, 3, 3)

    Source: torch.nn.functional.interpolate, PyTorch 2.13 documentation.
    """
    nd = input.ndim - 2
    _check(input, mode, align_corners, antialias)
    sizes, factors = _sizes(input, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[nd - 1](input, sizes)
    if mode.startswith("nearest"):
        real = np.float64 if input.dtype == np.float64 else np.float32
        for axis, (o, f) in enumerate(zip(sizes, factors, strict=True), 1):
            index = nearest_index(input.shape[axis], o, f, mode == "nearest-exact", real)
            input = jnp.take(input, jnp.asarray(index), axis=axis)
        return input
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise TypeError(
            f"interpolate: mode={mode!r} needs a floating point input, got {input.dtype}. "
            "Convert it first: x.astype(jnp.float32)."
        )
    x = input.astype(compute_dtype(input.dtype))
    for axis, (o, f) in enumerate(zip(sizes, factors, strict=True), 1):
        n = x.shape[axis]
        if antialias:
            taps = antialias_taps(n, o, f, bool(align_corners), cubic=mode == "bicubic")
        else:
            taps = (cubic_taps if mode == "bicubic" else linear_taps)(n, o, f, bool(align_corners))
        x = _weighted(x, axis, *taps)
    return x.astype(input.dtype)


def upsample(
    input: jax.Array,
    size: int | Sequence[int] | None = None,
    scale_factor: Scale | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> jax.Array:
    """Resize; torch's older name of ``interpolate``.

    >>> upsample(jnp.ones((1, 2, 2, 1)), scale_factor=3).shape
    (1, 6, 6, 1)

    Source: torch.nn.functional.upsample, PyTorch 2.13 documentation.
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: jax.Array, size: int | Sequence[int] | None = None, scale_factor: Scale | None = None
) -> jax.Array:
    """Resize by repetition; torch's older name of ``interpolate(mode="nearest")``.

    >>> upsample_nearest(jnp.ones((1, 2, 2, 1)), (4, 2)).shape
    (1, 4, 2, 1)

    Source: torch.nn.functional.upsample_nearest, PyTorch 2.13 documentation.
    """
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(
    input: jax.Array, size: int | Sequence[int] | None = None, scale_factor: Scale | None = None
) -> jax.Array:
    """Resize images linearly, corners aligned; torch's older name of ``interpolate``.

    >>> upsample_bilinear(jnp.ones((1, 2, 2, 1)), (3, 3)).shape
    (1, 3, 3, 1)

    Source: torch.nn.functional.upsample_bilinear, PyTorch 2.13 documentation.
    """
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


def _weighted(x: jax.Array, axis: int, index: np.ndarray, weight: np.ndarray) -> jax.Array:
    """Sum over taps of the elements at ``index[t]`` times ``weight[t]``."""
    shape = (-1,) + (1,) * (x.ndim - axis - 1)
    total: Any = 0
    for places, factors in zip(index, weight, strict=True):
        picked = jnp.take(x, jnp.asarray(places), axis=axis)
        column = jnp.asarray(factors.reshape(shape), x.dtype)
        total = total + picked * jnp.broadcast_to(column, picked.shape)
    return total


def _check(input: jax.Array, mode: str, align_corners: bool | None, antialias: bool) -> None:
    nd = input.ndim - 2
    if nd not in (1, 2, 3):
        raise LayoutError(
            "interpolate: expected a batch of maps (N, *, C) with one to three spatial axes, got "
            f"shape {tuple(input.shape)}."
        )
    if mode not in _RANKS or nd not in _RANKS[mode]:
        fitting = [name for name, ranks in _RANKS.items() if nd in ranks]
        raise NotImplementedError(
            f"interpolate: mode={mode!r} does not fit {nd} spatial axes (shape "
            f"{tuple(input.shape)}); one of {fitting} does."
        )
    if align_corners is not None and mode not in _ALIGNABLE:
        raise ValueError(f"interpolate: align_corners has no meaning for mode={mode!r}.")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolate: antialias needs 'bilinear' or 'bicubic', got {mode!r}.")


def _sizes(
    input: jax.Array,
    size: int | Sequence[int] | None,
    scale_factor: Scale | None,
    recompute: bool | None,
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The output's sizes, and the factors to use where they are not the ratio of sizes."""
    nd, space = input.ndim - 2, input.shape[1:-1]
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"interpolate: give either size or scale_factor, got size={size} and "
            f"scale_factor={scale_factor}."
        )
    if size is not None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor needs scale_factor, got size.")
        sizes = _spread(size, nd, "size")
        factors: tuple[float | None, ...] = (None,) * nd
    else:
        given = _spread(scale_factor, nd, "scale_factor")
        sizes = tuple(math.floor(n * f) for n, f in zip(space, given, strict=True))
        factors = (None,) * nd if recompute else tuple(given)
    if min(*sizes, *space) < 1:
        raise ValueError(f"interpolate: sizes must be positive, got {space} to {sizes}.")
    return tuple(int(n) for n in sizes), factors


def _spread(value: Any, nd: int, name: str) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * nd
    if len(values) != nd:
        raise ValueError(f"interpolate: expected {nd} numbers for {name}, got {value}.")
    return values
