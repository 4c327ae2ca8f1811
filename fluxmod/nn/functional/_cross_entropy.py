"""Cross-entropy and negative log-likelihood over classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_floating
from fluxmod.nn._checked import check_indices

from ._half import compute_dtype
from ._reduction import check_reduction, chosen_reduction, reduced

__all__ = ["cross_entropy", "nll_loss"]

# C classes, * any further axes


def cross_entropy(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
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
        weight: (C), the weight of each class; 'mean' divides by the weights of the labels, or by
            the number of rows where the target holds probabilities.
        size_average, reduce: torch's older words for ``reduction``; they warn, as there.
        ignore_index: a label that counts for nothing.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        IndexError: labels outside [0, C), where they are known; in compiled code they give NaN.
        TypeError: labels that are not integers, probabilities that are.
        ValueError: shapes do not fit; ``label_smoothing`` outside [0, 1].

    >>> f"{cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1])):.4f}"
    '0.6931'

    Source: torch.nn.functional.cross_entropy, PyTorch 2.13 documentation.
    """
    who = "cross_entropy"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_reduction(reduction, who)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{who}: label_smoothing must be between 0 and 1, got {label_smoothing}.")
    axis = _class_axis(input, channels_last, who)
    soft = _is_soft(input, target, axis, ignore_index, who)
    logits = jnp.moveaxis(input, axis, -1)
    classes = logits.shape[-1]
    log_p = logits.astype(compute_dtype(input.dtype))
    log_p = jax.nn.log_softmax(log_p, -1) if logits.size else log_p
    weight = _class_weight(weight, log_p, who)
    if soft:
        dtype = jnp.promote_types(input.dtype, target.dtype)
        p = jnp.moveaxis(target, axis, -1)
        return _of_probabilities(log_p, p, weight, reduction, label_smoothing).astype(dtype)
    loss, share = _of_labels(log_p, target, weight, ignore_index, who)
    if label_smoothing > 0.0:
        smooth = -(log_p if weight is None else log_p * weight).sum(-1)
        smooth = jnp.where(target == ignore_index, 0.0, smooth)
        loss = (1.0 - label_smoothing) * loss + label_smoothing / classes * smooth
    return _over_shares(loss, share, reduction, who).astype(input.dtype)


