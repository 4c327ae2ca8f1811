"""Metrics: figures of one batch, and their averages over many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Averages", "accuracy"]


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the share of rows whose largest logit is the label's.

    Shape:
        logits: (*, C); labels: (*) integers; returns a scalar.

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).item()
    0.5
    """
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


class Averages:
    """Running averages of metrics, weighted by the size of their batches.

    Nothing is waited for until ``compute``: the values stay on the device.

    >>> seen = Averages()
    >>> seen.add({"loss": jnp.array(1.0)}, size=3)
    >>> seen.add({"loss": jnp.array(2.0)}, size=1)
    >>> seen.compute()
    {'loss': 1.25}
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Mapping[str, jax.Array], int]] = []

    def add(self, metrics: Mapping[str, jax.Array], *, size: int = 1) -> None:
        """Take the metrics of one batch of ``size`` items, or of a chunk of such batches."""
        self._rows.append((metrics, size))

    def compute(self) -> dict[str, float]:
        """Return the averages so far, in float64.

        Raises:
            ValueError: nothing was added, or the batches have different metrics.
        """
        if not self._rows:
            raise ValueError("Averages: no batch was added, so there is nothing to average.")
        names = [list(metrics) for metrics, _ in self._rows]
        if any(set(other) != set(names[0]) for other in names):
            raise ValueError(f"Averages: the batches have different metrics: {names}.")
        rows = jax.device_get(self._rows)
        weights = np.concatenate([np.full(np.size(m[names[0][0]]), n, float) for m, n in rows])
        return {name: float(np.average(_column(rows, name), weights=weights)) for name in names[0]}


def _column(rows: Any, name: str) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(metrics[name], float)) for metrics, _ in rows])
