"""Losses that ask for a margin: between classes, between two inputs, or from a sign."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fluxmod.nn._check import check_floating
from fluxmod.nn._checked import check_indices

from ._activation_smooth import logsigmoid
from ._distance import both
from ._half import compute_dtype
from ._reduction import check_reduction, chosen_reduction, common_dtype, pair, reduced, same_shape

__all__ = [
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
]

# N batch, C classes


def hinge_embedding_loss(
    input: jax.Array,
    target: jax.Array,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return the distance where the target is 1, and ``margin`` less it where it is -1.

    The twin of ``torch.nn.functional.hinge_embedding_loss``.

    Raises:
        TypeError: an input that is not of floats.
        ValueError: the shapes do not broadcast.

    >>> hinge_embedding_loss(jnp.array([0.5, 0.25]), jnp.array([1, -1]), reduction="none").tolist()
    [0.5, 0.75]

    Source: torch.nn.functional.hinge_embedding_loss, PyTorch 2.13 documentation.
    """
    who = "hinge_embedding_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_floating(input, who)
    x, y, _ = pair(input, target, who, warn=False)
    apart = jnp.where(y == 1, 0, at_least_zero(margin - x))
    near = jnp.where(y == -1, 0, x)
    return reduced(apart + near, reduction, who).astype(input.dtype)


def margin_ranking_loss(
    input1: jax.Array,
    input2: jax.Array,
    target: jax.Array,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``max(0, margin - target * (input1 - input2))`` for a target of 1 or -1.

    The twin of ``torch.nn.functional.margin_ranking_loss``.

    Raises:
        TypeError: inputs that are not of floats.
        ValueError: arrays of different rank; shapes that do not broadcast.

    >>> margin_ranking_loss(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1])).item()
    2.0

    Source: torch.nn.functional.margin_ranking_loss, PyTorch 2.13 documentation.
    """
    who = "margin_ranking_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    if not input1.ndim == input2.ndim == target.ndim:
        raise ValueError(
            f"{who}: expected arrays of one rank, got shapes input1 {tuple(input1.shape)}, input2 "
            f"{tuple(input2.shape)}, target {tuple(target.shape)}."
        )
    a, b, dtype = both(input1, input2, who, integers=True)
    d, y, _ = pair(a - b, target, who, warn=False)
    loss = reduced(at_least_zero(margin - y * d), reduction, who)
    return loss.astype(common_dtype(jnp.zeros((), dtype), target))


def at_least_zero(x: jax.Array) -> jax.Array:
    """``max(0, x)`` whose gradient at 0 is 1, as ``clamp_min`` has it in torch."""
    return jnp.where(x < 0, 0, x)


def soft_margin_loss(
    input: jax.Array,
    target: jax.Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return ``log(1 + exp(-target * input))`` for a target of 1 or -1.

    The twin of ``torch.nn.functional.soft_margin_loss``; as there, it overflows to infinity.

    Raises:
        TypeError: an input that is not of floats.
        ValueError: shapes differ.

    >>> f"{soft_margin_loss(jnp.array([0.0]), jnp.array([1])):.4f}"
    '0.6931'

    Source: torch.nn.functional.soft_margin_loss, PyTorch 2.13 documentation.
    """
    who = "soft_margin_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_floating(input, who)
    x, y, _ = pair(input, target, who, warn=False)
    return reduced(jnp.log1p(jnp.exp(-y * x)), reduction, who).astype(input.dtype)


