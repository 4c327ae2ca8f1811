"""Random masks: drawn from ``nnx.Rngs``, or replayed from a recording.

Two frameworks never draw the same mask from a seed. To compare them in training mode, the masks
that torch drew are recorded and given to the Flax module in the order in which it asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fluxmod._errors import ReplayError

__all__ = ["drawn", "keep_mask", "replay", "rows_chosen", "stream_key"]

RandomSource = nnx.Rngs | nnx.RngStream | jax.Array | None


class _Tape:
    """Recorded masks, handed out one by one."""

    def __init__(self, masks: Sequence[Any]) -> None:
        self.masks = list(masks)
        self.used = 0
        self.chosen = False  # whether arrays have rows behind those that values chose

    def skip_numbers(self) -> None:
        """Pass over single numbers: torch's Python drew them to decide with (LayerDrop)."""
        while self.used < len(self.masks) and not np.ndim(self.masks[self.used]):
            self.used += 1

    def next(self, shape: tuple[int, ...], same_order: bool) -> jax.Array:
        if shape:
            self.skip_numbers()
        if self.used == len(self.masks):
            raise ReplayError(
                f"replay: mask {self.used + 1} was asked for (shape {shape}), and torch drew "
                f"{len(self.masks)}. The modules do not call dropout equally often."
            )
        mask = jnp.asarray(self.masks[self.used])
        self.used += 1
        more = shape[0] - len(mask) if shape and mask.ndim == len(shape) else 0
        if self.chosen and more > 0 and mask.shape[1:] == shape[1:]:
            mask = jnp.pad(mask, [(0, more)] + [(0, 0)] * (mask.ndim - 1), constant_values=1)
        return mask if same_order and mask.shape == shape else _reorder(mask, shape, self.used)

    def packed(self, shape: tuple[int, ...], rows: jax.Array) -> jax.Array:
        """Spread a mask drawn for a packed array over the padded one; the padding gets any row."""
        ahead = self.masks[self.used].shape[0] if self.used < len(self.masks) else 0
        mask = self.next((ahead, *shape[rows.ndim :]), same_order=True)
        return jnp.take(mask, rows, axis=0, mode="clip")


class _Counting(_Tape):
    """Counts the draws of one round of a scan: their shapes, in order."""

    def __init__(self) -> None:
        super().__init__(())
        self.asked: list[tuple[tuple[int, ...], bool]] = []

    def next(self, shape: tuple[int, ...], same_order: bool) -> jax.Array:
        self.asked.append((shape, same_order))
        return jnp.ones(shape)


def _scanning(scan: Callable[..., Any]) -> Callable[..., Any]:
    """``jax.lax.scan`` whose rounds each take their own masks, as a Python loop's would."""

    def replayed(f: Any, init: Any, xs: Any = None, length: int | None = None, **rest: Any) -> Any:
        if (tape := _tape.get()) is None:
            return scan(f, init, xs, length, **rest)
        counting = _Counting()
        token = _tape.set(counting)
        try:
            jax.eval_shape(lambda init, xs: f(init, jax.tree.map(lambda x: x[0], xs)), init, xs)
        finally:
            _tape.reset(token)
        if not counting.asked:
            return scan(f, init, xs, length, **rest)
        rounds = length if length is not None else jax.tree.leaves(xs)[0].shape[0]
        drawn = [[tape.next(*asked) for asked in counting.asked] for _ in range(rounds)]
        if rest.get("reverse"):
            drawn = drawn[::-1]
        masks = [jnp.stack(column) for column in zip(*drawn, strict=True)]

        def one(carry: Any, given: Any) -> Any:
            token = _tape.set(_Tape(given[1]))
            try:
                return f(carry, given[0])
            finally:
                _tape.reset(token)

        return scan(one, init, (xs, masks), rounds, **rest)

    return replayed


_tape: ContextVar[_Tape | None] = ContextVar("fluxmod_mask_tape", default=None)


