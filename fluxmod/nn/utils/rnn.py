"""Packing, padding and taking apart sequences of several lengths; ``torch.nn.utils.rnn``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._packed import PackedSequence as PackedSequence
from ._packed import invert_permutation as invert_permutation
from ._packed import known_lengths

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


def pack_padded_sequence(
    input: jax.Array, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Hold padded sequences with their lengths; ``torch.nn.utils.rnn.pack_padded_sequence``.

    Shape:
        input: (T, B, *), or (B, T, *) with ``batch_first``; lengths: (B,).

    Args:
        lengths: a list or an array of integers. Known lengths are checked and cut T down to the
            longest, as in torch. Traced ones (inside ``jax.jit``) cannot be checked, and T stays.
        enforce_sorted: refuse known lengths that do not descend. Only the order of torch's packed
            view depends on it: sequences are never moved, so that traced lengths need no order.

    Raises:
        ValueError: known lengths that are not positive, exceed T, are not one for each sequence,
            or do not descend while ``enforce_sorted``.

    >>> x = jnp.array([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    >>> packed = pack_padded_sequence(x, [2, 1, 3], batch_first=True, enforce_sorted=False)
    >>> packed.data.tolist(), packed.batch_sizes.tolist(), packed.sorted_indices.tolist()
    ([4, 1, 3, 5, 2, 6], [3, 2, 1], [2, 0, 1])

    Source: torch.nn.utils.rnn.pack_padded_sequence, PyTorch 2.13 documentation.
    """
    input = jnp.asarray(input)
    if input.ndim < 2:
        raise ValueError(
            "pack_padded_sequence: expected an input with at least 2 axes, got shape "
            f"{tuple(input.shape)}."
        )
    padded = jnp.swapaxes(input, 0, 1) if batch_first else input
    known = known_lengths(lengths)
    if known is None:
        traced = jnp.asarray(lengths)
        _check_count(traced.shape, padded)
        traced_order = None if enforce_sorted else jnp.argsort(-traced, stable=True)
        return PackedSequence.from_padded(padded, traced, traced_order)
    _check_count(known.shape, padded)
    _check_known(known, padded, enforce_sorted)
    order = None if enforce_sorted else np.argsort(-known, stable=True)
    return PackedSequence.from_padded(padded[: known.max()], known, order)


def _check_count(shape: tuple[int, ...], padded: jax.Array) -> None:
    batch = padded.shape[1]
    if shape != (batch,) or not batch:
        raise ValueError(
            f"pack_padded_sequence: expected one length for each of {batch} sequences and at least "
            f"one sequence, got lengths of shape {tuple(shape)}."
        )


def _check_known(lengths: np.ndarray, padded: jax.Array, enforce_sorted: bool) -> None:
    steps = padded.shape[0]
    if lengths.min() <= 0 or lengths.max() > steps:
        raise ValueError(
            f"pack_padded_sequence: lengths must be from 1 to the {steps} steps of the input, got "
            f"{lengths.tolist()}."
        )
    if enforce_sorted and (np.diff(lengths) > 0).any():
        raise ValueError(
            f"pack_padded_sequence: lengths must descend, got {lengths.tolist()}. "
            "Pass enforce_sorted=False."
        )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[jax.Array, Any]:
    """Return padded sequences and their lengths; ``torch.nn.utils.rnn.pad_packed_sequence``.

    Shape:
        returns (T, B, *), or (B, T, *) with ``batch_first``, and lengths (B,). T is the longest
        length, or ``total_length``; with lengths that were traced when packed, the T of the input.

    Raises:
        ValueError: ``total_length`` below the T held.

    >>> packed = pack_sequence([jnp.array([1, 2]), jnp.array([3])])
    >>> padded, lengths = pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    >>> padded.tolist(), lengths.tolist()
    ([[1, 2], [3, -1]], [2, 1])

    Source: torch.nn.utils.rnn.pad_packed_sequence, PyTorch 2.13 documentation.
    """
    padded, lengths = sequence.padded, sequence.lengths
    steps = padded.shape[0]
    if total_length is not None:
        if total_length < steps:
            raise ValueError(
                f"pad_packed_sequence: total_length={total_length} is below the {steps} steps of "
                "the longest sequence."
            )
        ahead = [(0, total_length - steps)] + [(0, 0)] * (padded.ndim - 1)
        padded = jnp.pad(padded, ahead)
    inside = jnp.arange(padded.shape[0])[:, None] < jnp.asarray(lengths)[None, :]
    inside = inside.reshape(*inside.shape, *[1] * (padded.ndim - 2))
    padded = jnp.where(inside, padded, jnp.asarray(padding_value).astype(padded.dtype))
    return jnp.swapaxes(padded, 0, 1) if batch_first else padded, lengths


