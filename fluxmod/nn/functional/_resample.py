"""Tables of resampling along one axis: which elements each output reads, and their weights.

Everything here is numpy on static sizes. Index rules follow torch's floating point: they were
swept against it for all sizes below 70 and 90.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["antialias_taps", "cubic_taps", "linear_taps", "nearest_index"]

Taps = tuple[np.ndarray, np.ndarray]


def nearest_index(n: int, out: int, factor: float | None, exact: bool, real: Any) -> np.ndarray:
    """The element that each of ``out`` outputs repeats; ``real`` is the type torch computes in.

    >>> nearest_index(2, 4, None, False, np.float32).tolist()
    [0, 0, 1, 1]
    """
    scale = real(1.0 / factor) if factor else real(n) / real(out)
    i = np.arange(out)
    if exact:
        if factor is None and real is np.float64:
            return np.minimum((2 * i + 1) * n // (2 * out), n - 1)
        # one rounding of the product and the sum, as a fused multiply-add has it
        position = (np.float64(scale) * (i + 0.5) - 0.5).astype(real)
        places = np.floor(position + real(0.5))
    elif factor is None and real is np.float64:
        return np.minimum(i * n // out, n - 1)
    else:
        places = np.floor(i.astype(real) * scale)
    return np.clip(places.astype(np.int64), 0, n - 1)


def linear_taps(n: int, out: int, factor: float | None, align_corners: bool) -> Taps:
    """Two neighbours and their weights.

    >>> linear_taps(2, 3, None, True)[1].tolist()
    [[1.0, 0.5, 1.0], [0.0, 0.5, 0.0]]
    """
    position = np.maximum(_positions(n, out, factor, align_corners), 0.0)
    low = np.minimum(np.floor(position).astype(np.int64), n - 1)
    high = np.minimum(low + 1, n - 1)
    share = np.clip(position - low, 0.0, 1.0)
    return np.stack([low, high]), np.stack([1.0 - share, share])


def cubic_taps(n: int, out: int, factor: float | None, align_corners: bool) -> Taps:
    """Four neighbours, the outermost repeated beyond the edges; the coefficient is -0.75."""
    position = _positions(n, out, factor, align_corners)
    low = np.floor(position)
    share = position - low
    index = np.stack([np.clip(low + k, 0, n - 1) for k in (-1, 0, 1, 2)]).astype(np.int64)
    distance = np.stack([share + 1, share, 1 - share, 2 - share])
    return index, _cubic(distance, -0.75)


def antialias_taps(
    n: int, out: int, factor: float | None, align_corners: bool, cubic: bool
) -> Taps:
    """As many neighbours as the widened window holds; the cubic coefficient is -0.5."""
    scale = _scale(n, out, factor, align_corners)
    half = (2.0 if cubic else 1.0) * max(scale, 1.0)
    centre = scale * (np.arange(out) + 0.5)
    start = np.maximum((centre - half + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + half + 0.5).astype(np.int64), n)
    index = start + np.arange((stop - start).max())[:, None]
    distance = np.abs(index - centre + 0.5) / max(scale, 1.0)
    weight = _cubic(distance, -0.5) if cubic else np.maximum(1.0 - distance, 0.0)
    weight = np.where(index < stop, weight, 0.0)
    return np.minimum(index, n - 1), weight / weight.sum(0)


def _scale(n: int, out: int, factor: float | None, align_corners: bool) -> float:
    if align_corners:
        return (n - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / factor if factor else n / out


def _positions(n: int, out: int, factor: float | None, align_corners: bool) -> np.ndarray:
    scale = _scale(n, out, factor, align_corners)
    i = np.arange(out)
    return scale * i if align_corners else scale * (i + 0.5) - 0.5


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """The cubic convolution kernel (Keys 1981) at distances of at least 0."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
