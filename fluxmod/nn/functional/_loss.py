"""Losses that compare element with element, with torch's reductions, weights and edge cases."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.scipy.special import xlogy

from fluxmod.nn._check import check_floating
from fluxmod.nn._checked import concrete

from ._half import compute_dtype
from ._reduction import (
    REDUCTIONS,
    check_reduction,
    chosen_reduction,
    pair,
    reduced,
    same_shape,
)

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]


def mse_loss(
    input: jax.Array,
    target: jax.Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: jax.Array | None = None,
) -> jax.Array:
    """Return the squared difference; the twin of ``torch.nn.functional.mse_loss``.

    Args:
        size_average, reduce: torch's older words for ``reduction``; they warn, as there.
        weight: factors of input's shape; 'mean' then divides by their sum.

    Raises:
        ValueError: shapes that do not broadcast (those that differ warn, as in torch).

    >>> mse_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])).item()
    2.0

    Source: torch.nn.functional.mse_loss, PyTorch 2.13 documentation.
    """
    who = "mse_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    x, y, dtype = pair(input, target, who)
    return _weighted(jnp.square(x - y), input, weight, reduction, who).astype(dtype)


def l1_loss(
    input: jax.Array,
    target: jax.Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: jax.Array | None = None,
) -> jax.Array:
    """Return the absolute difference; its gradient where both are equal is 0.

    The twin of ``torch.nn.functional.l1_loss``; arguments and errors as in ``mse_loss``.

    >>> l1_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])).item()
    1.0

    Source: torch.nn.functional.l1_loss, PyTorch 2.13 documentation.
    """
    who = "l1_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    x, y, dtype = pair(input, target, who)
    loss = _weighted(_abs(x - y), input, weight, reduction, who)
    return loss.astype(jnp.finfo(dtype).dtype)  # a distance is real


def _weighted(
    loss: jax.Array, input: jax.Array, weight: jax.Array | None, reduction: str, who: str
) -> jax.Array:
    if weight is None:
        return reduced(loss, reduction, who)
    same_shape(input, weight, who, "weight")
    weight = weight.astype(loss.dtype)
    loss = loss * jnp.broadcast_to(weight, loss.shape)
    if reduction == "mean":
        return jnp.sum(loss) / jnp.sum(weight)
    return reduced(loss, reduction, who)


def _abs(x: jax.Array) -> jax.Array:
    """``|x|`` with torch's gradient: 0 at 0, and 0 for NaN."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return jnp.abs(x)
    return x * jnp.where(x > 0, 1, jnp.where(x < 0, -1, 0)).astype(x.dtype)


