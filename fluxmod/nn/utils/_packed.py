"""Sequences of several lengths in one value: padded inside, packed to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["PackedSequence", "invert_permutation", "known_lengths"]


@jax.tree_util.register_pytree_with_keys_class
class PackedSequence:
    """Sequences of several lengths; the twin of ``torch.nn.utils.rnn.PackedSequence``.

    XLA needs shapes that do not depend on the lengths, so the sequences are held as one array
    ``padded`` (T, B, *) with zeros past each end, and ``lengths`` (B,). Both are leaves of a
    pytree: it goes through ``jax.jit`` as an argument, and new lengths need no new compilation as
    long as T and B stay. torch's view is derived: ``data`` (sum of lengths, *), time by time with
    the longest sequence first, ``batch_sizes``, ``sorted_indices`` and ``unsorted_indices``. Its
    shape depends on the lengths, so it is there wherever the lengths are known, that is outside
    ``jax.jit`` and inside for lengths given as Python or numpy integers.

    Made by ``pack_padded_sequence`` and ``pack_sequence``; torch's constructor works as well where
    ``batch_sizes`` are known. Nothing in it can be assigned. ``map`` applies a function to the
    sequences, as ``PackedSequence(fn(packed.data), ...)`` does in torch, but traced lengths too.

    Raises:
        ValueError: the parts do not fit; the packed view is asked for while lengths are traced.

    >>> packed = PackedSequence(np.array([4, 1, 3, 5, 2, 6]), np.array([3, 2, 1]))
    >>> packed.padded.tolist(), packed.lengths.tolist()
    ([[4, 1, 3], [5, 2, 0], [6, 0, 0]], [3, 2, 1])
    >>> packed.map(lambda x: 10 * x).data.tolist()
    [40, 10, 30, 50, 20, 60]

    Source: torch.nn.utils.rnn.PackedSequence, PyTorch 2.13 documentation.
    """

    __slots__ = ("lengths", "padded", "sorted_indices")

    padded: jax.Array
    lengths: Any
    sorted_indices: Any

    def __init__(
        self,
        data: Any,
        batch_sizes: Any = None,
        sorted_indices: Any = None,
        unsorted_indices: Any = None,
    ) -> None:
        if batch_sizes is None:
            data, batch_sizes = data
        sizes = _known(batch_sizes, "batch_sizes")
        if sizes.ndim != 1 or not sizes.size or sizes[-1] < 1 or (np.diff(sizes) > 0).any():
            raise ValueError(
                "PackedSequence: batch_sizes are at least one positive number each and never "
                f"grow, got {sizes.tolist()}. Use pack_padded_sequence."
            )
        data = jnp.asarray(data)
        if not data.ndim or data.shape[0] != sizes.sum():
            raise ValueError(
                f"PackedSequence: batch_sizes add up to {sizes.sum()} rows of data, got shape "
                f"{tuple(data.shape)}."
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        elif sorted_indices is None:
            sorted_indices = invert_permutation(unsorted_indices)
        order = slice(None) if unsorted_indices is None else np.asarray(unsorted_indices)
        batch = np.arange(sizes[0])
        lengths = (batch[:, None] < sizes[None, :]).sum(1)[order]  # (B,)
        rows = (np.cumsum(sizes) - sizes)[:, None] + batch[order][None, :]  # (T, B)
        padded = data[np.minimum(rows, len(data) - 1)]
        self._set(_zero_past_end(padded, lengths), lengths.astype(np.int32), sorted_indices)

    @classmethod
    def from_padded(cls, padded: Any, lengths: Any, sorted_indices: Any = None) -> PackedSequence:
        """Hold an array (T, B, *), its padding replaced by zeros; lengths may be traced."""
        made = object.__new__(cls)
        made._set(_zero_past_end(jnp.asarray(padded), lengths), lengths, sorted_indices)
        return made

    def _set(self, padded: Any, lengths: Any, sorted_indices: Any) -> None:
        object.__setattr__(self, "padded", padded)
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "sorted_indices", sorted_indices)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"PackedSequence: {name!r} cannot be assigned; use map().")

    @property
    def data(self) -> jax.Array:
        """torch's packed array: (sum of lengths, *), time by time, longest sequence first."""
        lengths = _known(self.lengths, "lengths")
        order = np.arange(len(lengths)) if self.sorted_indices is None else self.sorted_indices
        ordered = lengths[np.asarray(order)]
        steps, places = np.nonzero(np.arange(ordered.max())[:, None] < ordered[None, :])
        return self.padded[steps, np.asarray(order)[places]]

    @property
    def batch_sizes(self) -> np.ndarray:
        """How many sequences reach each step."""
        lengths = _known(self.lengths, "lengths")
        return (np.arange(lengths.max())[:, None] < lengths[None, :]).sum(1)

    @property
    def unsorted_indices(self) -> Any:
        """The inverse of ``sorted_indices``; None where the sequences came sorted."""
        return invert_permutation(self.sorted_indices)

    def map(self, fn: Callable[[jax.Array], jax.Array]) -> PackedSequence:
        """Apply a function that keeps the two leading axes, (T, B, *) to (T, B, \\*)."""
        made = fn(self.padded)
        if made.shape[:2] != self.padded.shape[:2]:
            raise ValueError(
                f"PackedSequence.map: expected a result with leading axes "
                f"{tuple(self.padded.shape[:2])}, got shape {tuple(made.shape)}."
            )
        return self.from_padded(made, self.lengths, self.sorted_indices)

    def astype(self, dtype: Any) -> PackedSequence:
        """Return the sequences in another dtype; torch's ``to``."""
        return self.map(lambda x: x.astype(dtype))

    def __iter__(self) -> Iterator[Any]:
        """Yield torch's four parts."""
        yield from (self.data, self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def __repr__(self) -> str:
        if known_lengths(self.lengths) is None:
            return f"PackedSequence(padded={self.padded}, lengths={self.lengths})"
        names = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
        return f"PackedSequence({', '.join(f'{n}={v}' for n, v in zip(names, self, strict=True))})"

    def tree_flatten_with_keys(self) -> tuple[Any, None]:
        """Leaves: padded, lengths, sorted_indices."""
        names = ("padded", "lengths", "sorted_indices")
        return [(jax.tree_util.GetAttrKey(n), getattr(self, n)) for n in names], None

    @classmethod
    def tree_unflatten(cls, aux: None, children: Any) -> PackedSequence:
        """Put leaves back without looking at them."""
        made = object.__new__(cls)
        made._set(*children)
        return made


def invert_permutation(permutation: Any) -> Any:
    """Return the inverse of a permutation, or None for None; known or traced.

    >>> invert_permutation(np.array([2, 0, 1])).tolist()
    [1, 2, 0]

    Source: torch.nn.utils.rnn.invert_permutation.
    """
    if permutation is None:
        return None
    return (jnp if isinstance(permutation, jax.Array) else np).argsort(permutation)


def known_lengths(lengths: Any) -> np.ndarray | None:
    """Return lengths as numpy integers, or None where they are traced."""
    if isinstance(lengths, jax.core.Tracer):
        return None
    if isinstance(lengths, (list, tuple)) and any(isinstance(n, jax.core.Tracer) for n in lengths):
        return None
    return np.asarray(lengths).astype(np.int32)


def _known(values: Any, name: str) -> np.ndarray:
    known = known_lengths(values)
    if known is None:
        raise ValueError(
            f"PackedSequence: {name} are traced here, so that nothing can have the shape of the "
            "packed data. Use `padded` with `lengths`, or `map`, or pad_packed_sequence."
        )
    return known


def _zero_past_end(padded: jax.Array, lengths: Any) -> jax.Array:
    """Zeros for the padding: whatever stood there, NaN too, has no influence and no gradient."""
    known = known_lengths(lengths)
    if known is not None and known.size and (known >= padded.shape[0]).all():
        return padded
    inside = jnp.arange(padded.shape[0])[:, None] < jnp.asarray(lengths)[None, :]
    inside = inside.reshape(*inside.shape, *[1] * (padded.ndim - 2))
    return jnp.where(inside, padded, jnp.zeros((), padded.dtype))
