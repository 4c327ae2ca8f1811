"""Sampling maps at positions that are computed: affine grids and grid sampling."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxmod._errors import LayoutError

from ._half import compute_dtype

__all__ = ["affine_grid", "grid_sample"]

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def affine_grid(
    theta: jax.Array, size: Sequence[int], align_corners: bool | None = None
) -> jax.Array:
    """Transform a regular grid; the twin of ``torch.nn.functional.affine_grid``.

    Shape:
        theta: (N, 2, 3) or (N, 3, 4); returns (N, H, W, 2) or (N, D, H, W, 3), x before y.

    Args:
        size: of the map to sample, (N, H, W, C) or (N, D, H, W, C).

    Raises:
        TypeError: ``theta`` that is not of floats.
        ValueError: shapes that do not fit, or sizes that are not positive.

    >>> affine_grid(jnp.eye(2, 3)[None], (1, 1, 2, 4), align_corners=True).tolist()
    [[[[-1.0, 0.0], [1.0, 0.0]]]]

    Source: torch.nn.functional.affine_grid, PyTorch 2.13 documentation.
    """
    if not jnp.issubdtype(theta.dtype, jnp.floating):
        raise TypeError(f"affine_grid: expected a floating point theta, got {theta.dtype}.")
    nd = len(size) - 2
    if nd not in (2, 3) or theta.ndim != 3 or theta.shape[1:] != (nd, nd + 1):
        raise ValueError(
            "affine_grid: expected theta (N, 2, 3) with size (N, H, W, C), or (N, 3, 4) with "
            f"(N, D, H, W, C), got shape {tuple(theta.shape)} and size {tuple(size)}."
        )
    if min(size) <= 0:
        raise ValueError(f"affine_grid: sizes must be positive, got {tuple(size)}.")
    lines = [_line(n, bool(align_corners)) for n in size[1:-1]]
    base = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(size[1:-1])], axis=-1)
    grid = jnp.asarray(base.reshape(-1, nd + 1), theta.dtype)
    out = jnp.einsum("pk,ndk->npd", grid, theta)
    return out.reshape(theta.shape[0], *size[1:-1], nd)


def _line(n: int, align_corners: bool) -> np.ndarray:
    line = np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(n)
    return line if align_corners else line * (n - 1) / n


def grid_sample(
    input: jax.Array,
    grid: jax.Array,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> jax.Array:
    """Read a map at the positions of a grid; the twin of ``torch.nn.functional.grid_sample``.

    Shape:
        input: (N, H, W, C) or (N, D, H, W, C); grid: (N, *out, 2) or (N, *out, 3), x before y,
        -1 and 1 at the borders; returns (N, *out, C).

    Args:
        mode: 'bilinear' (of three axes: trilinear), 'nearest' or 'bicubic' (two axes).
        padding_mode: what lies outside: 'zeros', the 'border', or a 'reflection'.
        align_corners: -1 and 1 are the centres of the outermost pixels instead of their edges.

    Raises:
        LayoutError: shapes that do not fit.
        TypeError: input and grid of different dtypes.
        ValueError: an unknown mode; an empty map.

    >>> image = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> grid_sample(image, jnp.zeros((1, 1, 1, 2)), align_corners=False).item()
    1.5

    Source: torch.nn.functional.grid_sample, PyTorch 2.13 documentation.
    """
    nd = input.ndim - 2
    _check(input, grid, mode, padding_mode)
    wide = compute_dtype(input.dtype)
    x, where = input.astype(wide), grid.astype(wide)
    aligned = bool(align_corners)
    sizes = input.shape[1:-1]
    # the grid names the last axis first
    places = [_unnormalised(where[..., nd - 1 - axis], n, aligned) for axis, n in enumerate(sizes)]

    def bounded(place: jax.Array, n: int) -> jax.Array:
        return _bounded(place, n, padding_mode, aligned)

    if mode == "nearest":
        nearest = [jnp.round(bounded(p, n)) for p, n in zip(places, sizes, strict=True)]
        return _read(x, nearest).astype(input.dtype)
    if mode == "bilinear":
        inside = [bounded(p, n) for p, n in zip(places, sizes, strict=True)]
        return _combined(x, inside, (0, 1), _linear, lambda p, n: p).astype(input.dtype)
    return _combined(x, places, (-1, 0, 1, 2), _cubic, bounded).astype(input.dtype)


def _combined(
    x: jax.Array,
    places: list[jax.Array],
    offsets: tuple[int, ...],
    weights: Callable[[jax.Array], list[jax.Array]],
    bound: Callable[[jax.Array, int], jax.Array],
) -> jax.Array:
    """Weighted sum over the neighbours at every offset along every axis."""
    lows = [jax.lax.stop_gradient(jnp.floor(p)) for p in places]
    shares = [weights(p - low) for p, low in zip(places, lows, strict=True)]
    total: Any = 0
    for corner in itertools.product(range(len(offsets)), repeat=len(places)):
        at = [
            bound(low + offsets[k], n)
            for low, k, n in zip(lows, corner, x.shape[1:-1], strict=True)
        ]
        weight: Any = 1
        for share, k in zip(shares, corner, strict=True):
            weight = weight * share[k]
        total = total + _read(x, at) * weight[..., None]
    return total


def _linear(share: jax.Array) -> list[jax.Array]:
    return [1 - share, share]


def _cubic(share: jax.Array) -> list[jax.Array]:
    """Keys' kernel with -0.75 at distances share + 1, share, 1 - share and 2 - share."""
    a = -0.75

    def near(d: jax.Array) -> jax.Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: jax.Array) -> jax.Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(share + 1), near(share), near(1 - share), far(2 - share)]


