"""Lookup in a table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._checked import check_indices

__all__ = ["embedding"]


def embedding(
    input: jax.Array,
    embedding: jax.Array,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
) -> jax.Array:
    """Pick rows of ``embedding``; the twin of ``torch.nn.functional.embedding``.

    In compiled code an index outside [0, num_embeddings) gives a row of NaN.

    Shape:
        input: any shape, integers; embedding: (num_embeddings, dim); returns (*input, dim).

    Args:
        padding_idx: the row whose gradient is zero; negative counts from the end.
        scale_grad_by_freq: divide each row's gradient by how often its index occurs in ``input``.

    Raises:
        TypeError: indices that are not integers.
        IndexError: indices outside the table, where they are known: outside compiled code and
            inside ``fluxmod.checked``.

    >>> embedding(jnp.array([1, 0]), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]

    Source: torch.nn.functional.embedding, PyTorch 2.13 documentation.
    """
    if not jnp.issubdtype(input.dtype, jnp.integer):
        raise TypeError(f"embedding: indices must be integers, got {input.dtype}.")
    if embedding.ndim != 2:
        raise ValueError(
            f"embedding: the table must have 2 axes, got shape {tuple(embedding.shape)}."
        )
    size = embedding.shape[0]
    check_indices(input, size, "embedding")
    # a negative index would wrap around; send it where the fill value is
    rows = jnp.where(input < 0, size, input)
    out = jnp.take(embedding, rows, axis=0, mode="fill", fill_value=jnp.nan)
    if scale_grad_by_freq:
        counts = jnp.zeros(size, embedding.dtype).at[rows.reshape(-1)].add(1, mode="drop")
        share = 1 / jnp.take(counts, rows, mode="fill", fill_value=1)
        share = share[..., None]
        out = out * share + lax.stop_gradient(out - out * share)
    if padding_idx is not None:
        is_padding = (rows == padding_idx % size)[..., None]
        out = jnp.where(is_padding, lax.stop_gradient(out), out)
    return out
