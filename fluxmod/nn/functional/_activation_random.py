"""Activations that draw: randomised leaky ReLU, and samples from a softmax."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_floating
from fluxmod.nn._random import RandomSource, drawn

from ._activation import leaky_relu
from ._half import compute_dtype

__all__ = ["gumbel_softmax", "rrelu"]


def rrelu(
    input: jax.Array,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    rngs: RandomSource = None,
) -> jax.Array:
    """Scale what is not positive by slopes drawn from U(lower, upper).

    The twin of ``torch.nn.functional.rrelu``. Without ``training`` every slope is their mean.

    Args:
        rngs: a key, an ``nnx.RngStream`` or ``nnx.Rngs`` (its 'dropout' stream); needed when
            training.

    Raises:
        ValueError: ``lower`` above ``upper``, or no source of randomness.

    >>> rrelu(jnp.array([-2.0, 3.0]), 0.25, 0.75).tolist()
    [-1.0, 3.0]

    Source: torch.nn.functional.rrelu, PyTorch 2.13 documentation; Xu et al., 2015.
    """
    check_floating(input, "rrelu")
    if not lower <= upper:
        raise ValueError(f"rrelu: lower={lower} must not exceed upper={upper}.")
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    x = input.astype(compute_dtype(input.dtype))

    def sample(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, x.shape, x.dtype, lower, upper)

    slope = drawn(rngs, sample, x.shape, who="rrelu").astype(x.dtype)
    return jnp.where(x <= 0, x * slope, x).astype(input.dtype)


def gumbel_softmax(
    logits: jax.Array,
    tau: float = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    rngs: RandomSource = None,
) -> jax.Array:
    """Draw from the Gumbel-softmax distribution; ``torch.nn.functional.gumbel_softmax``.

    Args:
        tau: temperature.
        hard: return one-hot vectors, with the gradient of the soft ones.
        eps: deprecated, without effect, as in torch.
        dim: the axis of the classes, counted in the array given.
        rngs: a key, an ``nnx.RngStream`` or ``nnx.Rngs`` (its 'dropout' stream).

    Raises:
        ValueError: no source of randomness.
        IndexError: no such axis.

    >>> draw = gumbel_softmax(jnp.zeros((2, 3)), hard=True, rngs=jax.random.key(0))
    >>> sorted(draw[0].tolist())
    [0.0, 0.0, 1.0]

    Source: torch.nn.functional.gumbel_softmax, PyTorch 2.13 documentation; Jang et al., 2017.
    """
    who = "gumbel_softmax"
    check_floating(logits, who)
    if not -max(logits.ndim, 1) <= dim < max(logits.ndim, 1):
        raise IndexError(f"{who}: dim={dim} is out of range for shape {tuple(logits.shape)}.")
    if eps != 1e-10:
        warnings.warn(f"{who}: eps is deprecated and has no effect.", UserWarning, stacklevel=2)
    x = logits.astype(compute_dtype(logits.dtype))

    def sample(key: jax.Array) -> jax.Array:
        return jax.random.exponential(key, x.shape, x.dtype)

    waits = drawn(rngs, sample, x.shape, same_order=True, who=who).astype(x.dtype)
    if not x.ndim:
        return jnp.ones_like(logits)  # one class; its gradient is 0
    soft = jax.nn.softmax((x - jnp.log(waits)) / tau, dim)
    if not hard:
        return soft.astype(logits.dtype)
    best = jnp.argmax(soft, dim, keepdims=True)
    place = lax.broadcasted_iota(best.dtype, x.shape, dim % x.ndim)
    # the value of one, the gradient of the other
    return ((place == best).astype(x.dtype) - lax.stop_gradient(soft) + soft).astype(logits.dtype)
