"""Cross-entropy of a linear layer's output, without ever holding all logits if so asked."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._checked import check_indices

from ._cross_entropy import cross_entropy
from ._half import compute_dtype
from ._linear import linear
from ._reduction import check_reduction, reduced

__all__ = ["linear_cross_entropy"]

# N batch, C classes, K sizes of further axes of the loss


def linear_cross_entropy(
    input: jax.Array,
    linear_kernel: jax.Array,
    target: jax.Array,
    *,
    linear_bias: jax.Array | None = None,
    weight: jax.Array | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
    precision: Any = None,
) -> jax.Array:
    """Return ``cross_entropy(linear(input, linear_kernel, linear_bias), target)``.

    The twin of ``torch.nn.functional.linear_cross_entropy`` (torch 2.13).

    Shape:
        input: (in) or (N, in); linear_kernel: (in, C, *K); linear_bias: (C, *K); target: labels
        () or (N, *K), or probabilities (C) or (N, C, *K); returns the labels' shape, or a scalar.

    Args:
        ignore_index: a label that counts for nothing; -100 unless given.
        options: an ``nn.LinearCrossEntropyOptions``: the rows go through in chunks, forward and
            backward, so that the logits of one chunk are all that is held. Ignored, as in torch,
            for probabilities, label smoothing and further axes.

    Raises:
        ValueError: shapes that do not fit; ``ignore_index`` beside probabilities; and as
            ``cross_entropy``.

    >>> x, kernel = jnp.ones((1, 3)), jnp.zeros((3, 2))
    >>> f"{linear_cross_entropy(x, kernel, jnp.array([1])):.4f}"
    '0.6931'

    Source: torch.nn.functional.linear_cross_entropy, PyTorch 2.13 documentation.
    """
    who = "linear_cross_entropy"
    shape = _logits_shape(input, linear_kernel, linear_bias, who)
    soft = target.shape == shape
    if soft and ignore_index is not None:
        raise ValueError(
            f"{who}: ignore_index={ignore_index} needs labels, got a target of the logits' shape "
            f"{shape}, which holds probabilities."
        )
    ignored = -100 if ignore_index is None else ignore_index
    wide = math.prod(linear_kernel.shape[1:])
    kernel = linear_kernel.reshape(input.shape[-1], wide)
    bias = None if linear_bias is None else linear_bias.reshape(wide)
    plain = linear_kernel.ndim == 2 and not soft and label_smoothing == 0.0
    whole = options is None or not plain or not input.shape[0]
    one_row = not whole and input.ndim == 1
    if one_row:
        input, target = input[None], jnp.asarray(target)[None]

    def losses(rows: jax.Array, labels: jax.Array, how: str) -> jax.Array:
        if whole:
            logits = linear(rows, kernel, bias, precision=precision)
            logits = logits.reshape(*rows.shape[:-1], *linear_kernel.shape[1:])
        else:  # logits of half precision would be rounded before they are exponentiated
            wide_type = compute_dtype(rows.dtype)
            logits = jnp.matmul(rows, kernel, precision=precision, preferred_element_type=wide_type)
            logits = logits if bias is None else logits + bias.astype(wide_type)
        return cross_entropy(
            logits,
            labels,
            weight,
            ignore_index=ignored,
            reduction=how,
            label_smoothing=label_smoothing,
        )

    if whole:
        return losses(input, target, reduction)
    check_reduction(reduction, who)
    check_indices(target, wide, who, "labels", ignore=ignored)
    size = rows_per_chunk(options, input.shape[0], input.shape[1], wide)
    loss = _in_chunks(losses, input, target, size, ignored)
    if one_row and reduction == "none":
        loss = loss[0]
    if reduction != "mean":
        return reduced(loss, reduction, who).astype(input.dtype)
    share = jnp.ones((wide,), loss.dtype) if weight is None else weight.astype(loss.dtype)
    share = jnp.where(target == ignored, 0, jnp.take(share, target, mode="clip"))
    return (loss.sum() / share.sum()).astype(input.dtype)


def rows_per_chunk(options: Any, rows: int, features: int, classes: int) -> int:
    """How many rows go through at once: as many as asked for, or as fit the input's size.

    Raises:
        ValueError: a number of rows and a method that say different things.

    >>> from fluxmod.nn import LinearCrossEntropyOptions
    >>> rows_per_chunk(LinearCrossEntropyOptions(chunking_method="aspect_ratio:2"), 64, 8, 32)
    8
    """
    asked, method = options.batch_chunk_size, options.chunking_method
    if method is None or (method == "auto" and asked is not None):
        return rows if asked is None else min(asked, rows)
    factor = 2 if method == "auto" else int(method.partition(":")[2] or 1)
    # a chunk's logits are as many numbers as the whole input
    balanced = -(-rows // max(-(-classes // max(features, 1)), 1))
    size = min((1 << (balanced - 1).bit_length()) // factor, rows)
    if asked is not None and asked != size:
        raise ValueError(
            f"LinearCrossEntropyOptions: batch_chunk_size={asked} and "
            f"chunking_method={method!r}, which gives {size}, exclude each other."
        )
    return max(size, 1)


def _logits_shape(
    input: jax.Array, kernel: jax.Array, bias: jax.Array | None, who: str
) -> tuple[int, ...]:
    """Check all shapes at once; the shape the logits will have."""
    shapes = f"input {tuple(input.shape)}, linear_kernel {tuple(kernel.shape)}"
    problems = []
    if input.ndim not in (1, 2):
        problems.append("input must have 1 or 2 axes")
    if kernel.ndim < 2:
        problems.append("linear_kernel must have at least 2 axes (in, C)")
    elif input.ndim and input.shape[-1] != kernel.shape[0]:
        problems.append("input's last axis must be linear_kernel's first")
    if bias is not None and bias.shape != kernel.shape[1:]:
        problems.append(f"linear_bias must have shape {kernel.shape[1:]}, got {bias.shape}")
    if kernel.ndim > 2 and input.ndim == 1:
        problems.append("a loss with further axes needs a batch")
    if problems:
        raise ValueError(f"{who}: {'; '.join(problems)}. Got {shapes}.")
    return (*input.shape[:-1], *kernel.shape[1:])


def _in_chunks(
    losses: Any, input: jax.Array, target: jax.Array, size: int, ignored: int
) -> jax.Array:
    """The loss of every row; logits are made again in the backward pass, chunk by chunk."""
    count = input.shape[0]
    missing = -count % size
    rows = jnp.pad(input, ((0, missing), (0, 0))).reshape(-1, size, input.shape[1])
    labels = jnp.pad(target, (0, missing), constant_values=ignored).reshape(-1, size)

    @jax.checkpoint
    def chunk(one: tuple[jax.Array, jax.Array]) -> jax.Array:
        return losses(*one, "none")

    return lax.map(chunk, (rows, labels)).reshape(-1)[:count]
