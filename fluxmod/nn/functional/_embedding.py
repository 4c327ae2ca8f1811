"""Lookup in a table, row by row or bag by bag."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod.nn._checked import check_indices, concrete

from ._distance import vector_norm
from ._half import compute_dtype

__all__ = ["embedding", "embedding_bag", "one_hot"]

# B bags, N indices of each, T indices of all, D width of a row


def embedding(
    input: jax.Array,
    embedding: jax.Array,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> jax.Array:
    """Pick rows of ``embedding``; the twin of ``torch.nn.functional.embedding``.

    In compiled code an index outside [0, num_embeddings) gives a row of NaN.

    Shape:
        input: any shape, integers; embedding: (num_embeddings, dim); returns (*input, dim).

    Args:
        padding_idx: the row whose gradient is zero; negative counts from the end.
        max_norm: rows of a larger ``norm_type``-norm are scaled down to it. torch changes its
            table; this function cannot, ``nn.Embedding`` does.
        scale_grad_by_freq: divide each row's gradient by how often its index occurs in ``input``.
        sparse: accepted for the signature; JAX gradients are dense.

    Raises:
        TypeError: indices that are not integers.
        ValueError: a table of another rank; ``padding_idx`` outside it.
        IndexError: indices outside the table, where they are known: outside compiled code and
            inside ``fluxmod.checked``.

    >>> embedding(jnp.array([1, 0]), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]

    Source: torch.nn.functional.embedding, PyTorch 2.13 documentation.
    """
    padding_idx = _check(input, embedding, padding_idx, "embedding")
    if max_norm is not None:
        embedding = limited(embedding, input, max_norm, norm_type)
    return _rows(input, embedding, padding_idx, scale_grad_by_freq)


def _check(input: jax.Array, table: jax.Array, padding_idx: int | None, who: str) -> int | None:
    """Refuse what does not fit; return ``padding_idx`` counted from the start."""
    if not jnp.issubdtype(input.dtype, jnp.integer):
        raise TypeError(f"{who}: indices must be integers, got {input.dtype}.")
    if table.ndim != 2:
        raise ValueError(f"{who}: the table must have 2 axes, got shape {tuple(table.shape)}.")
    size = table.shape[0]
    if padding_idx is not None and not -size <= padding_idx < size:
        raise ValueError(f"{who}: padding_idx={padding_idx} must be within the {size} rows.")
    check_indices(input, size, who)
    return None if padding_idx is None else padding_idx % size


def limited(
    table: jax.Array, input: jax.Array, max_norm: float, norm_type: float = 2.0
) -> jax.Array:
    """The table with the rows that ``input`` uses scaled down to ``max_norm``.

    Its gradient is that of the table as it was: torch scales in place, unseen by autograd.
    """
    size = table.shape[0]
    fixed = lax.stop_gradient(table).astype(compute_dtype(table.dtype))
    norms = vector_norm(fixed, norm_type, (1,))
    rows = input.reshape(-1)
    # a negative index would wrap around and scale a row that no one asked for
    used = jnp.zeros(size, bool).at[jnp.where(rows < 0, size, rows)].set(True, mode="drop")
    scale = jnp.where(norms > max_norm, max_norm / (norms + 1e-7), 1)
    scaled = jnp.where(used[:, None], fixed * scale, fixed).astype(table.dtype)
    return scaled + (table - lax.stop_gradient(table))


def _rows(
    input: jax.Array, table: jax.Array, padding_idx: int | None, scale_grad_by_freq: bool
) -> jax.Array:
    size = table.shape[0]
    # a negative index would wrap around; send it where the fill value is
    rows = jnp.where(input < 0, size, input)
    out = jnp.take(table, rows, axis=0, mode="fill", fill_value=jnp.nan)
    if scale_grad_by_freq:
        counts = jnp.zeros(size, table.dtype).at[rows.reshape(-1)].add(1, mode="drop")
        share = 1 / jnp.take(counts, rows, mode="fill", fill_value=1)
        share = share[..., None]
        out = out * share + lax.stop_gradient(out - out * share)
    if padding_idx is not None:
        out = jnp.where((rows == padding_idx)[..., None], lax.stop_gradient(out), out)
    return out


def embedding_bag(
    input: jax.Array,
    embedding: jax.Array,
    offsets: jax.Array | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: jax.Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> jax.Array:
    """Sum, average or take the maximum of rows of ``embedding``, bag by bag.

    The twin of ``torch.nn.functional.embedding_bag``. An empty bag gives zeros; in compiled code a
    bag with an index outside the table gives NaN.

    Shape:
        input: (B, N), or (T) with ``offsets`` (B), or (B + 1) with ``include_last_offset``;
        embedding: (num_embeddings, D); per_sample_weights: input's; returns (B, D).

    Args:
        offsets: where each bag begins.
        mode: 'sum', 'mean' or 'max'.
        per_sample_weights: a factor for each index, for mode 'sum'.
        include_last_offset: the last offset is the end of the last bag, and what follows counts
            for nothing.
        padding_idx: an index that counts for nothing; negative counts from the end.
        max_norm, norm_type, sparse: as in ``embedding``.
        scale_grad_by_freq: as in ``embedding``. (torch's CPU kernel divides by the counts of other
            indices than it says.)

    Raises:
        TypeError: indices or offsets that are not integers.
        ValueError: arguments that exclude each other; shapes that do not fit; offsets that do not
            begin with 0 or lead beyond the input, where they are known.
        IndexError: indices outside the table, where they are known.
        NotImplementedError: ``per_sample_weights`` with another mode than 'sum', as in torch.

    >>> table = jnp.array([[1.0], [2.0], [4.0]])
    >>> embedding_bag(jnp.array([0, 1, 2]), table, jnp.array([0, 2, 2]), mode="sum").tolist()
    [[3.0], [0.0], [4.0]]

    Source: torch.nn.functional.embedding_bag, PyTorch 2.13 documentation.
    """
    who = "embedding_bag"
    padding_idx = _check(input, embedding, padding_idx, who)
    _check_bags(input, offsets, per_sample_weights, include_last_offset)
    _check_mode(mode, scale_grad_by_freq, sparse, per_sample_weights)
    if max_norm is not None:
        embedding = limited(embedding, input, max_norm, norm_type)
    rows = _rows(input, embedding, padding_idx, scale_grad_by_freq)
    rows = rows.astype(compute_dtype(rows.dtype))
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[..., None].astype(rows.dtype)
    counted = None if padding_idx is None else input != padding_idx
    if offsets is None:
        out = _even_bags(rows, counted, mode)
    else:
        out = _bags_of_any_size(rows, counted, offsets, include_last_offset, mode)
    return out.astype(embedding.dtype)


def _check_bags(
    input: jax.Array, offsets: jax.Array | None, weights: jax.Array | None, with_last: bool
) -> None:
    problems = []
    if input.ndim not in (1, 2):
        problems.append(f"input must have 1 or 2 axes, got shape {tuple(input.shape)}")
    if input.ndim == 2 and offsets is not None:
        problems.append("an input of 2 axes has one bag in each row and takes no offsets")
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        shape = None if offsets is None else tuple(offsets.shape)
        problems.append(f"an input of 1 axis needs a vector of offsets, got {shape}")
    elif offsets is not None and with_last and not offsets.shape[0]:
        problems.append("include_last_offset needs at least one offset")
    if weights is not None and weights.shape != input.shape:
        problems.append(
            f"per_sample_weights must have the input's shape {tuple(input.shape)}, got "
            f"{tuple(weights.shape)}"
        )
    if offsets is not None and not problems:
        if offsets.dtype != input.dtype:
            raise TypeError(
                f"embedding_bag: offsets must be {input.dtype} as the indices, got {offsets.dtype}."
            )
        known = concrete(offsets)
        if known is not None and known.size and (known[0] != 0 or known[-1] > input.size):
            problems.append(
                f"offsets must begin with 0 and not exceed the {input.size} indices, got "
                f"{known[0]} ... {known[-1]}"
            )
    if problems:
        raise ValueError(f"embedding_bag: {'; '.join(problems)}.")


def _check_mode(
    mode: str, scale_grad_by_freq: bool, sparse: bool, weights: jax.Array | None
) -> None:
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"embedding_bag: mode must be 'sum', 'mean' or 'max', got {mode!r}.")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError(
            "embedding_bag: mode 'max' goes with neither scale_grad_by_freq nor sparse."
        )
    if weights is not None and mode != "sum":
        raise NotImplementedError(
            f"embedding_bag: per_sample_weights need mode='sum', got {mode!r}."
        )


def _even_bags(rows: jax.Array, counted: jax.Array | None, mode: str) -> jax.Array:
    """Reduce (B, N, D) over N."""
    batch, size, width = rows.shape
    if not size:
        return jnp.zeros((batch, width), rows.dtype)
    if counted is None:
        counted = jnp.ones((batch, size), bool)
    counts = counted.sum(1, keepdims=True).astype(rows.dtype)
    if mode == "max":
        low = jnp.where(counted[..., None], rows, -jnp.inf)
        best = jnp.argmax(low, 1, keepdims=True)  # the first of equals
        found = jnp.take_along_axis(rows, best, 1)[:, 0]
        return jnp.where(counts > 0, found, 0)
    total = jnp.where(counted[..., None], rows, 0).sum(1)
    return total / jnp.maximum(counts, 1) if mode == "mean" else total


def _bags_of_any_size(
    rows: jax.Array, counted: jax.Array | None, offsets: jax.Array, with_last: bool, mode: str
) -> jax.Array:
    """Reduce (T, D) over the indices between one offset and the next."""
    size, width = rows.shape
    bags = offsets.shape[0] - with_last
    bag = jnp.searchsorted(offsets, jnp.arange(size, dtype=offsets.dtype), side="right") - 1
    inside = bag >= 0 if counted is None else (bag >= 0) & counted
    bag = jnp.where(inside, bag, bags)  # beyond the last: to no bag
    counts = jax.ops.segment_sum(jnp.ones(size, rows.dtype), bag, bags)[:, None]
    if mode != "max":
        total = jax.ops.segment_sum(rows, bag, bags)
        return total / jnp.maximum(counts, 1) if mode == "mean" else total
    if not size:
        return jnp.zeros((bags, width), rows.dtype)
    fixed = lax.stop_gradient(rows)
    top = jnp.take(
        jax.ops.segment_max(fixed, bag, bags), bag, axis=0, mode="fill", fill_value=jnp.nan
    )
    # the first row that has the maximum has all of its gradient
    place = jnp.where(fixed == top, jnp.arange(size)[:, None], size)
    first = jax.ops.segment_min(place, bag, bags)
    found = jnp.take_along_axis(rows, first, axis=0, mode="fill", fill_value=jnp.nan)
    return jnp.where(counts > 0, found, 0)


def one_hot(input: jax.Array, num_classes: int = -1) -> jax.Array:
    """Return integers as rows of zeros with a one; the twin of ``torch.nn.functional.one_hot``.

    In compiled code a class outside [0, num_classes) gives a row of zeros.

    Shape:
        input: any shape, integers; returns (*input, num_classes).

    Args:
        num_classes: one more than the largest class if -1, which compiled code cannot know.

    Raises:
        TypeError: classes that are not integers.
        ValueError: ``num_classes`` below 1, or to be found from an empty or a traced array.
        IndexError: classes outside [0, num_classes), where they are known.

    >>> one_hot(jnp.array([2, 0])).tolist()
    [[0, 0, 1], [1, 0, 0]]

    Source: torch.nn.functional.one_hot, PyTorch 2.13 documentation.
    """
    if not jnp.issubdtype(input.dtype, jnp.integer):
        raise TypeError(f"one_hot: classes must be integers, got {input.dtype}.")
    if num_classes == -1:
        known = concrete(input)
        if known is None or not known.size:
            state = "a traced" if known is None else "an empty"
            raise ValueError(f"one_hot: num_classes cannot be found from {state} array; say it.")
        num_classes = max(int(known.max()), 0) + 1
    if num_classes < 1:
        raise ValueError(f"one_hot: num_classes must be at least 1, got {num_classes}.")
    check_indices(input, num_classes, "one_hot", "classes")
    return jax.nn.one_hot(input, num_classes, dtype=jax.dtypes.canonicalize_dtype(np.int64))