def _read(x: jax.Array, at: list[jax.Array]) -> jax.Array:
    """Elements at whole positions; zero outside the map."""
    sizes = x.shape[1:-1]
    inside: Any = True
    index = []
    for place, n in zip(at, sizes, strict=True):
        inside = inside & (place >= 0) & (place <= n - 1)
        index.append(jnp.clip(jnp.nan_to_num(place), 0, n - 1).astype(jnp.int32))
    batch = jnp.arange(x.shape[0]).reshape(-1, *(1,) * (index[0].ndim - 1))
    picked = x[(jnp.broadcast_to(batch, index[0].shape), *index)]
    return jnp.where(inside[..., None], picked, 0)


def _unnormalised(place: jax.Array, n: int, align_corners: bool) -> jax.Array:
    """-1 ... 1 to pixels."""
    return (place + 1) / 2 * (n - 1) if align_corners else ((place + 1) * n - 1) / 2


def _bounded(place: jax.Array, n: int, mode: str, align_corners: bool) -> jax.Array:
    """Bring a position into the map; its gradient is 0 where it is held at the border."""
    if mode == "reflection":
        low, high = (0.0, n - 1.0) if align_corners else (-0.5, n - 0.5)
        place = _reflected(place, low, high)
    if mode == "zeros":
        return place
    return jnp.where(place <= 0, 0, jnp.where(place >= n - 1, n - 1, place))


def _reflected(place: jax.Array, low: float, high: float) -> jax.Array:
    """Fold a position back and forth between two borders."""
    span = high - low
    if span <= 0:
        return jnp.zeros_like(place)
    offset = place - low
    offset = jnp.where(offset < 0, -offset, offset)
    flips = jax.lax.stop_gradient(jnp.floor(offset / span))
    extra = offset - flips * span
    return jnp.where(flips % 2 == 0, extra + low, span - extra + low)


def _check(input: jax.Array, grid: jax.Array, mode: str, padding_mode: str) -> None:
    nd = input.ndim - 2
    if nd not in (2, 3) or grid.ndim != input.ndim or grid.shape[-1] != nd:
        raise LayoutError(
            "grid_sample: expected an input (N, H, W, C) with a grid (N, H', W', 2), or with one "
            f"more axis and 3, got shapes {tuple(input.shape)} and {tuple(grid.shape)}."
        )
    if input.shape[0] != grid.shape[0]:
        raise LayoutError(
            f"grid_sample: input and grid are batches of {input.shape[0]} and {grid.shape[0]}."
        )
    if input.dtype != grid.dtype:
        raise TypeError(f"grid_sample: input is {input.dtype} and grid is {grid.dtype}.")
    problems = []
    if mode not in _MODES:
        problems.append(f"mode must be one of {_MODES}, got {mode!r}")
    if mode == "bicubic" and nd != 2:
        problems.append("mode='bicubic' needs two spatial axes")
    if padding_mode not in _PADDINGS:
        problems.append(f"padding_mode must be one of {_PADDINGS}, got {padding_mode!r}")
    if 0 in input.shape[1:-1]:
        problems.append(f"the map must not be empty, got shape {tuple(input.shape)}")
    if problems:
        raise ValueError(f"grid_sample: {'; '.join(problems)}.")