def pad_sequence(
    sequences: Iterable[jax.Array],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> jax.Array:
    """Stack sequences (L, *) of several lengths; ``torch.nn.utils.rnn.pad_sequence``.

    Shape:
        returns (T, B, *), or (B, T, *) with ``batch_first``; T is the longest L.

    Raises:
        ValueError: no sequences, other trailing axes, or an unknown side.

    >>> pad_sequence([jnp.ones(2), jnp.ones(1)], batch_first=True, padding_side="left").tolist()
    [[1.0, 1.0], [0.0, 1.0]]

    Source: torch.nn.utils.rnn.pad_sequence, PyTorch 2.13 documentation.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(
            f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}."
        )
    parts = [jnp.asarray(part) for part in sequences]
    shapes = [tuple(part.shape) for part in parts]
    if not parts or not all(shapes) or len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(
            "pad_sequence: expected at least one sequence (L, *), all with equal trailing axes, "
            f"got shapes {shapes}."
        )
    longest = max(len(part) for part in parts)

    def pad(part: jax.Array) -> jax.Array:
        free = longest - len(part)
        ends = (free, 0) if padding_side == "left" else (0, free)
        widths = [ends, *[(0, 0)] * (part.ndim - 1)]
        return jnp.pad(part, widths, constant_values=np.asarray(padding_value).astype(part.dtype))

    return jnp.stack([pad(part) for part in parts], axis=0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: jax.Array, lengths: Any, batch_first: bool = False
) -> list[jax.Array]:
    """Cut padded sequences to their lengths; ``torch.nn.utils.rnn.unpad_sequence``.

    The input keeps its axes; torch transposes it in place where ``batch_first`` is not set.

    Raises:
        ValueError: lengths that are traced, or not one for each sequence.

    >>> [s.tolist() for s in unpad_sequence(jnp.array([[1, 3], [2, 0]]), [2, 1])]
    [[1, 2], [3]]

    Source: torch.nn.utils.rnn.unpad_sequence, PyTorch 2.13 documentation.
    """
    known = known_lengths(lengths)
    if known is None:
        raise ValueError(
            "unpad_sequence: lengths are traced here, and the shapes of the sequences depend on "
            "them. Call it outside jax.jit, or give lengths as Python integers."
        )
    rows = padded_sequences if batch_first else jnp.swapaxes(padded_sequences, 0, 1)
    if known.shape != rows.shape[:1]:
        raise ValueError(
            f"unpad_sequence: expected one length for each of {rows.shape[0]} sequences, got "
            f"lengths of shape {tuple(known.shape)}."
        )
    return [row[: max(int(n), 0)] for row, n in zip(rows, known, strict=True)]


def pack_sequence(sequences: Sequence[jax.Array], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (L, *); the twin of ``torch.nn.utils.rnn.pack_sequence``.

    Raises:
        ValueError: as ``pad_sequence`` and ``pack_padded_sequence``.

    >>> pack_sequence([jnp.array([1, 2, 3]), jnp.array([4, 5]), jnp.array([6])]).data.tolist()
    [1, 4, 6, 2, 5, 3]

    Source: torch.nn.utils.rnn.pack_sequence, PyTorch 2.13 documentation.
    """
    padded = pad_sequence(sequences)
    return pack_padded_sequence(padded, [len(s) for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[jax.Array]:
    """Return the sequences, each of its own length; ``torch.nn.utils.rnn.unpack_sequence``.

    Raises:
        ValueError: lengths that are traced.

    >>> packed = pack_sequence([jnp.array([1]), jnp.array([2, 3])], enforce_sorted=False)
    >>> [s.tolist() for s in unpack_sequence(packed)]
    [[1], [2, 3]]

    Source: torch.nn.utils.rnn.unpack_sequence, PyTorch 2.13 documentation.
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