def multilabel_soft_margin_loss(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return the mean over classes of the binary cross-entropy of logits.

    The twin of ``torch.nn.functional.multilabel_soft_margin_loss``.

    Shape:
        input, target: (*, C); weight: broadcasts to it; returns (*), or a scalar.

    Raises:
        TypeError: an input that is not of floats.
        ValueError: the shapes do not broadcast.

    >>> f"{multilabel_soft_margin_loss(jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]])):.4f}"
    '0.6931'

    Source: torch.nn.functional.multilabel_soft_margin_loss, PyTorch 2.13 documentation.
    """
    who = "multilabel_soft_margin_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_floating(input, who)
    x, y, dtype = pair(input, target, who, warn=False)
    loss = -(y * logsigmoid(x) + (1 - y) * logsigmoid(-x))
    if weight is not None:
        loss, factors, _ = pair(loss, weight, f"{who}, weight", warn=False)
        loss = loss * factors
    classes = input.shape[-1] if input.ndim else 1
    loss = (jnp.sum(loss, -1) if loss.ndim else loss) / (classes or jnp.nan)
    return reduced(loss, reduction, who).astype(dtype)


def multi_margin_loss(
    input: jax.Array,
    target: jax.Array,
    p: int = 1,
    margin: float = 1.0,
    weight: jax.Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return the mean over the other classes' ``max(0, margin - input[target] + input)^p``.

    The twin of ``torch.nn.functional.multi_margin_loss``.

    Shape:
        input: (C) or (N, C); target: () or (N); returns the target's shape, or a scalar.

    Args:
        weight: (C), a factor for each target class.

    Raises:
        IndexError: labels outside [0, C), where they are known; in compiled code they give NaN.
        TypeError: an input that is not of floats; labels that are not integers.
        ValueError: ``p`` is neither 1 nor 2; shapes do not fit.

    >>> multi_margin_loss(jnp.array([[0.0, 0.5]]), jnp.array([0])).item()
    0.75

    Source: torch.nn.functional.multi_margin_loss, PyTorch 2.13 documentation.
    """
    who = "multi_margin_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_reduction(reduction, who)
    if p not in (1, 2):
        raise ValueError(f"{who}: p must be 1 or 2, got {p}.")
    x = _rows(input, who)
    _check_labels(target, who)
    if target.ndim > 1 or target.size != x.shape[0]:
        raise ValueError(
            f"{who}: expected one label for each of the {x.shape[0]} rows of input shape "
            f"{tuple(input.shape)}, got shape {tuple(target.shape)}."
        )
    classes = x.shape[1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(
            f"{who}: expected one weight for each of the {classes} classes, got shape "
            f"{tuple(weight.shape)}."
        )
    check_indices(target, classes, who, "labels")
    labels = target.reshape(-1, 1)
    known = (labels >= 0) & (labels < classes)
    labels = jnp.where(known, labels, 0)
    short = margin - jnp.take_along_axis(x, labels, 1) + x
    terms = jnp.where(short > 0, short, 0) ** p
    if weight is not None:
        terms = terms * jnp.take(weight.astype(x.dtype), labels)
    others = np.arange(classes)[None] != labels
    loss = jnp.sum(jnp.where(others, terms, 0), 1) / classes
    loss = jnp.where(known[:, 0], loss, jnp.nan)
    return _of_rows(loss, reduction, target.shape, who).astype(input.dtype)


def multilabel_margin_loss(
    input: jax.Array,
    target: jax.Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Return the mean of ``max(0, 1 - (input[label] - input[other]))`` over labels and others.

    The twin of ``torch.nn.functional.multilabel_margin_loss``.

    Shape:
        input: (C) or (N, C); target: the same; returns () or (N), or a scalar.

    Args:
        target: the labels of each row in front, then -1, then anything.

    Raises:
        IndexError: labels outside [-1, C), where they are known.
        TypeError: an input that is not of floats; labels that are not integers.
        ValueError: shapes differ.

    >>> multilabel_margin_loss(jnp.array([0.0, 0.5]), jnp.array([0, -1])).item()
    0.75

    Source: torch.nn.functional.multilabel_margin_loss, PyTorch 2.13 documentation.
    """
    who = "multilabel_margin_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_reduction(reduction, who)
    x = _rows(input, who)
    _check_labels(target, who)
    same_shape(input, target, who, "target")
    classes = x.shape[1]
    check_indices(target, classes, who, "labels", ignore=-1)
    labels = target.reshape(x.shape)
    listed = jnp.cumsum(labels < 0, 1) == 0
    rows = jnp.arange(x.shape[0])[:, None]
    # what is not listed goes where nothing is
    marked = jnp.zeros(x.shape, bool).at[rows, jnp.where(listed, labels, classes)].set(True)
    own = jnp.take_along_axis(x, jnp.where(listed, labels, 0), 1)
    short = 1 - own[:, :, None] + x[:, None, :]  # (N, label, other)
    counts = listed[:, :, None] & ~marked[:, None, :] & (short > 0)
    loss = jnp.sum(jnp.where(counts, short, 0), (1, 2)) / classes
    return _of_rows(loss, reduction, input.shape[:-1], who).astype(input.dtype)


# --- what fits ----------------------------------------------------------------------------------


def _rows(input: jax.Array, who: str) -> jax.Array:
    """The input as (N, C) in the dtype to compute in."""
    check_floating(input, who)
    if input.ndim > 2 or (input.ndim and input.shape[-1] == 0):
        raise ValueError(
            f"{who}: expected an input of shape (C) or (N, C) with at least one class, got "
            f"{tuple(input.shape)}."
        )
    rows = input.shape[0] if input.ndim == 2 else 1
    x = input.astype(compute_dtype(input.dtype))
    return x.reshape(rows, input.shape[-1] if input.ndim else 1)


def _check_labels(target: jax.Array, who: str) -> None:
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(f"{who}: labels must be integers, got {target.dtype}.")


def _of_rows(loss: jax.Array, reduction: str, shape: tuple[int, ...], who: str) -> jax.Array:
    return loss.reshape(shape) if reduction == "none" else reduced(loss, reduction, who)