@contextmanager
def replay(masks: Sequence[Any]) -> Iterator[None]:
    """Give ``masks`` to the draws inside the block, in order, instead of random ones.

    Masks have torch's order of axes; where a mask fits only after the channel axis is moved to the
    end, it is moved. The rounds of a ``jax.lax.scan`` take theirs one after another. Raises
    ReplayError when a mask fits both ways, fits no way, or the number of draws differs.

    >>> with replay([np.array([1.0, 0.0])]):
    ...     keep_mask(None, 0.5, (2,)).tolist()
    [True, False]
    """
    tape = _Tape(masks)
    token = _tape.set(tape)
    try:
        with mock.patch.object(jax.lax, "scan", _scanning(jax.lax.scan)):
            yield
    finally:
        _tape.reset(token)
    tape.skip_numbers()
    if tape.used != len(tape.masks):
        raise ReplayError(
            f"replay: {tape.used} masks were used of the {len(tape.masks)} that torch drew. "
            "The modules do not call dropout equally often."
        )


def rows_chosen() -> None:
    """Say that the arrays to come have rows which torch's, of a size that values decide, lack.

    A recorded mask may then be shorter; the rows behind the chosen ones get any.
    """
    tape = _tape.get()
    if tape is not None:
        tape.chosen = True


def keep_mask(
    rngs: RandomSource,
    keep: float,
    shape: tuple[int, ...],
    *,
    same_order: bool = False,
    rows: jax.Array | None = None,
) -> jax.Array:
    """Draw a boolean mask that is True with probability ``keep``.

    Args:
        rngs: a key, an ``nnx.RngStream``, or ``nnx.Rngs`` whose ``dropout`` stream is used.
        keep: probability of True.
        shape: shape of the mask.
        same_order: the array has the same order of axes in torch (attention weights).
        rows: the row of each leading position in torch's packed array (see ``PackedSequence``).

    Raises:
        ValueError: no source of randomness was given.
    """
    tape = _tape.get()
    if tape is not None and rows is not None:
        return tape.packed(shape, rows).astype(jnp.bool_)
    mask = drawn(rngs, lambda key: jax.random.bernoulli(key, keep, shape), shape, same_order)
    return mask.astype(jnp.bool_)


def drawn(
    rngs: RandomSource,
    sample: Callable[[jax.Array], jax.Array],
    shape: tuple[int, ...],
    same_order: bool = False,
    who: str = "Dropout",
) -> jax.Array:
    """Draw an array of ``shape`` with ``sample``, or take the next recording.

    Arguments and errors as in ``keep_mask``; ``sample`` gets the key.
    """
    tape = _tape.get()
    if tape is not None:
        return tape.next(tuple(shape), same_order)
    return sample(stream_key(rngs, who))


def stream_key(rngs: RandomSource, who: str) -> jax.Array:
    """Take the next key of a source; of ``nnx.Rngs`` the ``dropout`` stream's.

    Raises:
        ValueError: no source of randomness was given.
    """
    if rngs is None:
        raise ValueError(
            f"{who}: training mode needs random numbers and the layer was built without any. "
            "Pass rngs=nnx.Rngs(...) to its constructor or its call, or switch to eval()."
        )
    source: Any = rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs
    return source() if isinstance(source, nnx.RngStream) else source


def _reorder(mask: jax.Array, shape: tuple[int, ...], index: int) -> jax.Array:
    """Bring a mask in torch's order to ``shape`` in Flax's order."""
    moved = jnp.moveaxis(mask, 1, -1) if mask.ndim > 2 else mask
    stays, moves = mask.shape == shape, moved.shape == shape and mask.ndim > 2
    if stays and moves and 1 not in mask.shape[1:] and not isinstance(mask, jax.core.Tracer):
        if np.array_equal(np.asarray(mask), np.asarray(moved)):
            return mask
    if stays and moves and sum(size > 1 for size in mask.shape[1:]) > 1:
        raise ReplayError(
            f"replay: mask {index} of shape {tuple(mask.shape)} fits both as it is and with its "
            "channel axis moved to the end. Use input sizes that all differ."
        )
    if not stays and not moves:
        raise ReplayError(
            f"replay: mask {index} has shape {tuple(mask.shape)} in torch and {shape} is asked "
            "for. The modules call dropout on different arrays."
        )
    return mask if stays else moved
