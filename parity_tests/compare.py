"""Comparing named arrays of the two frameworks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import torch

LIMIT = 1e-10
"""Largest max|J-T| / max|T| in float64; correct code stays near 1e-15."""


@contextmanager
def any_algorithm() -> Iterator[None]:
    """Let torch run what it calls nondeterministic; on one CPU thread nothing is."""
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)


def as_array(value: Any) -> np.ndarray:
    """A numpy copy of a tensor, jax or numpy array; bfloat16 by its bit pattern."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.dtype == torch.bfloat16:
            bits = value.contiguous().view(torch.int16).numpy().copy()
            return bits.view(jax.numpy.bfloat16)
        return value.numpy().copy()
    return np.array(value)


def same(got: Mapping[str, Any], want: Mapping[str, Any], limit: float = LIMIT) -> float:
    """Require equal names in equal order, shapes, NaN and infinities by place, and values.

    A tensor that is small beside the largest of its group is judged by 1/1000 of that one: its
    true value may be zero. Integers and bools are exact. Returns the worst relative error.
    """
    assert list(got) == list(want), f"names differ: {list(got)} and {list(want)}"
    pairs = {name: (as_array(got[name]), as_array(want[name])) for name in want}
    floor = 1e-3 * max((_largest(w) for _, w in pairs.values()), default=0.0)
    problems = {name: _difference(g, w, floor, limit) for name, (g, w) in pairs.items()}
    lines = [f"{name}: {text}" for name, (text, _) in problems.items() if text]
    assert not lines, "\n".join(lines)
    return max((error for _, error in problems.values()), default=0.0)


def bitwise(got: Mapping[str, Any], want: Mapping[str, Any]) -> None:
    """Require equal names in equal order, shapes, dtypes and bits."""
    assert list(got) == list(want), f"names differ: {list(got)} and {list(want)}"
    for name in want:
        g, w = as_array(got[name]), as_array(want[name])
        assert (g.shape, g.dtype) == (w.shape, w.dtype), name
        assert g.tobytes() == w.tobytes(), f"{name}: same shape and dtype, other bits"


def _difference(got: np.ndarray, want: np.ndarray, floor: float, limit: float) -> tuple[str, float]:
    """What is wrong, if anything, and the relative error."""
    if got.shape != want.shape:
        return f"shape {got.shape}, torch has {want.shape}", 0.0
    if not np.issubdtype(want.dtype, np.inexact):
        return ("" if np.array_equal(got, want) else "integer or bool values differ"), 0.0
    if not np.issubdtype(got.dtype, np.inexact):
        return f"dtype {got.dtype}, torch has {want.dtype}", 0.0
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return "NaN or infinities are not where torch has them", 0.0
    if not np.isfinite(got[finite]).all():
        return "not finite where torch is", 0.0
    error = _largest(got[finite] - want[finite])
    scale = max(_largest(want), floor)
    # two zeros are equal; anything else beside an all-zero group is not
    ratio = 0.0 if error == 0 else error / scale if scale else float("inf")
    return ("" if ratio <= limit else f"relative error {ratio:.2e}, limit {limit:.0e}"), ratio


def _largest(array: np.ndarray) -> float:
    if not np.issubdtype(array.dtype, np.inexact):
        return 0.0
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0
