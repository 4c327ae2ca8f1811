"""Losses with torch's reductions, weights and edge cases."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import xlogy

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]

# Every function is the twin of the one of that name in torch.nn.functional, PyTorch 2.13.
# reduction is 'none', 'mean' or 'sum'; 'mean' divides by the number of elements.


def reduce(loss: jax.Array, reduction: str, who: str) -> jax.Array:
    """Apply a reduction; an unknown one is a ValueError."""
    if reduction == "none":
        return loss
    if reduction == "mean":
        return jnp.mean(loss)
    if reduction == "sum":
        return jnp.sum(loss)
    raise ValueError(f"{who}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}.")


def _pair(input: jax.Array, target: jax.Array, who: str) -> tuple[jax.Array, jax.Array]:
    """Broadcast input and target, which torch allows, and agree on a dtype."""
    try:
        input, target = jnp.broadcast_arrays(input, target)
    except ValueError:
        raise ValueError(
            f"{who}: input of shape {tuple(input.shape)} and target of shape "
            f"{tuple(target.shape)} do not broadcast."
        ) from None
    dtype = jnp.promote_types(input.dtype, target.dtype)
    return input.astype(dtype), target.astype(dtype)


def mse_loss(input: jax.Array, target: jax.Array, reduction: str = "mean") -> jax.Array:
    """Return the squared difference.

    >>> mse_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])).item()
    2.0
    """
    input, target = _pair(input, target, "mse_loss")
    difference = input - target
    return reduce(difference * difference, reduction, "mse_loss")


def l1_loss(input: jax.Array, target: jax.Array, reduction: str = "mean") -> jax.Array:
    """Return the absolute difference; its gradient where both are equal is 0.

    >>> l1_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])).item()
    1.0
    """
    input, target = _pair(input, target, "l1_loss")
    return reduce(_abs(input - target), reduction, "l1_loss")


def _abs(x: jax.Array) -> jax.Array:
    """``|x|`` with gradient 0 at 0."""
    return lax.stop_gradient(jnp.sign(x)) * x


def smooth_l1_loss(
    input: jax.Array, target: jax.Array, reduction: str = "mean", beta: float = 1.0
) -> jax.Array:
    """Return half the squared difference over ``beta`` below ``beta``, the absolute one above.

    >>> smooth_l1_loss(jnp.array([0.5, 3.0]), jnp.zeros(2), reduction="none").tolist()
    [0.125, 2.5]
    """
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}.")
    if beta == 0:
        return l1_loss(input, target, reduction)
    input, target = _pair(input, target, "smooth_l1_loss")
    distance = _abs(input - target)
    loss = jnp.where(distance < beta, 0.5 * distance * distance / beta, distance - 0.5 * beta)
    return reduce(loss, reduction, "smooth_l1_loss")


def huber_loss(
    input: jax.Array, target: jax.Array, reduction: str = "mean", delta: float = 1.0
) -> jax.Array:
    """Return ``delta * smooth_l1_loss(beta=delta)``.

    >>> huber_loss(jnp.array([3.0]), jnp.zeros(1), delta=2.0).item()
    4.0
    """
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}.")
    input, target = _pair(input, target, "huber_loss")
    distance = _abs(input - target)
    loss = jnp.where(distance < delta, 0.5 * distance * distance, delta * (distance - 0.5 * delta))
    return reduce(loss, reduction, "huber_loss")


def binary_cross_entropy(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``-(y log p + (1 - y) log(1 - p))`` with logarithms clamped at -100.

    torch raises where ``p`` is outside [0, 1]; here that gives NaN.

    Raises:
        ValueError: shapes differ.

    >>> binary_cross_entropy(jnp.array([0.0]), jnp.array([1.0])).item()
    100.0
    """
    if input.shape != target.shape:
        raise ValueError(
            f"binary_cross_entropy: target has shape {tuple(target.shape)} and input "
            f"{tuple(input.shape)}; they must be equal."
        )
    p, y = input, target.astype(input.dtype)
    loss = -(y * _clamped_log(p) + (1 - y) * _clamped_log1m(p))
    loss = loss if weight is None else loss * weight
    return reduce(loss, reduction, "binary_cross_entropy")


def _clamped_log(p: jax.Array) -> jax.Array:
    return _bounded(jnp.log(p), p)


def _clamped_log1m(p: jax.Array) -> jax.Array:
    return _bounded(jnp.log1p(-p), 1 - p)


@jax.custom_jvp
def _bounded(value: jax.Array, argument: jax.Array) -> jax.Array:
    """Clamp a logarithm at -100; torch's gradient divides by at least 1e-12 instead."""
    del argument
    return jnp.maximum(value, -100.0)


@_bounded.defjvp
def _bounded_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    value, argument = primals
    slope = tangents[1] / jnp.maximum(argument, 1e-12)
    return jnp.maximum(value, -100.0), slope


def binary_cross_entropy_with_logits(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    reduction: str = "mean",
    pos_weight: jax.Array | None = None,
) -> jax.Array:
    """``binary_cross_entropy`` of ``sigmoid(input)``, without overflow.

    Args:
        pos_weight: factor of the positive term, broadcast over the last axes.

    Raises:
        ValueError: shapes differ.

    >>> binary_cross_entropy_with_logits(jnp.array([-1000.0]), jnp.array([1.0])).item()
    1000.0
    """
    if input.shape != target.shape:
        raise ValueError(
            f"binary_cross_entropy_with_logits: target has shape {tuple(target.shape)} and input "
            f"{tuple(input.shape)}; they must be equal."
        )
    y = target.astype(input.dtype)
    log_sigmoid = jax.nn.log_sigmoid(input)
    factor = 1.0 if pos_weight is None else 1 + (pos_weight - 1) * y
    loss = (1 - y) * input - factor * log_sigmoid
    loss = loss if weight is None else loss * weight
    return reduce(loss, reduction, "binary_cross_entropy_with_logits")


def kl_div(
    input: jax.Array, target: jax.Array, reduction: str = "mean", log_target: bool = False
) -> jax.Array:
    """Return ``target * (log(target) - input)``; ``input`` holds log-probabilities.

    'batchmean' divides the sum by the length of the first axis, which is the divergence itself;
    'mean' divides by the number of elements, as torch does.

    >>> kl_div(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([[0.5, 0.5]]), "batchmean").item()
    0.0
    """
    input, target = _pair(input, target, "kl_div")
    if log_target:
        loss = jnp.exp(target) * (target - input)
    else:
        loss = xlogy(target, target) - target * input
    if reduction == "batchmean":
        return jnp.sum(loss) / (loss.shape[0] if loss.ndim else 1)
    return reduce(loss, reduction, "kl_div")
