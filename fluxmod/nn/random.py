"""Random arrays for code of one's own: drawn from ``nnx.Rngs``, replayed by ``fluxmod.parity``.

``jax.random`` draws other numbers than torch does, so a model that uses it cannot be compared in
training mode. These functions draw from a model's own stream, and take what torch drew while
parity replays it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ._random import RandomSource, drawn

__all__ = ["bernoulli", "exponential", "normal", "uniform"]


def bernoulli(
    rngs: RandomSource, p: jax.Array | float, shape: tuple[int, ...], dtype: jnp.dtype | None = None
) -> jax.Array:
    """Ones with probability ``p``, else zeros; the twin of ``Tensor.bernoulli_``.

    Args:
        rngs: a key, a stream, or ``nnx.Rngs`` whose ``dropout`` stream is used.
        dtype: of the result; the default float type without it.

    Raises:
        ValueError: no source of randomness was given.

    >>> bernoulli(jax.random.key(0), 1.0, (2, 1)).tolist()
    [[1.0], [1.0]]
    """
    mask = drawn(rngs, lambda key: jax.random.bernoulli(key, p, shape), shape, who="bernoulli")
    return mask.astype(jax.dtypes.canonicalize_dtype(float if dtype is None else dtype))


def exponential(
    rngs: RandomSource,
    shape: tuple[int, ...],
    dtype: jnp.dtype | None = None,
    lambd: float = 1.0,
) -> jax.Array:
    """Numbers of the exponential distribution; the twin of ``Tensor.exponential_``.

    Args:
        lambd: the rate, one over the mean. The others as in ``bernoulli``.

    >>> bool((exponential(jax.random.key(0), (2, 3)) > 0).all())
    True
    """
    kind = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    sample = drawn(
        rngs, lambda key: jax.random.exponential(key, shape, kind) / lambd, shape, who="exponential"
    )
    return sample.astype(kind)


def normal(
    rngs: RandomSource,
    shape: tuple[int, ...],
    dtype: jnp.dtype | None = None,
    mean: float = 0.0,
    std: float = 1.0,
) -> jax.Array:
    """Normal numbers; the twin of ``torch.randn`` and ``Tensor.normal_``.

    Args:
        mean, std: of the distribution. The others as in ``bernoulli``.

    >>> normal(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    kind = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    sample = drawn(
        rngs, lambda key: jax.random.normal(key, shape, kind) * std + mean, shape, who="normal"
    )
    return sample.astype(kind)


def uniform(
    rngs: RandomSource,
    shape: tuple[int, ...],
    dtype: jnp.dtype | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> jax.Array:
    """Numbers from ``low`` to below ``high``; the twin of ``torch.rand`` and ``Tensor.uniform_``.

    Args:
        low, high: the bounds. The others as in ``bernoulli``.

    >>> uniform(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    kind = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    sample = drawn(
        rngs, lambda key: jax.random.uniform(key, shape, kind, low, high), shape, who="uniform"
    )
    return sample.astype(kind)
