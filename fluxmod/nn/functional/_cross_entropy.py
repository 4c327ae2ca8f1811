"""Cross-entropy and negative log-likelihood over classes."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from ._loss import reduce
from ._softmax import log_softmax

__all__ = ["cross_entropy", "nll_loss"]

# C classes, * any further axes


def cross_entropy(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    channels_last: bool = False,
) -> jax.Array:
    """Return ``-log softmax(input)[target]``; the twin of ``torch.nn.functional.cross_entropy``.

    Shape:
        input: (C), (N, C) or (N, C, *), or (N, *, C) with ``channels_last``;
        target: labels without the class axis, or probabilities of input's shape;
        returns the labels' shape, or a scalar.

    Args:
        weight: (C), the weight of each class; 'mean' divides by the weights of the labels.
        ignore_index: a label that counts for nothing; torch raises for other labels outside
            [0, C), which give NaN here.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        ValueError: shapes do not fit; ``label_smoothing`` outside [0, 1].

    >>> cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1])).round(4).item()  # doctest: +ELLIPSIS
    0.693...

    Source: torch.nn.functional.cross_entropy, PyTorch 2.13 documentation.
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(
            f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}."
        )
    logits, target = _classes_last(input, target, channels_last, "cross_entropy")
    log_p = log_softmax(logits, -1)
    _check_weight(weight, log_p.shape[-1], "cross_entropy")
    if jnp.issubdtype(target.dtype, jnp.inexact):
        return _of_probabilities(log_p, target, weight, reduction, label_smoothing)
    loss, share = _of_labels(log_p, target, weight, ignore_index)
    if label_smoothing > 0.0:
        w = jnp.ones(log_p.shape[-1], log_p.dtype) if weight is None else weight
        smooth = jnp.where(target == ignore_index, 0.0, -(log_p * w).sum(-1))
        loss = (1.0 - label_smoothing) * loss + label_smoothing / log_p.shape[-1] * smooth
    return _weighted(loss, share, reduction, "cross_entropy")


def nll_loss(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    channels_last: bool = False,
) -> jax.Array:
    """Return ``-input[target]`` of log-probabilities; ``torch.nn.functional.nll_loss``.

    Shapes, arguments and errors as in ``cross_entropy``, with labels only.

    >>> nll_loss(jnp.array([[-1.0, -2.0]]), jnp.array([1])).item()
    2.0

    Source: torch.nn.functional.nll_loss, PyTorch 2.13 documentation.
    """
    log_p, target = _classes_last(input, target, channels_last, "nll_loss")
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(f"nll_loss: expected integer labels, got {target.dtype}.")
    _check_weight(weight, log_p.shape[-1], "nll_loss")
    loss, share = _of_labels(log_p, target, weight, ignore_index)
    return _weighted(loss, share, reduction, "nll_loss")


def _classes_last(
    input: jax.Array, target: jax.Array, channels_last: bool, who: str
) -> tuple[jax.Array, jax.Array]:
    """Move the class axis to the end, of probabilities too, and check that shapes fit."""
    if input.ndim == 0:
        raise ValueError(f"{who}: expected an input with a class axis, got a scalar.")
    probabilities = jnp.issubdtype(target.dtype, jnp.inexact)
    move = input.ndim > 2 and not channels_last
    logits = jnp.moveaxis(input, 1, -1) if move else input
    wanted = logits.shape if probabilities else logits.shape[:-1]
    target = jnp.moveaxis(target, 1, -1) if move and probabilities else target
    if target.shape != wanted:
        kind = "probabilities" if probabilities else "labels"
        raise ValueError(
            f"{who}: expected {kind} of shape {tuple(wanted)} for input {tuple(input.shape)} "
            f"(class axis {'last' if not move else 1}), got shape {tuple(target.shape)}."
        )
    return logits, target


def _check_weight(weight: jax.Array | None, classes: int, who: str) -> None:
    if weight is not None and weight.shape != (classes,):
        raise ValueError(
            f"{who}: expected one weight for each of the {classes} classes, got shape "
            f"{tuple(weight.shape)}."
        )


def _of_labels(
    log_p: jax.Array, target: jax.Array, weight: jax.Array | None, ignore_index: int
) -> tuple[jax.Array, jax.Array]:
    """Loss and weight of each label; an ignored one has neither, one outside the range is NaN."""
    classes = log_p.shape[-1]
    kept = target != ignore_index
    outside = kept & ((target < 0) | (target >= classes))
    label = jnp.where(kept & ~outside, target, 0)
    share = jnp.ones_like(log_p, shape=label.shape) if weight is None else weight[label]
    share = jnp.where(kept, share, 0.0).astype(log_p.dtype)
    picked = jnp.take_along_axis(log_p, label[..., None], axis=-1)[..., 0]
    loss = jnp.where(kept, -picked, 0.0) * share
    return jnp.where(outside, jnp.nan, loss), share


def _weighted(loss: jax.Array, share: jax.Array, reduction: str, who: str) -> jax.Array:
    if reduction == "mean":
        return loss.sum() / share.sum()
    return reduce(loss, reduction, who)


def _of_probabilities(
    log_p: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    reduction: str,
    label_smoothing: float,
) -> jax.Array:
    """Targets that are distributions; 'mean' divides by the number of rows, weights or not."""
    classes = log_p.shape[-1]
    target = target.astype(log_p.dtype)
    if label_smoothing > 0.0:
        target = target * (1.0 - label_smoothing) + label_smoothing / classes
    terms = log_p * target if weight is None else log_p * target * weight
    loss = -terms.sum(-1)
    if reduction == "mean":
        return loss.sum() / math.prod(loss.shape)
    return reduce(loss, reduction, "cross_entropy")
