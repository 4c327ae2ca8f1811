"""Connectionist temporal classification."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod.nn._check import check_floating
from fluxmod.nn._checked import concrete

from ._half import compute_dtype
from ._reduction import check_reduction, reduced

__all__ = ["ctc_loss"]

# T time steps, N batch, C classes, S labels, E = 2 S + 1 labels with blanks around them

Lengths = jax.Array | Sequence[int] | int


def ctc_loss(
    log_probs: jax.Array,
    targets: jax.Array,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> jax.Array:
    """Return the negative log-probability of all alignments of the labels with the input.

    The twin of ``torch.nn.functional.ctc_loss``. The gradient is torch's: it is that of logits
    whose ``log_softmax`` the input is, so it is right only behind one.

    Shape:
        log_probs: (T, N, C) or (T, C); targets: (N, S), or all labels one after another
        (sum(target_lengths)); both lengths: (N), or a scalar without batch; returns (N), or a
        scalar.

    Args:
        reduction: 'mean' divides each loss by its number of labels before it averages.
        zero_infinity: 0 in place of an infinite loss and of its gradient: that of labels which
            do not fit into the input.

    Raises:
        TypeError: ``log_probs`` not of floats, labels or lengths not of integers.
        ValueError: ``blank`` outside [0, C); shapes that do not fit; lengths beyond their array
            or below 0, where they are known.

    >>> half = jnp.log(jnp.full((2, 1, 2), 0.5))
    >>> f"{ctc_loss(half, jnp.array([[1]]), (2,), (1,), reduction='sum'):.4f}"  # -log(3 / 4)
    '0.2877'

    Source: torch.nn.functional.ctc_loss, PyTorch 2.13 documentation; Graves et al., 2006.
    """
    who = "ctc_loss"
    check_reduction(reduction, who)
    check_floating(log_probs, who)
    batched = log_probs.ndim == 3
    if log_probs.ndim not in (2, 3) or log_probs.size == 0:
        raise ValueError(
            f"{who}: expected log_probs (T, N, C) or (T, C) that hold something, got shape "
            f"{tuple(log_probs.shape)}."
        )
    x = log_probs.astype(compute_dtype(log_probs.dtype))
    x = x if batched else x[:, None]
    _, batch, classes = x.shape
    if not 0 <= blank < classes:
        raise ValueError(f"{who}: blank={blank} must lie in [0, {classes}).")
    steps = _lengths(input_lengths, batch, "input_lengths", x.shape[0])
    counts = _lengths(target_lengths, batch, "target_lengths", None)
    labels = _padded(targets, counts, batch, batched)
    loss = _losses(x, labels, steps, counts, blank, zero_infinity)
    if reduction == "mean":
        loss = loss / jnp.maximum(counts, 1).astype(loss.dtype)
    if reduction == "none" and not batched:
        loss = loss[0]
    return reduced(loss, reduction, who).astype(log_probs.dtype)


def _lengths(given: Lengths, batch: int, name: str, most: int | None) -> jax.Array:
    """One length for each sample, as an array."""
    lengths = jnp.asarray(given).reshape(-1)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"ctc_loss: {name} must be integers, got {lengths.dtype}.")
    if lengths.shape != (batch,):
        raise ValueError(
            f"ctc_loss: {name} must hold one length for each of the {batch} samples, got shape "
            f"{tuple(lengths.shape)}."
        )
    known = concrete(lengths)
    if known is not None and (known.min() < 0 or (most is not None and known.max() > most)):
        limit = "" if most is None else f" and at most {most}, the steps of log_probs"
        raise ValueError(f"ctc_loss: {name} must not be negative{limit}, got {known.tolist()}.")
    return lengths


def _padded(targets: jax.Array, counts: jax.Array, batch: int, batched: bool) -> jax.Array:
    """The labels as (N, S), whichever of the two forms they came in."""
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"ctc_loss: labels must be integers, got {targets.dtype}.")
    known = concrete(counts)
    most = None if known is None else int(known.max())
    if targets.ndim == 2 and batched:
        if targets.shape[0] != batch or (most or 0) > targets.shape[1]:
            raise ValueError(
                f"ctc_loss: expected targets ({batch}, {most or 'S'}) or more, got shape "
                f"{tuple(targets.shape)}."
            )
        return targets[:, :most]
    if targets.ndim != 1 or (known is not None and int(known.sum()) != targets.size):
        total = "sum(target_lengths)" if known is None else int(known.sum())
        raise ValueError(
            f"ctc_loss: expected targets (N, S), or ({total}) one after another, got shape "
            f"{tuple(targets.shape)}."
        )
    starts = jnp.cumsum(counts) - counts
    places = starts[:, None] + jnp.arange(targets.size if most is None else most)[None]
    return jnp.take(targets, places, mode="clip") if targets.size else places


# --- the recursion ------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _losses(
    x: jax.Array,
    labels: jax.Array,
    steps: jax.Array,
    counts: jax.Array,
    blank: int,
    zero_infinity: bool,
) -> jax.Array:
    return _forward(x, labels, steps, counts, blank, zero_infinity)[0]


def _forward(
    x: jax.Array,
    labels: jax.Array,
    steps: jax.Array,
    counts: jax.Array,
    blank: int,
    zero_infinity: bool,
) -> tuple[jax.Array, Any]:
    """Sum over alignments from the front: ``alpha[t, n, e]`` ends at label ``e`` in step ``t``."""
    extended, skips = _extended(labels, blank)
    of_labels = jnp.take_along_axis(x, extended[None], axis=2, mode="clip")  # (T, N, E)
    never = jnp.full(extended.shape, -jnp.inf, x.dtype)
    first = jnp.arange(extended.shape[1])[None] < jnp.where(counts > 0, 2, 1)[:, None]

    def step(alpha: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
        alpha = (
            _log_sum(alpha, _shift(alpha, 1), jnp.where(skips, _shift(alpha, 2), -jnp.inf)) + now
        )
        return alpha, alpha

    start = jnp.where(first, of_labels[0], never)
    alphas = jnp.concatenate([start[None], lax.scan(step, start, of_labels[1:])[1]])
    final = jnp.take_along_axis(alphas, jnp.maximum(steps - 1, 0)[None, :, None], 0)[0]  # (N, E)
    last = 2 * counts[:, None]
    blank_end = jnp.take_along_axis(final, last, 1)
    label_end = jnp.take_along_axis(final, jnp.maximum(last - 1, 0), 1)
    loss = -_log_sum(blank_end, jnp.where(last > 0, label_end, -jnp.inf))[:, 0]
    loss = jnp.where(steps == 0, jnp.where(counts == 0, 0, jnp.inf), loss)
    kept = (x, extended, skips, of_labels, alphas, loss, steps, counts)
    return (jnp.where(jnp.isposinf(loss), 0, loss) if zero_infinity else loss), kept


def _backward(
    blank: int, zero_infinity: bool, kept: Any, cotangent: jax.Array
) -> tuple[jax.Array, None, None, None]:
    """Meet the sums from the front with those from the back: torch's gradient."""
    del blank
    x, extended, skips, of_labels, alphas, loss, steps, counts = kept
    ahead = jnp.concatenate([skips[:, 2:], jnp.zeros_like(skips[:, :2])], 1)[:, : skips.shape[1]]
    ends = jnp.where(_ends(counts, extended), 0.0, -jnp.inf)

    def step(beta: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
        of_label, time = now
        skipped = jnp.where(ahead, _shift(beta, -2), -jnp.inf)
        beta = jnp.where(
            (time == steps - 1)[:, None], ends, _log_sum(beta, _shift(beta, -1), skipped)
        )
        beta = jnp.where((time >= steps)[:, None], -jnp.inf, beta + of_label)
        return beta, beta

    times = jnp.arange(x.shape[0])
    none = jnp.full(extended.shape, -jnp.inf, x.dtype)
    betas = lax.scan(step, none, (of_labels, times), reverse=True)[1]
    both = alphas + betas
    share = jnp.where(jnp.isneginf(both), 0, jnp.exp(both + loss[None, :, None] - of_labels))
    rows = jnp.arange(x.shape[1])[:, None]
    expected = jnp.zeros_like(x).at[:, rows, extended].add(share, mode="drop")
    gradient = jnp.exp(x) - expected
    infinite = jnp.isposinf(loss)[None, :, None]
    gradient = jnp.where(infinite | jnp.isneginf(x), jnp.nan, gradient)
    gradient = gradient * cotangent[None, :, None]
    unused = (times[:, None] >= steps[None])[..., None]
    if zero_infinity:
        unused = unused | infinite
    return jnp.where(unused, 0, gradient), None, None, None


_losses.defvjp(_forward, _backward)


def _extended(labels: jax.Array, blank: int) -> tuple[jax.Array, jax.Array]:
    """Labels with blanks around each, (N, E), and where the blank in front may be skipped."""
    batch, count = labels.shape
    extended = jnp.full((batch, 2 * count + 1), blank, labels.dtype)
    extended = extended.at[:, 1::2].set(labels)
    label = np.arange(2 * count + 1)[None] % 2 == 1
    return extended, label & (extended != _shift(extended, 2, blank))


def _shift(x: jax.Array, by: int, fill: Any = -jnp.inf) -> jax.Array:
    """Move along the last axis, to the back for a positive ``by``."""
    size = x.shape[1]
    edges = ((0, 0), (max(by, 0), max(-by, 0)))
    moved = jnp.pad(x, edges, constant_values=fill)
    return moved[:, :size] if by > 0 else moved[:, -by : size - by]


def _ends(counts: jax.Array, extended: jax.Array) -> jax.Array:
    """Where an alignment may end: at the last label or the blank behind it."""
    place = jnp.arange(extended.shape[1])[None]
    last = 2 * counts[:, None]
    return (place == last) | (place == last - 1)


def _log_sum(*terms: jax.Array) -> jax.Array:
    """``log(sum(exp))`` that is -inf for nothing but -inf."""
    top = functools.reduce(jnp.maximum, terms)
    top = jnp.where(jnp.isneginf(top), 0, top)
    powers = [jnp.exp(term - top) for term in terms]
    return jnp.log(functools.reduce(jnp.add, powers)) + top
