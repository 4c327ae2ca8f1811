"""Maximum and sum over windows, one axis after the other.

Every window is a run of equally spaced places along an axis. The axes are taken one by one, so a
window of k x k costs 2k combinations and not k * k, and its gradient is a sum of shifted slices:
XLA's own gradient of a windowed maximum is several times slower, does not know dilations, and gives
a window's share to its padding where everything in it is -inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["Windows", "window_max", "window_sum"]

UNROLLED = 8
"""Windows up to this length are combined place by place, longer ones by doubling."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The places ``start, start + dilation, ...`` of each output along one axis.

    Args:
        start: first place of every window; may lie in the padding.
        length: places per window; they differ by one at most.
    """

    start: tuple[int, ...]
    length: tuple[int, ...]
    dilation: int = 1

    @classmethod
    def strided(cls, count: int, size: int, stride: int, padding: int, dilation: int) -> Windows:
        """``count`` windows of equal size."""
        start = tuple(i * stride - padding for i in range(count))
        return cls(start, (size,) * count, dilation)

    @classmethod
    def adaptive(cls, size: int, count: int) -> Windows:
        """``count`` windows over a whole axis: floor(i n / o) to ceil((i + 1) n / o)."""
        start = [i * size // count for i in range(count)]
        end = [-(-(i + 1) * size // count) for i in range(count)]
        return cls(tuple(start), tuple(e - s for s, e in zip(start, end, strict=True)))

    def within(self, size: int) -> Windows:
        """The same without padding where that is simple: one window, cut to the axis."""
        if len(self.start) != 1 or self.dilation != 1:
            return self
        first, end = max(self.start[0], 0), min(self.start[0] + self.length[0], size)
        return Windows((first,), (end - first,)) if end > first else self

    def padding(self, size: int) -> tuple[int, int]:
        """How far the windows reach beyond an axis of that size, on either side."""
        if not self.start:
            return 0, 0
        last = max(
            s + (n - 1) * self.dilation for s, n in zip(self.start, self.length, strict=True)
        )
        return max(-min(self.start), 0), max(last - size + 1, 0)


@dataclass(frozen=True, slots=True)
class _Part:
    """Partial results along one axis, and which of them have met a place inside the input."""

    arrays: tuple[jax.Array, ...]
    real: np.ndarray
    axis: int

    def at(self, places: np.ndarray) -> _Part:
        """Pick places along the axis."""
        arrays = tuple(_pick(a, self.axis, places) for a in self.arrays)
        return _Part(arrays, self.real[places], self.axis)


def window_sum(x: jax.Array, windows: Sequence[Windows], axes: Sequence[int]) -> jax.Array:
    """Sum over the windows of each axis; padding counts as zero.

    >>> window_sum(jnp.arange(5.0), [Windows.strided(2, 3, 2, 0, 1)], [0]).tolist()
    [3.0, 9.0]
    """
    for w, axis in zip(windows, axes, strict=True):
        w = w.within(x.shape[axis])
        part = _over(_padded((x,), (0,), axis, w), w, _add)
        (x,) = part.arrays
    return x


def window_max(
    x: jax.Array, windows: Sequence[Windows], axes: Sequence[int], *, places: bool = True
) -> tuple[jax.Array, ...]:
    """Maximum over the windows and, with ``places``, its flat place in the unpadded axes.

    As in torch the first of equal values is chosen, the last NaN before any number, and padding
    never: the chosen element gets the gradient.

    >>> best, place = window_max(jnp.array([1.0, 3.0, 3.0]), [Windows((0,), (3,))], [0])
    >>> best.tolist(), place.tolist()
    ([3.0], [1])
    """
    axes = [axis % x.ndim for axis in axes]
    sizes = [x.shape[axis] for axis in axes]
    arrays: tuple[jax.Array, ...] = (x, jnp.zeros(x.shape, int)) if places else (x,)
    for i in reversed(range(len(axes))):  # the innermost first: earlier rows win among equals
        if places:
            step = lax.broadcasted_iota(int, arrays[1].shape, axes[i]) * math.prod(sizes[i + 1 :])
            arrays = (arrays[0], arrays[1] + step)
        w = windows[i].within(sizes[i])
        arrays = _over(_padded(arrays, (_lowest(x.dtype), 0), axes[i], w), w, _larger).arrays
    return arrays


def _lowest(dtype: Any) -> Any:
    return -np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min


def _padded(arrays: Sequence[jax.Array], fill: Sequence[Any], axis: int, w: Windows) -> _Part:
    """Extend an axis so that every place of every window exists."""
    size = arrays[0].shape[axis]
    low, high = w.padding(size)
    config = [(0, 0, 0)] * arrays[0].ndim
    config[axis] = (low, high, 0)
    real = np.pad(np.ones(size, bool), (low, high))
    if low or high:
        pairs = zip(arrays, fill, strict=False)
        arrays = [lax.pad(a, jnp.asarray(value, a.dtype), config) for a, value in pairs]
    return _Part(tuple(arrays), real, axis)


def _over(part: _Part, w: Windows, combine: Callable[[_Part, _Part], _Part]) -> _Part:
    """Combine the places of every window from left to right."""
    start = np.asarray(w.start, int)
    if not w.start:
        return part.at(start)
    start = start + max(-int(start.min()), 0)
    common = min(w.length)
    total = _common(part, start, common, w.dilation, combine)
    longer = np.asarray(w.length) > common
    if longer.any():
        place = np.where(longer, start + common * w.dilation, start)
        total = _where(longer, combine(total, part.at(place)), total)
    return total


def _common(
    part: _Part, start: np.ndarray, length: int, dilation: int, combine: Callable[..., _Part]
) -> _Part:
    """Combine ``length`` places from every start on."""
    total: _Part | None = None
    done = span = 0
    for offset in range(length if length <= UNROLLED else 0):
        here = part.at(start + offset * dilation)
        total = here if total is None else combine(total, here)
    if total is not None:
        return total
    span = 1  # part holds the results of windows of this length from every place on
    while done < length:
        if length & span:
            here = part.at(start + done * dilation)
            total = here if total is None else combine(total, here)
            done += span
        shift = span * dilation
        count = part.real.size - shift
        if done < length:
            near, far = np.arange(count), np.arange(count) + shift
            part = combine(part.at(near), part.at(far))
            span *= 2
    assert total is not None  # noqa: S101 - length is at least 1
    return total


def _pick(x: jax.Array, axis: int, places: np.ndarray) -> jax.Array:
    """Take places along an axis; equally spaced ones as a slice, whose gradient is a padding."""
    if places.size == 0:
        return lax.slice_in_dim(x, 0, 0, axis=axis)
    steps = np.diff(places)
    step = int(steps[0]) if steps.size else 1
    if step > 0 and (steps == step).all():
        return lax.slice_in_dim(x, int(places[0]), int(places[-1]) + 1, step, axis)
    return jnp.take(x, places, axis=axis, mode="clip")


def _along(mask: np.ndarray, part: _Part) -> jax.Array:
    shape = [1] * part.arrays[0].ndim
    shape[part.axis] = mask.size
    return jnp.broadcast_to(jnp.asarray(mask).reshape(shape), part.arrays[0].shape)


def _where(mask: np.ndarray, yes: _Part, no: _Part) -> _Part:
    chosen = _along(mask, no)
    pairs = zip(yes.arrays, no.arrays, strict=True)
    arrays = tuple(jnp.where(chosen, y, n) for y, n in pairs)
    return _Part(arrays, np.where(mask, yes.real, no.real), no.axis)


def _add(a: _Part, b: _Part) -> _Part:
    return _Part((a.arrays[0] + b.arrays[0],), a.real | b.real, a.axis)


def _larger(a: _Part, b: _Part) -> _Part:
    """The larger of two, the left one of equals, the right one if it is NaN; never padding."""
    left, right = a.arrays[0], b.arrays[0]
    better = (right > left) | (right != right)
    if not a.real.all():
        better = better | ~_along(a.real, a)
    if not b.real.all():
        better = better & _along(b.real, b)
    pairs = zip(b.arrays, a.arrays, strict=True)
    arrays = tuple(jnp.where(better, new, old) for new, old in pairs)
    return _Part(arrays, a.real | b.real, a.axis)
