"""Pooling to a given output size: window i covers floor(i n / o) to ceil((i + 1) n / o)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxmod.nn._check import check_floating
from fluxmod.nn._lowering import Windows, window_max, window_sum

from ._half import compute_dtype
from ._pooling import check_rank, spatial_axes

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
    who = f"adaptive_avg_pool{nd}d"
    check_floating(x, who)
    windows = _windows(nd, x, output_size, who)
    total = window_sum(x.astype(compute_dtype(x.dtype)), windows, spatial_axes(nd))
    counts = np.ones(x.shape[-1:])
    for w in reversed(windows):
        counts = np.multiply.outer(np.array(w.length), counts)
    divisor = jnp.broadcast_to(jnp.asarray(counts, total.dtype), total.shape)
    return (total / divisor).astype(x.dtype)


def _maximum(nd: int, x: jax.Array, output_size: OutputSize, return_indices: bool) -> Any:
    who = f"adaptive_max_pool{nd}d"
    check_floating(x, who)
    windows = _windows(nd, x, output_size, who)
    found = window_max(x, windows, spatial_axes(nd), places=return_indices)
    return found if return_indices else found[0]


def _windows(nd: int, x: jax.Array, output_size: OutputSize, who: str) -> tuple[Windows, ...]:
    check_rank(x, nd, who)
    space = x.shape[-1 - nd : -1]
    given = output_size if isinstance(output_size, Sequence) else (output_size,) * nd
    if len(given) != nd or any(o is not None and o < 0 for o in given):
        raise ValueError(
            f"{who}: output_size must be one or {nd} sizes that are not negative, got "
            f"{output_size!r}."
        )
    if 0 in space:
        raise ValueError(f"{who}: spatial axes must not be empty, got shape {tuple(x.shape)}.")
    counts = [n if o is None else int(o) for n, o in zip(space, given, strict=True)]
    return tuple(Windows.adaptive(n, o) for n, o in zip(space, counts, strict=True))
