"""Dropout: element by element, or whole channels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fluxmod.nn._random import RandomSource, keep_mask

__all__ = ["dropout", "dropout1d", "dropout2d", "dropout3d"]


def dropout(
    input: jax.Array,
    p: float = 0.5,
    training: bool = True,
    *,
    rngs: RandomSource = None,
    same_order: bool = False,
) -> jax.Array:
    """Zero elements with probability ``p`` and scale the rest by ``1 / (1 - p)``.

    The twin of ``torch.nn.functional.dropout``. As in torch a dropped infinity or NaN gives NaN.

    Args:
        rngs: a key, an ``nnx.RngStream`` or ``nnx.Rngs``; needed when training and 0 < p < 1.
        same_order: the array's axes have torch's order (see ``fluxmod.nn._random.keep_mask``).

    Raises:
        ValueError: ``p`` outside [0, 1], or no source of randomness.

    >>> dropout(jnp.ones(3), 0.5, training=False).tolist()
    [1.0, 1.0, 1.0]
    >>> sorted(set(dropout(jnp.ones(99), 0.5, rngs=jax.random.key(0)).tolist()))
    [0.0, 2.0]

    Source: torch.nn.functional.dropout, PyTorch 2.13 documentation.
    """
    return drop(input, p, training, input.shape, rngs, same_order)


def dropout1d(
    input: jax.Array, p: float = 0.5, training: bool = True, *, rngs: RandomSource = None
) -> jax.Array:
    """Zero whole channels of (N, L, C) or (L, C); the twin of ``torch.nn.functional.dropout1d``.

    >>> dropout1d(jnp.ones((2, 5, 3)), rngs=jax.random.key(0)).std(1).max().item()
    0.0

    Source: torch.nn.functional.dropout1d, PyTorch 2.13 documentation.
    """
    return _channels(input, 1, p, training, rngs)


def dropout2d(
    input: jax.Array, p: float = 0.5, training: bool = True, *, rngs: RandomSource = None
) -> jax.Array:
    """Zero whole channels of (N, H, W, C); the twin of ``torch.nn.functional.dropout2d``.

    An input of rank 3 is taken as (N, L, C), as torch does for historical reasons.

    >>> dropout2d(jnp.ones((2, 5, 4, 3)), rngs=jax.random.key(0)).std((1, 2)).max().item()
    0.0

    Source: torch.nn.functional.dropout2d, PyTorch 2.13 documentation.
    """
    return _channels(input, 2, p, training, rngs)


def dropout3d(
    input: jax.Array, p: float = 0.5, training: bool = True, *, rngs: RandomSource = None
) -> jax.Array:
    """Zero whole channels of (N, D, H, W, C) or without N; ``torch.nn.functional.dropout3d``.

    >>> dropout3d(jnp.ones((2, 2, 5, 4, 3)), rngs=jax.random.key(0)).shape
    (2, 2, 5, 4, 3)

    Source: torch.nn.functional.dropout3d, PyTorch 2.13 documentation.
    """
    return _channels(input, 3, p, training, rngs)


def _channels(x: jax.Array, nd: int, p: float, training: bool, rngs: RandomSource) -> jax.Array:
    if x.ndim not in (nd + 1, nd + 2):
        raise ValueError(
            f"dropout{nd}d: expected {nd + 1} or {nd + 2} axes, got shape {tuple(x.shape)}."
        )
    batched = x.ndim == nd + 2 or nd == 2
    lead = x.shape[:1] if batched else ()
    shape = lead + (1,) * (x.ndim - len(lead) - 1) + x.shape[-1:]
    if batched:
        return drop(x, p, training, shape, rngs, False)
    # torch adds the batch axis before it draws, so the recorded mask has one
    return drop(x[None], p, training, (1, *shape), rngs, False)[0]


def drop(
    x: jax.Array,
    p: float,
    training: bool,
    mask_shape: tuple[int, ...],
    rngs: Any,
    same_order: bool,
    rows: jax.Array | None = None,
) -> jax.Array:
    """Drop with a mask of its own shape; ``rows`` as in ``keep_mask``."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: probability has to be between 0 and 1, got {p}.")
    if not training or p == 0.0 or x.size == 0:
        return x
    if p == 1.0:
        return x * 0
    keep = keep_mask(rngs, 1.0 - p, mask_shape, same_order=same_order, rows=rows)
    scale = jnp.where(keep, 1.0 / (1.0 - p), 0.0).astype(x.dtype)
    return x * jnp.broadcast_to(scale, x.shape)
