"""What "numerically equal" means: one table of levels and the two formulas that judge them.

Each limit is data with a reason. Nothing else in the project holds a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

__all__ = ["CRITERIA", "Criterion", "distance", "limit_of", "precision_limit", "relative_l2"]

NULL_SHARE = 1e-3
"""A value whose true size is below this share of the largest in its group (a convolution bias
before BatchNorm, the key bias of attention) is judged against the group."""

NARROWED = "the torch code itself casts float64 to lower precision"
"""What a row says that is judged by ``limit_of(level, narrowed=True)``."""

NO_INPUT_GRADIENT = "the torch code itself says what takes a gradient: the inputs have none"
"""What a run says whose input gradients are not compared."""

NARROWING = 4e4
"""How much wider L1 and L4 are there: L1's limit becomes 4e-6, 32 rounding steps of float32."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One level of equality: what it shows, its rule in words, its numbers and why they hold."""

    level: str
    shows: str
    rule: str
    limit: float
    why: str
    slack: float = 0.0


CRITERIA = MappingProxyType(
    {
        c.level: c
        for c in (
            Criterion(
                "L0",
                "structure",
                "every key used; torch -> Flax -> torch bitwise equal",
                0.0,
                "moving a number must not change it",
            ),
            Criterion(
                "L1",
                "semantics",
                "float64: max|J - T| / max(max|T|, 1e-3 S) <= limit",
                1e-10,
                "correct code agrees to 1e-15..1e-13; the smallest real fault seen is 1e-8",
            ),
            Criterion(
                "L2",
                "precision",
                "float32: relL2(J32, T64) <= limit * relL2(T32, T64) + slack * eps",
                4.0,
                "XLA's tanh and erf err up to 9 times as much as torch's on single values",
                slack=8.0,
            ),
            Criterion(
                "L3",
                "accelerator",
                "as L2, with the Flax side on the accelerator in full float32",
                4.0,
                "the same arithmetic in another order",
                slack=8.0,
            ),
            Criterion(
                "L4",
                "training",
                "float64: parameters, buffers and losses after 1 and 10 steps within limit",
                1e-9,
                "ten steps amplify the rounding of one",
            ),
            Criterion(
                "L5",
                "randomness",
                "recorded masks replay exactly; the sampler's keep rate within a 1e-6 bound",
                1e-6,
                "two frameworks never draw the same numbers from a seed",
            ),
            Criterion(
                "L6",
                "bfloat16",
                "relL2(Jbf16, T64) <= limit * relL2(Tbf16, T64) + slack * eps",
                2.0,
                "both sides round to 8 bits at different places",
                slack=2.0,
            ),
        )
    }
)


def limit_of(level: str, *, narrowed: bool = False) -> float:
    """A level's limit; of L1 and L4 also where the torch code itself computes a part in float32.

    >>> limit_of("L1"), limit_of("L1", narrowed=True)
    (1e-10, 4e-06)
    """
    return CRITERIA[level].limit * (NARROWING if narrowed else 1.0)


def distance(got: np.ndarray, want: np.ndarray, group: float = 0.0) -> float:
    """Return ``max|got - want| / max(max|want|, 1e-3 * group)``; infinite where they are apart.

    NaN and infinity must sit at the same places; shapes must be equal; integers and bools exact.

    >>> distance(np.array([1.0, np.nan]), np.array([1.0, np.nan]))
    0.0
    >>> distance(np.array([1.0, np.nan]), np.array([np.nan, 1.0]))
    inf
    """
    if got.shape != want.shape:
        return float("inf")
    if not np.issubdtype(want.dtype, np.inexact):
        return 0.0 if np.array_equal(got, want) else float("inf")
    got, want = got.astype(np.complex128), want.astype(np.complex128)
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite):
        return float("inf")
    if not np.array_equal(_marks(got), _marks(want)):
        return float("inf")
    if not finite.any():
        return 0.0
    error = float(np.abs(got[finite] - want[finite]).max())
    scale = max(float(np.abs(want[finite]).max()), NULL_SHARE * group)
    return error / scale if scale else (0.0 if error == 0 else float("inf"))


def _marks(x: np.ndarray) -> np.ndarray:
    """Signs of infinities and places of NaN; zero elsewhere."""
    real = np.where(np.isnan(x.real), 2.0, np.where(np.isinf(x.real), np.sign(x.real), 0.0))
    return real + 0.0


def relative_l2(got: np.ndarray, truth: np.ndarray, group: float = 0.0) -> float:
    """Return ``|got - truth|_2 / max(|truth|_2, 1e-3 * group * sqrt(n))`` over finite values.

    >>> relative_l2(np.array([1.1]), np.array([1.0]))  # doctest: +ELLIPSIS
    0.1000...
    """
    if got.shape != truth.shape:
        return float("inf")
    finite = np.isfinite(truth)
    got64, truth64 = got[finite].astype(np.float64), truth[finite].astype(np.float64)
    if not np.isfinite(got64).all():
        return float("inf")
    error = float(np.linalg.norm(got64 - truth64))
    floor = NULL_SHARE * group * np.sqrt(truth64.size)
    scale = max(float(np.linalg.norm(truth64)), float(floor))
    return error / scale if scale else (0.0 if error == 0 else float("inf"))


def precision_limit(reference_error: float, eps: float, level: str = "L2") -> float:
    """Return how far from the truth the Flax side may be, given torch's own error."""
    criterion = CRITERIA[level]
    return criterion.limit * reference_error + criterion.slack * eps
