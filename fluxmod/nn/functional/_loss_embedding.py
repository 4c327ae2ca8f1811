"""Losses over vectors that should be near to or far from each other."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ._distance import both, pairwise_distance
from ._loss_margin import at_least_zero
from ._reduction import check_reduction, chosen_reduction, reduced

__all__ = [
    "cosine_embedding_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]

Distance = Callable[[jax.Array, jax.Array], jax.Array]


_SMALLEST = float(np.float32(1e-12))  # a float32 constant in torch, in every dtype


def cosine_embedding_loss(
    input1: jax.Array,
    input2: jax.Array,
    target: jax.Array,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``1 - cos`` where the target is 1, ``max(0, cos - margin)`` where it is -1.

    The twin of ``torch.nn.functional.cosine_embedding_loss``.

    Shape:
        input1, input2: (N, D) with target (N), or (D) with a scalar target; returns the target's
        shape, or a scalar.

    Raises:
        TypeError: inputs that are not of floats.
        ValueError: ranks or shapes do not fit.

    >>> a = jnp.array([[1.0, 0.0]])
    >>> cosine_embedding_loss(a, a, jnp.array([-1])).item()
    1.0

    Source: torch.nn.functional.cosine_embedding_loss, PyTorch 2.13 documentation.
    """
    who = "cosine_embedding_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    rank = target.ndim + 1
    if rank > 2 or not input1.ndim == input2.ndim == rank:
        raise ValueError(
            f"{who}: expected inputs (N, D) with a target (N), or (D) with a scalar, got shapes "
            f"input1 {tuple(input1.shape)}, input2 {tuple(input2.shape)}, target "
            f"{tuple(target.shape)}."
        )
    a, b, dtype = both(input1, input2, who, integers=True)
    try:
        jnp.broadcast_shapes(a.shape[:-1], target.shape)
    except ValueError:
        raise ValueError(
            f"{who}: target of shape {tuple(target.shape)} does not fit inputs of shape "
            f"{tuple(a.shape)}."
        ) from None
    product, square1, square2 = (jnp.sum(x, -1) for x in (a * b, a * a, b * b))
    cosine = product / jnp.sqrt((square1 + _SMALLEST) * (square2 + _SMALLEST))
    alike = jnp.where(target == 1, 1 - cosine, 0)
    unlike = jnp.where(target == -1, at_least_zero(cosine - margin), 0)
    return reduced(alike + unlike, reduction, who).astype(dtype)


def triplet_margin_loss(
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``max(0, margin + d(anchor, positive) - d(anchor, negative))``.

    The twin of ``torch.nn.functional.triplet_margin_loss``; ``d`` is ``pairwise_distance``.

    Shape:
        anchor, positive, negative: (N, D) or (D); returns (N) or (), or a scalar.

    Args:
        swap: use d(positive, negative) where it is the smaller one.

    Raises:
        TypeError: inputs that are not of floats.
        ValueError: arrays of different rank; ``margin`` not above 0.

    >>> zero, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> f"{triplet_margin_loss(zero, one, one):.4f}"
    '1.0000'

    Source: torch.nn.functional.triplet_margin_loss, PyTorch 2.13 documentation; Balntas et al.,
    2016.
    """
    reduction = chosen_reduction(size_average, reduce, reduction, "triplet_margin_loss")
    return _triplet(
        "triplet_margin_loss",
        lambda a, b: pairwise_distance(a, b, p, eps),
        (anchor, positive, negative),
        margin,
        swap,
        reduction,
    )


def triplet_margin_with_distance_loss(
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``triplet_margin_loss`` with a distance of your own.

    The twin of ``torch.nn.functional.triplet_margin_with_distance_loss``; errors as in
    ``triplet_margin_loss``.

    Args:
        distance_function: takes two arrays and returns their distances; ``pairwise_distance``
            unless given.

    >>> zero, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> l1 = lambda a, b: jnp.abs(a - b).sum(-1)
    >>> triplet_margin_with_distance_loss(zero, one, 3 * one, distance_function=l1).item()
    0.0

    Source: torch.nn.functional.triplet_margin_with_distance_loss, PyTorch 2.13 documentation.
    """
    return _triplet(
        "triplet_margin_with_distance_loss",
        pairwise_distance if distance_function is None else distance_function,
        (anchor, positive, negative),
        margin,
        swap,
        reduction,
    )


def _triplet(
    who: str,
    distance: Distance,
    arrays: tuple[jax.Array, jax.Array, jax.Array],
    margin: float,
    swap: bool,
    reduction: str,
) -> jax.Array:
    check_reduction(reduction, who)
    if margin <= 0:
        raise ValueError(f"{who}: margin must be greater than 0, got {margin}.")
    anchor, positive, negative = arrays
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ValueError(
            f"{who}: expected arrays of one rank, got shapes anchor {tuple(anchor.shape)}, "
            f"positive {tuple(positive.shape)}, negative {tuple(negative.shape)}."
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = jnp.minimum(far, distance(positive, negative))
    return reduced(at_least_zero(margin + near - far), reduction, who)