def nll_loss(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
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
    who = "nll_loss"
    reduction = chosen_reduction(size_average, reduce, reduction, who)
    check_reduction(reduction, who)
    axis = _class_axis(input, channels_last, who)
    _check_labels(input, target, axis, who)
    log_p = jnp.moveaxis(input, axis, -1).astype(compute_dtype(input.dtype))
    if weight is not None and weight.dtype != input.dtype:
        raise TypeError(f"{who}: expected a weight of dtype {input.dtype}, got {weight.dtype}.")
    weight = _class_weight(weight, log_p, who)
    loss, share = _of_labels(log_p, target, weight, ignore_index, who)
    return _over_shares(loss, share, reduction, who).astype(input.dtype)


# --- what fits ----------------------------------------------------------------------------------


def _class_axis(input: jax.Array, channels_last: bool, who: str) -> int:
    check_floating(input, who)
    if input.ndim == 0:
        raise ValueError(f"{who}: expected an input with a class axis, got a scalar.")
    return 1 if input.ndim > 1 and not channels_last else input.ndim - 1


def _is_soft(input: jax.Array, target: jax.Array, axis: int, ignore_index: int, who: str) -> bool:
    """Whether the target holds probabilities: as in torch, by its shape."""
    floating = jnp.issubdtype(target.dtype, jnp.floating)
    if target.shape != input.shape:
        if floating and target.ndim == input.ndim:
            raise ValueError(
                f"{who}: expected probabilities of the input's shape {tuple(input.shape)}, got "
                f"shape {tuple(target.shape)}."
            )
        _check_labels(input, target, axis, who)
        return False
    if not floating:
        raise TypeError(
            f"{who}: a target of the input's shape {tuple(input.shape)} holds probabilities and "
            f"must be of floats, got {target.dtype}. Labels have no class axis."
        )
    if ignore_index >= 0:
        raise ValueError(f"{who}: ignore_index={ignore_index} needs labels, got probabilities.")
    return True


def _check_labels(input: jax.Array, target: jax.Array, axis: int, who: str) -> None:
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(f"{who}: labels must be integers, got {target.dtype}.")
    wanted = input.shape[:axis] + input.shape[axis + 1 :]
    if target.shape == wanted:
        return
    hint = ""
    if input.ndim > 2:
        last = axis == input.ndim - 1
        other = input.shape[:1] + input.shape[2:] if last else input.shape[:-1]
        if target.shape == other:
            hint = f" They fit channels_last={not last}."
    raise ValueError(
        f"{who}: expected labels of shape {tuple(wanted)} for an input of shape "
        f"{tuple(input.shape)} with the classes on axis {axis}, got shape {tuple(target.shape)}."
        f"{hint}"
    )


def _class_weight(weight: jax.Array | None, log_p: jax.Array, who: str) -> jax.Array | None:
    if weight is None:
        return None
    if weight.shape != log_p.shape[-1:]:
        raise ValueError(
            f"{who}: expected one weight for each of the {log_p.shape[-1]} classes, got shape "
            f"{tuple(weight.shape)}."
        )
    weight = weight.astype(log_p.dtype)
    return weight.reshape((1,) * (log_p.ndim - 1) + (-1,))


# --- what it costs ------------------------------------------------------------------------------


def _of_labels(
    log_p: jax.Array, target: jax.Array, weight: jax.Array | None, ignore_index: int, who: str
) -> tuple[jax.Array, jax.Array]:
    """Loss and weight of each label; an ignored one has neither, one outside the range is NaN."""
    classes = log_p.shape[-1]
    check_indices(target, classes, who, "labels", ignore=ignore_index)
    kept = target != ignore_index
    outside = kept & ((target < 0) | (target >= classes))
    label = jnp.where(kept & ~outside, target, 0)
    share = jnp.ones(label.shape, log_p.dtype)
    if weight is not None:
        share = jnp.take(weight.reshape(-1), label, axis=0, mode="clip")
    share = jnp.where(kept, share, 0.0)
    picked = jnp.take_along_axis(log_p, label[..., None], axis=-1, mode="clip")[..., 0]
    loss = jnp.where(kept, -picked * share, 0.0)
    return jnp.where(outside, jnp.nan, loss), share


def _over_shares(loss: jax.Array, share: jax.Array, reduction: str, who: str) -> jax.Array:
    if reduction == "mean":
        return _total(loss) / _total(share)
    return reduced(loss, reduction, who)


def _total(terms: jax.Array) -> jax.Array:
    """The sum, in two rounds where there are rows: weights of both signs may cancel in it.

    XLA's loops on the CPU add one number to the next, with an error of their count.
    """
    if terms.ndim < 2:
        return terms.sum()
    return lax.optimization_barrier(terms.sum(range(1, terms.ndim))).sum()


def _of_probabilities(
    log_p: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    reduction: str,
    label_smoothing: float,
) -> jax.Array:
    """Targets that are distributions; 'mean' divides by the number of rows, weights or not."""
    dtype = jnp.promote_types(log_p.dtype, target.dtype)
    log_p, target = log_p.astype(dtype), target.astype(dtype)
    if label_smoothing > 0.0:
        target = target * (1.0 - label_smoothing) + label_smoothing / log_p.shape[-1]
    terms = log_p * target
    loss = -(terms if weight is None else terms * weight.astype(dtype)).sum(-1)
    if reduction == "mean":
        return loss.sum() / (loss.size if log_p.size else 0)  # 0 / 0 is torch's NaN
    return reduced(loss, reduction, "cross_entropy")
