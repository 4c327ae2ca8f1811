"""Fractional max pooling (Graham 2014): windows at random steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fluxmod._errors import LayoutError
from fluxmod.nn._check import check_floating, tuple_of
from fluxmod.nn._random import RandomSource, drawn

__all__ = [
    "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices",
    "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
]

Size = int | Sequence[int]
Ratio = float | Sequence[float]


def fractional_max_pool2d(
    input: jax.Array,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: jax.Array | None = None,
    *,
    rngs: RandomSource = None,
) -> Any:
    """Maximum over windows at random steps; ``torch.nn.functional.fractional_max_pool2d``.

    Shape:
        input: (N, H, W, C) or (H, W, C); returns it with sizes ``output_size``, and the place of
        each maximum among the pixels of its channel if ``return_indices``.

    Args:
        output_size, output_ratio: one of them: sizes, or shares of the input's in (0, 1).
        _random_samples: (N, C, 2) in [0, 1), the offset of every channel; drawn if not given.
        rngs: a key, an ``nnx.RngStream`` or ``nnx.Rngs``; needed unless the samples are given.

    Raises:
        LayoutError: another rank.
        ValueError: both or neither of the sizes; windows that do not fit.

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> half = jnp.full((1, 1, 2), 0.5)
    >>> fractional_max_pool2d(x, 2, 2, _random_samples=half)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]

    Source: torch.nn.functional.fractional_max_pool2d, PyTorch 2.13 documentation.
    """
    found = _fractional(2, input, kernel_size, output_size, output_ratio, _random_samples, rngs)
    return found if return_indices else found[0]


def fractional_max_pool2d_with_indices(
    input: jax.Array,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: jax.Array | None = None,
    *,
    rngs: RandomSource = None,
) -> tuple[jax.Array, jax.Array]:
    """Do what ``fractional_max_pool2d(return_indices=True)`` does.

    >>> found = fractional_max_pool2d_with_indices(
    ...     jnp.arange(16.0).reshape(1, 4, 4, 1), 2, 1, rngs=jax.random.key(0)
    ... )
    >>> len(found)
    2

    Source: torch.nn.functional.fractional_max_pool2d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return _fractional(2, input, kernel_size, output_size, output_ratio, _random_samples, rngs)


def fractional_max_pool3d(
    input: jax.Array,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: jax.Array | None = None,
    *,
    rngs: RandomSource = None,
) -> Any:
    """As ``fractional_max_pool2d``, over (N, D, H, W, C); the samples are (N, C, 3).

    >>> fractional_max_pool3d(jnp.ones((1, 4, 4, 4, 2)), 2, 2, rngs=jax.random.key(0)).shape
    (1, 2, 2, 2, 2)

    Source: torch.nn.functional.fractional_max_pool3d, PyTorch 2.13 documentation.
    """
    found = _fractional(3, input, kernel_size, output_size, output_ratio, _random_samples, rngs)
    return found if return_indices else found[0]


