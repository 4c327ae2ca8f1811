"""Negative log-likelihoods of real and of counted targets."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_floating
from fluxmod.nn._checked import concrete

from ._half import compute_dtype
from ._reduction import check_reduction, chosen_reduction, pair, reduced

__all__ = ["gaussian_nll_loss", "poisson_nll_loss"]


def gaussian_nll_loss(
    input: jax.Array,
    target: jax.Array,
    var: jax.Array | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``(log(var) + (input - target)^2 / var) / 2``; ``torch.nn.functional``'s twin.

    Shape:
        input, target: any, they broadcast; var: input's shape, or the same with one axis of size
        1, or without the last axis; returns the broadcast shape, or a scalar.

    Args:
        var: variances, taken as ``eps`` at least; the gradient does not know of this limit.
        full: add ``log(2 pi) / 2``.

    Raises:
        TypeError: an input that is not of floats.
        ValueError: negative variances, where they are known; shapes that do not fit.

    >>> gaussian_nll_loss(jnp.array([2.0]), jnp.array([0.0]), 1.0).item()
    2.0

    Source: torch.nn.functional.gaussian_nll_loss, PyTorch 2.13 documentation; Nix and Weigend,
    1994.
    """
    who = "gaussian_nll_loss"
    check_reduction(reduction, who)
    check_floating(input, who)
    values = concrete(var)
    if values is not None and bool((values < 0).any()):
        raise ValueError(f"{who}: variances must not be negative, got {values.min()}.")
    x, y, dtype = pair(input, target, who, warn=False)
    if isinstance(var, (int, float)):
        spread = jnp.full(input.shape, var, x.dtype)
    else:
        dtype = jnp.promote_types(dtype, var.dtype)
        spread = _fitted(var, input, who).astype(compute_dtype(dtype))
    # the limit changes the value and not the gradient
    spread = jnp.where(spread < eps, spread - lax.stop_gradient(spread) + eps, spread)
    square, spread, _ = pair(jnp.square(x - y), spread, who, warn=False)
    loss = 0.5 * (jnp.log(spread) + square / spread)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced(loss, reduction, who).astype(dtype)


def _fitted(var: jax.Array, input: jax.Array, who: str) -> jax.Array:
    """One variance for each element, or for each but along one axis."""
    if var.shape == input.shape:
        return var
    if var.shape == input.shape[:-1]:
        return var[..., None]
    differing = [v for i, v in zip(input.shape, var.shape, strict=False) if i != v]
    if var.ndim == input.ndim and sum(differing) == 1:
        return var
    raise ValueError(
        f"{who}: var must have the input's shape {tuple(input.shape)}, or the same with one axis "
        f"of size 1, or without the last axis; got shape {tuple(var.shape)}."
    )


def poisson_nll_loss(
    input: jax.Array,
    target: jax.Array,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``exp(input) - target * input``; the twin of ``torch.nn.functional.poisson_nll_loss``.

    Args:
        log_input: the input is the logarithm of the rate; otherwise the loss is
            ``input - target * log(input + eps)``.
        full: add Stirling's approximation of ``log(target!)`` where the target is above 1.

    Raises:
        TypeError: neither input nor target holds floats.
        ValueError: the shapes do not broadcast.

    >>> poisson_nll_loss(jnp.array([0.0]), jnp.array([2.0])).item()
    1.0

    Source: torch.nn.functional.poisson_nll_loss, PyTorch 2.13 documentation.
    """
    who = "poisson_nll_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    x, y, dtype = pair(input, target, who, warn=False, integers=True)
    loss = jnp.exp(x) - y * x if log_input else x - y * jnp.log(x + eps)
    if full:
        stirling = y * jnp.log(y) - y + 0.5 * jnp.log(2 * math.pi * y)
        loss = loss + jnp.where(y <= 1, 0, stirling)
    return reduced(loss, reduction, who).astype(dtype)