def smooth_l1_loss(
    input: jax.Array,
    target: jax.Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> jax.Array:
    """Return half the squared difference over ``beta`` below ``beta``, the absolute one above.

    The twin of ``torch.nn.functional.smooth_l1_loss``; errors as in ``mse_loss``.

    Raises:
        ValueError: a negative ``beta``.

    >>> smooth_l1_loss(jnp.array([0.5, 3.0]), jnp.zeros(2), reduction="none").tolist()
    [0.125, 2.5]

    Source: torch.nn.functional.smooth_l1_loss, PyTorch 2.13 documentation.
    """
    who = "smooth_l1_loss"
    if beta < 0:
        raise ValueError(f"{who}: beta must not be negative, got {beta}.")
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    x, y, dtype = pair(input, target, who)
    if beta == 0:
        return reduced(_abs(x - y), reduction, who).astype(dtype)
    distance = _abs(x - y)
    far = distance >= beta
    # the branch not taken stays finite: its gradient would be 0 * inf
    near = jnp.square(jnp.where(far, 0, x - y)) * 0.5 / beta
    return reduced(jnp.where(far, distance - 0.5 * beta, near), reduction, who).astype(dtype)


def huber_loss(
    input: jax.Array,
    target: jax.Array,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: jax.Array | None = None,
) -> jax.Array:
    """Return ``delta * smooth_l1_loss(beta=delta)``; ``torch.nn.functional.huber_loss``.

    Args:
        weight: factors of input's shape; 'mean' divides by the number of elements all the same.

    Raises:
        ValueError: ``delta`` is not positive; shapes as in ``mse_loss``.

    >>> huber_loss(jnp.array([3.0]), jnp.zeros(1), delta=2.0).item()
    4.0

    Source: torch.nn.functional.huber_loss, PyTorch 2.13 documentation.
    """
    who = "huber_loss"
    if delta <= 0:
        raise ValueError(f"{who}: delta must be positive, got {delta}.")
    check_floating(input, who)
    x, y, _ = pair(input, target, who)
    distance = _abs(x - y)
    far = distance > delta
    near = jnp.square(jnp.where(far, 0, x - y)) * 0.5
    loss = jnp.where(far, delta * (distance - 0.5 * delta), near)
    if weight is not None:
        same_shape(input, weight, who, "weight")
        loss = loss * jnp.broadcast_to(weight.astype(loss.dtype), loss.shape)
    return reduced(loss, reduction, who).astype(input.dtype)  # torch's too, whatever the target's


def binary_cross_entropy(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``-(y log p + (1 - y) log(1 - p))`` with logarithms clamped at -100.

    The twin of ``torch.nn.functional.binary_cross_entropy``. In compiled code, which cannot raise,
    a value outside [0, 1] gives NaN where that of the input is.

    Raises:
        TypeError: input and target of different dtypes.
        ValueError: shapes differ; values outside [0, 1], where they are known.

    >>> binary_cross_entropy(jnp.array([0.0]), jnp.array([1.0])).item()
    100.0

    Source: torch.nn.functional.binary_cross_entropy, PyTorch 2.13 documentation.
    """
    who = "binary_cross_entropy"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_floating(input, who)
    if target.dtype != input.dtype:
        raise TypeError(f"{who}: expected a target of dtype {input.dtype}, got {target.dtype}.")
    same_shape(input, target, who, "target")
    outside = [name for name, a in (("input", input), ("target", target)) if _outside(a)]
    if outside:
        raise ValueError(
            f"{who}: all elements must be between 0 and 1; those of {' and '.join(outside)} are "
            "not. For logits use binary_cross_entropy_with_logits."
        )
    wide = compute_dtype(input.dtype)
    loss = _cross_entropy_of(input.astype(wide), target.astype(wide))
    return reduced(_scaled(loss, weight, who), reduction, who).astype(input.dtype)


def _outside(x: jax.Array) -> bool:
    values = concrete(x)
    return values is not None and not bool(((values >= 0) & (values <= 1)).all())


_SMALLEST = float(np.float32(1e-12))  # a float32 constant in torch, in every dtype


@jax.custom_jvp
def _cross_entropy_of(p: jax.Array, y: jax.Array) -> jax.Array:
    return (y - 1) * jnp.maximum(jnp.log1p(-p), -100) - y * jnp.maximum(jnp.log(p), -100)


def _cross_entropy_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]
) -> tuple[jax.Array, jax.Array]:
    """torch's gradients: p's divides by 1e-12 at least, y's knows no clamp."""
    (p, y), (along_p, along_y) = primals, tangents
    out, tangent = _cross_entropy_of(p, y), jnp.zeros_like(p)
    if not isinstance(along_p, SymbolicZero):
        tangent = tangent + along_p * (p - y) / jnp.maximum((1 - p) * p, _SMALLEST)
    if not isinstance(along_y, SymbolicZero):
        tangent = tangent + along_y * (jnp.log1p(-p) - jnp.log(p))
    return out, tangent


_cross_entropy_of.defjvp(_cross_entropy_jvp, symbolic_zeros=True)


def _scaled(loss: jax.Array, weight: jax.Array | None, who: str, what: str = "weight") -> jax.Array:
    return loss if weight is None else loss * _spread(weight, loss, who, what)


def _spread(weight: jax.Array, like: jax.Array, who: str, what: str) -> jax.Array:
    """Broadcast a weight to the shape of the loss, and no further."""
    try:
        return jnp.broadcast_to(weight.astype(like.dtype), like.shape)
    except ValueError:
        raise ValueError(
            f"{who}: {what} of shape {tuple(weight.shape)} does not broadcast to the input's shape "
            f"{tuple(like.shape)}."
        ) from None


def binary_cross_entropy_with_logits(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: jax.Array | None = None,
) -> jax.Array:
    """Return ``binary_cross_entropy`` of ``sigmoid(input)``, without overflow.

    The twin of ``torch.nn.functional.binary_cross_entropy_with_logits``.

    Args:
        pos_weight: factor of the positive term, broadcast to the input's shape.

    Raises:
        TypeError: an input or target that is not of floats.
        ValueError: shapes differ.

    >>> binary_cross_entropy_with_logits(jnp.array([-1000.0]), jnp.array([1.0])).item()
    1000.0

    Source: torch.nn.functional.binary_cross_entropy_with_logits, PyTorch 2.13 documentation.
    """
    who = "binary_cross_entropy_with_logits"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_floating(input, who)
    check_floating(target, f"{who}, target")
    same_shape(input, target, who, "target")
    x, y, dtype = pair(input, target, who)
    log_sigmoid = -jnp.logaddexp(-x, 0)
    if pos_weight is not None:
        log_sigmoid = log_sigmoid * ((_spread(pos_weight, x, who, "pos_weight") - 1) * y + 1)
    loss = (1 - y) * x - log_sigmoid
    return reduced(_scaled(loss, weight, who), reduction, who).astype(dtype)


def kl_div(
    input: jax.Array,
    target: jax.Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> jax.Array:
    """Return ``target * (log(target) - input)``; ``input`` holds log-probabilities.

    The twin of ``torch.nn.functional.kl_div``.

    Args:
        reduction: 'batchmean' divides the sum by the length of input's first axis, which is the
            divergence itself; 'mean' divides by the number of elements.
        log_target: the target holds log-probabilities too.

    Raises:
        TypeError: an input or target that is not of floats.
        ValueError: the shapes do not broadcast.

    >>> kl_div(jnp.log(jnp.full((1, 2), 0.5)), jnp.full((1, 2), 0.5), reduction="batchmean").item()
    0.0

    Source: torch.nn.functional.kl_div, PyTorch 2.13 documentation.
    """
    who = "kl_div"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_reduction(reduction, who, (*REDUCTIONS, "batchmean"))
    check_floating(input, who)
    check_floating(target, f"{who}, target")
    x, y, dtype = pair(input, target, who, warn=False)
    loss = jnp.exp(y) * (y - x) if log_target else xlogy(y, y) - y * x
    if reduction != "batchmean":
        return reduced(loss, reduction, who).astype(dtype)
    return (jnp.sum(loss) / (input.shape[0] if input.ndim else 1)).astype(dtype)
