"""Random arrays for code of one's own: drawn from ``nnx.Rngs``, replayed by ``fluxmod.parity``.

``jax.random`` draws other numbers than torch does, so a model that uses it cannot be compared in
training mode. These functions draw from a model's own stream, and take what torch drew while
parity replays it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ._random import RandomSource, drawn

__all__ = ["bernoulli", "exponential", "normal", "permutation", "randint", "uniform"]


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

    def draw(key: jax.Array, kind: jnp.dtype) -> jax.Array:
        return jax.random.exponential(key, shape, kind) / lambd

    return _sampled(rngs, draw, shape, dtype, "exponential")


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

    def draw(key: jax.Array, kind: jnp.dtype) -> jax.Array:
        return jax.random.normal(key, shape, kind) * std + mean

    return _sampled(rngs, draw, shape, dtype, "normal")


def permutation(rngs: RandomSource, n: int) -> jax.Array:
    """The numbers from 0 to below ``n`` in random order; the twin of ``torch.randperm``.

    >>> sorted(permutation(jax.random.key(0), 3).tolist())
    [0, 1, 2]
    """
    draw = drawn(rngs, lambda key: jax.random.permutation(key, n), (n,), who="permutation")
    return draw.astype(int)


def randint(
    rngs: RandomSource,
    shape: tuple[int, ...],
    low: jax.Array | int,
    high: jax.Array | int,
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Whole numbers from ``low`` to below ``high``; the twin of ``torch.randint``.

    Args:
        low, high: the bounds. The others as in ``bernoulli``; the default integer type is JAX's.

    >>> randint(jax.random.key(0), (2, 3), 4, 5).tolist()
    [[4, 4, 4], [4, 4, 4]]
    """
    kind = jax.dtypes.canonicalize_dtype(int if dtype is None else dtype)

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.randint(key, shape, low, high, kind)

    return drawn(rngs, draw, shape, who="randint").astype(kind)


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

    def draw(key: jax.Array, kind: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, kind, low, high)

    return _sampled(rngs, draw, shape, dtype, "uniform")


def _sampled(
    rngs: RandomSource,
    draw: Callable[[jax.Array, jnp.dtype], jax.Array],
    shape: tuple[int, ...],
    dtype: jnp.dtype | None,
    who: str,
) -> jax.Array:
    """What ``draw(key, dtype)`` gives, or what torch drew in its place."""
    kind = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    return drawn(rngs, lambda key: draw(key, kind), shape, who=who).astype(kind)
