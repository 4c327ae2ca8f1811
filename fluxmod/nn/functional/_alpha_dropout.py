"""Dropout that keeps mean and variance of what SELU gives."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fluxmod.nn._check import check_floating
from fluxmod.nn._random import RandomSource, keep_mask

__all__ = ["alpha_dropout", "feature_alpha_dropout"]

_ALPHA = 1.7580993408473766  # minus the least value of SELU


def alpha_dropout(
    input: jax.Array,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    rngs: RandomSource = None,
) -> jax.Array:
    """Set elements to SELU's least value with probability ``p``, and scale and shift all.

    The twin of ``torch.nn.functional.alpha_dropout``. Mean 0 and variance 1 are kept.

    Args:
        inplace: accepted as torch does; arrays are never changed in place.
        rngs: a key, an ``nnx.RngStream`` or ``nnx.Rngs``; needed when training and 0 < p < 1.

    Raises:
        ValueError: ``p`` outside [0, 1], or no source of randomness.

    >>> alpha_dropout(jnp.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    >>> len(set(alpha_dropout(jnp.ones(99), training=True, rngs=jax.random.key(0)).tolist()))
    2

    Source: torch.nn.functional.alpha_dropout, PyTorch 2.13 documentation; Klambauer et al., 2017.
    """
    return _dropped(input, p, training, input.shape, rngs, "alpha_dropout")


def feature_alpha_dropout(
    input: jax.Array,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    rngs: RandomSource = None,
) -> jax.Array:
    """Do ``alpha_dropout`` to whole channels of (N, *, C).

    The twin of ``torch.nn.functional.feature_alpha_dropout``; arguments and errors as there.

    >>> key = jax.random.key(0)
    >>> feature_alpha_dropout(jnp.ones((2, 5, 3)), 0.5, True, rngs=key).std(1).max().item()
    0.0

    Source: torch.nn.functional.feature_alpha_dropout, PyTorch 2.13 documentation.
    """
    shape = None
    if input.ndim > 1:
        shape = (input.shape[0], *(1,) * (input.ndim - 2), input.shape[-1])
    return _dropped(input, p, training, shape, rngs, "feature_alpha_dropout")


def _dropped(
    x: jax.Array,
    p: float,
    training: bool,
    shape: tuple[int, ...] | None,
    rngs: RandomSource,
    who: str,
) -> jax.Array:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{who}: probability has to be between 0 and 1, got {p}.")
    if not training or p == 0.0 or x.size == 0:
        return x
    if p == 1.0:
        return x * 0
    check_floating(x, who)
    if shape is None:
        raise ValueError(f"{who}: expected at least 2 axes (N, *, C), got {tuple(x.shape)}.")
    scale = 1 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    keep = keep_mask(rngs, 1.0 - p, shape)
    factor = jnp.where(keep, scale, 0.0).astype(x.dtype)
    shift = jnp.where(keep, _ALPHA * scale * p, _ALPHA * scale * (p - 1)).astype(x.dtype)
    return x * jnp.broadcast_to(factor, x.shape) + jnp.broadcast_to(shift, x.shape)