def fractional_max_pool3d_with_indices(
    input: jax.Array,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: jax.Array | None = None,
    *,
    rngs: RandomSource = None,
) -> tuple[jax.Array, jax.Array]:
    """Do what ``fractional_max_pool3d(return_indices=True)`` does.

    >>> found = fractional_max_pool3d_with_indices(
    ...     jnp.ones((1, 4, 4, 4, 1)), 2, 1, rngs=jax.random.key(0)
    ... )
    >>> len(found)
    2

    Source: torch.nn.functional.fractional_max_pool3d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return _fractional(3, input, kernel_size, output_size, output_ratio, _random_samples, rngs)


def _fractional(
    nd: int,
    input: jax.Array,
    kernel_size: Size,
    output_size: Size | None,
    output_ratio: Ratio | None,
    samples: jax.Array | None,
    rngs: RandomSource,
) -> tuple[jax.Array, jax.Array]:
    who = f"fractional_max_pool{nd}d"
    check_floating(input, who)
    if input.ndim not in (nd + 1, nd + 2):
        raise LayoutError(
            f"{who}: expected {nd + 2} axes with the channels last, or {nd + 1} without the batch, "
            f"got shape {tuple(input.shape)}."
        )
    x = input if input.ndim == nd + 2 else input[None]
    space = x.shape[1:-1]
    k = tuple_of(kernel_size, nd, f"{who}: kernel_size")
    out = _output_sizes(who, space, output_size, output_ratio)
    if any(o + ki - 1 > n for n, ki, o in zip(space, k, out, strict=True)):
        raise ValueError(f"{who}: windows of {k} do not fit {out} times into {space}.")
    shape = (x.shape[0], x.shape[-1], nd)
    if samples is None:
        samples = drawn(
            rngs, lambda key: jax.random.uniform(key, shape, x.dtype), shape, True, who
        ).astype(x.dtype)
    if samples.ndim != 3 or samples.shape[1:] != shape[1:] or len(samples) < len(x):
        raise ValueError(
            f"{who}: expected samples of shape {shape}, or for a larger batch, got "
            f"{tuple(samples.shape)}."
        )
    samples = samples[: len(x)]
    # torch's samples name the axes of images last first, those of volumes first first
    order = (1, 0) if nd == 2 else (0, 1, 2)
    starts = [
        _starts(samples[..., order[axis]], space[axis], out[axis], k[axis]) for axis in range(nd)
    ]
    values, places = _windows(x, starts, k)
    best = _best(values)
    peak = jnp.take_along_axis(values, best, -1)[..., 0]
    place = jnp.take_along_axis(places, best, -1)[..., 0]
    return (peak, place) if input.ndim == nd + 2 else (peak[0], place[0])


def _best(values: jax.Array) -> jax.Array:
    """Which tap wins: the first of the largest, or the last NaN, as in torch."""
    missing = jnp.isnan(values)
    last = values.shape[-1] - 1 - jnp.argmax(missing[..., ::-1], axis=-1, keepdims=True)
    first = jnp.argmax(values, axis=-1, keepdims=True)
    return jnp.where(missing.any(-1, keepdims=True), last, first)


def _starts(sample: jax.Array, n: int, out: int, k: int) -> jax.Array:
    """(N, C) offsets to (N, C, out) first elements of windows."""
    last = jnp.full((*sample.shape, 1), n - k)
    if out == 1:
        return last
    alpha = (n - k) / (out - 1)
    i = jnp.arange(out - 1, dtype=sample.dtype)[None, None]
    steps = jnp.trunc((i + sample[..., None]) * alpha) - jnp.trunc(sample * alpha)[..., None]
    return jnp.concatenate([steps.astype(last.dtype), last], axis=-1)


def _windows(
    x: jax.Array, starts: list[jax.Array], k: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Values and places (N, *out, C, taps) of every window; each channel has its own."""
    nd, space = len(k), x.shape[1:-1]
    batch = jnp.arange(x.shape[0]).reshape(-1, *(1,) * (nd + 1))
    channel = jnp.arange(x.shape[-1]).reshape((1,) * (nd + 1) + (-1,))
    values, places = [], []
    for tap in itertools.product(*map(range, k)):
        index = []
        for axis, (start, step) in enumerate(zip(starts, tap, strict=True)):
            along = jnp.moveaxis(start + step, 1, -1)  # (N, out, C)
            shape = [x.shape[0], *(1,) * nd, x.shape[-1]]
            shape[1 + axis] = along.shape[1]
            index.append(along.reshape(shape))
        values.append(x[(batch, *index, channel)])
        place: Any = 0
        for axis, at in enumerate(index):
            place = place + at * math.prod(space[axis + 1 :])
        places.append(jnp.broadcast_to(place, values[-1].shape))
    return jnp.stack(values, -1), jnp.stack(places, -1)


def _output_sizes(
    who: str, space: Sequence[int], output_size: Size | None, output_ratio: Ratio | None
) -> tuple[int, ...]:
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{who}: give either output_size or output_ratio.")
    nd = len(space)
    if output_size is not None:
        return tuple_of(output_size, nd, f"{who}: output_size")
    given: Any = output_ratio
    ratios = tuple(given) if isinstance(given, Sequence) else (given,) * nd
    if len(ratios) != nd or not all(0 < r < 1 for r in ratios):
        raise ValueError(f"{who}: output_ratio must be {nd} numbers in (0, 1), got {given}.")
    return tuple(int(n * r) for n, r in zip(space, ratios, strict=True))
