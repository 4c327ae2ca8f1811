"""Pooling to a given output size: window i covers floor(i n / o) to ceil((i + 1) n / o)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod._errors import LayoutError

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
]

OutputSize = int | None | Sequence[int | None]


def adaptive_avg_pool1d(input: jax.Array, output_size: OutputSize) -> jax.Array:
    """Average (N, L, C) to a length; the twin of ``torch.nn.functional.adaptive_avg_pool1d``.

    >>> adaptive_avg_pool1d(jnp.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0].tolist()
    [1.0, 3.0]

    Source: torch.nn.functional.adaptive_avg_pool1d, PyTorch 2.13 documentation.
    """
    return _average(1, input, output_size)


def adaptive_avg_pool2d(input: jax.Array, output_size: OutputSize) -> jax.Array:
    """Average (N, H, W, C) to a size; ``None`` keeps an axis.

    >>> adaptive_avg_pool2d(jnp.ones((1, 7, 5, 3)), (2, None)).shape
    (1, 2, 5, 3)

    Source: torch.nn.functional.adaptive_avg_pool2d, PyTorch 2.13 documentation.
    """
    return _average(2, input, output_size)


def adaptive_avg_pool3d(input: jax.Array, output_size: OutputSize) -> jax.Array:
    """Average (N, D, H, W, C) to a size; ``None`` keeps an axis.

    >>> adaptive_avg_pool3d(jnp.ones((1, 7, 5, 4, 3)), 2).shape
    (1, 2, 2, 2, 3)

    Source: torch.nn.functional.adaptive_avg_pool3d, PyTorch 2.13 documentation.
    """
    return _average(3, input, output_size)


def adaptive_max_pool1d(
    input: jax.Array, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Largest values of (N, L, C) for a length; ``torch.nn.functional.adaptive_max_pool1d``.

    >>> adaptive_max_pool1d(jnp.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0].tolist()
    [2.0, 4.0]

    Source: torch.nn.functional.adaptive_max_pool1d, PyTorch 2.13 documentation.
    """
    return _maximum(1, input, output_size, return_indices)


def adaptive_max_pool2d(
    input: jax.Array, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Largest values of (N, H, W, C) for a size; indices are flat in (H, W).

    >>> adaptive_max_pool2d(jnp.ones((1, 7, 5, 3)), (2, 3)).shape
    (1, 2, 3, 3)

    Source: torch.nn.functional.adaptive_max_pool2d, PyTorch 2.13 documentation.
    """
    return _maximum(2, input, output_size, return_indices)


def adaptive_max_pool3d(
    input: jax.Array, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Largest values of (N, D, H, W, C) for a size; indices are flat in (D, H, W).

    >>> adaptive_max_pool3d(jnp.ones((1, 7, 5, 4, 3)), 2).shape
    (1, 2, 2, 2, 3)

    Source: torch.nn.functional.adaptive_max_pool3d, PyTorch 2.13 documentation.
    """
    return _maximum(3, input, output_size, return_indices)


def _average(nd: int, x: jax.Array, output_size: OutputSize) -> jax.Array:
    out = _sizes(nd, x, output_size, f"adaptive_avg_pool{nd}d")
    first = x.ndim - nd - 1
    for axis, o in enumerate(out, start=first):
        n = x.shape[axis]
        if o == n:
            continue
        means = np.zeros((n, o))
        for column, (low, high) in enumerate(_spans(n, o)):
            means[low:high, column] = 1.0 / (high - low)
        matrix = jnp.asarray(means, x.dtype)
        product = jnp.tensordot(x, matrix, axes=(axis, 0), precision=lax.Precision.HIGHEST)
        x = jnp.moveaxis(product, -1, axis)
    return x


def _maximum(nd: int, x: jax.Array, output_size: OutputSize, return_indices: bool) -> Any:
    out = _sizes(nd, x, output_size, f"adaptive_max_pool{nd}d")
    batched = x.ndim == nd + 2
    x = x if batched else x[None]
    space = x.shape[1:-1]
    places = np.arange(math.prod(space)).reshape(space)
    values, indices = [], []
    for cell in itertools.product(*(_spans(n, o) for n, o in zip(space, out, strict=True))):
        cut = tuple(slice(low, high) for low, high in cell)
        window = x[(slice(None), *cut)].reshape(x.shape[0], -1, x.shape[-1])  # (N, K, C)
        best = jnp.argmax(window, axis=1, keepdims=True)  # the first of equal values, as in torch
        values.append(jnp.take_along_axis(window, best, axis=1)[:, 0])
        indices.append(jnp.asarray(places[cut].reshape(-1))[best[:, 0]])
    shape = (x.shape[0], *out, x.shape[-1])
    pooled, where = (jnp.stack(part, axis=1).reshape(shape) for part in (values, indices))
    if not batched:
        pooled, where = pooled[0], where[0]
    return (pooled, where) if return_indices else pooled


def _sizes(nd: int, x: jax.Array, output_size: OutputSize, who: str) -> tuple[int, ...]:
    if x.ndim not in (nd + 1, nd + 2):
        raise LayoutError(
            f"{who}: expected {nd + 2} axes with the channels last, or {nd + 1} without the batch, "
            f"got shape {tuple(x.shape)}."
        )
    space = x.shape[-1 - nd : -1]
    given = output_size if isinstance(output_size, Sequence) else (output_size,) * nd
    if len(given) != nd or any(o is not None and o < 1 for o in given):
        raise ValueError(
            f"{who}: output_size must be one or {nd} positive sizes, got {output_size!r}."
        )
    if any(n == 0 for n in space):
        raise ValueError(f"{who}: spatial axes must not be empty, got shape {tuple(x.shape)}.")
    return tuple(n if o is None else int(o) for n, o in zip(space, given, strict=True))


def _spans(n: int, o: int) -> list[tuple[int, int]]:
    """First and last-but-one place of each window along one axis."""
    return [(i * n // o, -(-(i + 1) * n // o)) for i in range(o)]
