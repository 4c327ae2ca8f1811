"""Batches in an order that depends on the seed alone, and that can be resumed mid-epoch.

The order comes from ``grain``; batches are plain numpy arrays, so both backends see the same
ones. Nothing runs beside the training loop: no worker process, no read-ahead thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np

Batch = dict[str, np.ndarray]

# The arrays are in memory: reading ahead would only take a core away from training.
_READ_IN_PLACE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)


class Batches:
    """Shuffled batches of equal size, epoch after epoch, each epoch in an order of its own.

    ``len()`` is the number of batches in an epoch; what does not fill a last batch is left out
    of that epoch. ``get_state()`` and ``set_state()`` save and restore the position, also in the
    middle of an epoch.

    >>> batches = Batches({"x": np.arange(10)}, batch_size=4, seed=0)
    >>> len(batches), [batch["x"].shape for batch in batches.epoch()]
    (2, [(4,), (4,)])
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], batch_size: int, *, seed: int = 0) -> None:
        items = _items(arrays)
        if not 1 <= batch_size <= items:
            raise ValueError(
                f"Batches: batch_size={batch_size} must lie between 1 and the {items} items."
            )
        order = grain.MapDataset.range(items).shuffle(seed=seed)
        batches = order.batch(batch_size, drop_remainder=True)
        self._len = len(batches)
        self._identity = {"items": items, "batch_size": batch_size, "seed": seed}
        endless = batches.map(_gather(arrays)).repeat()
        self._iterator = iter(endless.to_iter_dataset(_READ_IN_PLACE))
        self._drawn = 0

    def __len__(self) -> int:
        return self._len

    @property
    def drawn(self) -> int:
        """Batches handed out since the first epoch began."""
        return self._drawn

    def epoch(self) -> Iterator[Batch]:
        """The batches left in the current epoch: all of them at its start."""
        for _ in range(self._len - self._drawn % self._len):
            yield self._next()

    def _next(self) -> Batch:
        batch = next(self._iterator)
        self._drawn += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """The position, as a dict of plain numbers that json can hold."""
        return {**self._identity, "drawn": self._drawn, "grain": self._iterator.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue where ``get_state()`` was called.

        Raises:
            ValueError: the state belongs to other data, another batch size or another seed.
        """
        expected = {*self._identity, "drawn", "grain"}
        if set(state) != expected:
            raise ValueError(
                f"Batches.set_state: expected the keys {sorted(expected)}, got {sorted(state)}. "
                "Pass what get_state() returned."
            )
        clashes = [
            f"{key} was {state[key]} and is {here}"
            for key, here in self._identity.items()
            if state[key] != here
        ]
        if clashes:
            raise ValueError(
                f"Batches.set_state: the state is of another run: {', '.join(clashes)}. "
                "Resume with the same data and settings, or start afresh."
            )
        self._iterator.set_state(dict(state["grain"]))
        self._drawn = state["drawn"]


def in_order(arrays: Mapping[str, np.ndarray], batch_size: int) -> Iterator[Batch]:
    """Every item once, in order, for evaluation; the last batch may be smaller."""
    items = _items(arrays)
    if batch_size < 1:
        raise ValueError(f"in_order: batch_size={batch_size} must be at least 1.")
    batches = grain.MapDataset.range(items).batch(batch_size, drop_remainder=False)
    return iter(batches.map(_gather(arrays)).to_iter_dataset(_READ_IN_PLACE))


def _items(arrays: Mapping[str, np.ndarray]) -> int:
    lengths = {name: len(array) for name, array in arrays.items()}
    if not lengths or len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(
            f"batches need arrays of one common length above zero, got {lengths or 'no arrays'}."
        )
    return next(iter(lengths.values()))


def _gather(arrays: Mapping[str, np.ndarray]) -> Any:
    """Grain shuffles and batches indices; the items are picked a batch at a time."""
    kept = dict(arrays)
    return lambda indices: {name: array[indices] for name, array in kept.items()}
