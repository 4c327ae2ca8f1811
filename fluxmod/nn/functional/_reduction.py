"""What all losses share: reductions, torch's older arguments for them, and pairs of arrays."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._half import compute_dtype

__all__ = ["check_reduction", "chosen_reduction", "common_dtype", "pair", "reduced", "same_shape"]

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: str, who: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    """Reject a reduction that the loss does not have."""
    if reduction not in allowed:
        raise ValueError(f"{who}: reduction must be one of {allowed}, got {reduction!r}.")


def chosen_reduction(
    size_average: bool | None, reduce: bool | None, reduction: str, who: str
) -> str:
    """Return what torch's two older arguments say, with a warning, or else ``reduction``."""
    if size_average is None and reduce is None:
        return reduction
    mean = "mean" if size_average is None or size_average else "sum"
    chosen = mean if reduce is None or reduce else "none"
    warnings.warn(
        f"{who}: size_average and reduce are deprecated; use reduction={chosen!r}.",
        UserWarning,
        stacklevel=3,
    )
    return chosen


def reduced(loss: jax.Array, reduction: str, who: str) -> jax.Array:
    """Apply a reduction; the mean of nothing is NaN, as in torch."""
    check_reduction(reduction, who)
    if reduction == "none":
        return loss
    return jnp.mean(loss) if reduction == "mean" else jnp.sum(loss)


def pair(
    input: jax.Array, target: jax.Array, who: str, *, warn: bool = True, integers: bool = False
) -> tuple[jax.Array, jax.Array, Any]:
    """Broadcast input and target and agree on a dtype.

    Returns both in the dtype to compute in, and the dtype of the result.

    Args:
        warn: whether to warn of shapes that have to be broadcast, as torch does.
        integers: whether two arrays of integers are taken, as float32.

    Raises:
        TypeError: neither holds floats.
        ValueError: the shapes do not broadcast.
    """
    try:
        shape = np.broadcast_shapes(input.shape, target.shape)
    except ValueError:
        raise ValueError(
            f"{who}: target of shape {tuple(target.shape)} does not broadcast against input of "
            f"shape {tuple(input.shape)}; give both one shape."
        ) from None
    dtype = common_dtype(input, target)
    if integers and jnp.issubdtype(dtype, jnp.integer):
        dtype = jnp.dtype(jnp.float32)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"{who}: expected a floating point input, got {input.dtype} and a target of "
            f"{target.dtype}. Convert it first: x.astype(jnp.float32)."
        )
    if warn and input.shape != target.shape:
        warnings.warn(
            f"{who}: the target size {tuple(target.shape)} differs from the input size "
            f"{tuple(input.shape)}; both are broadcast to {shape}. Give them one size.",
            UserWarning,
            stacklevel=3,
        )
    wide = compute_dtype(dtype)
    x, y = (jnp.broadcast_to(a.astype(wide), shape) for a in (input, target))
    return x, y, dtype


def common_dtype(a: jax.Array, b: jax.Array) -> Any:
    """The dtype of a result of both: integers beside floats do not count."""
    floats = [x.dtype for x in (a, b) if jnp.issubdtype(x.dtype, jnp.inexact)]
    if len(floats) == 1:
        return floats[0]
    return jnp.promote_types(a.dtype, b.dtype)


def same_shape(input: jax.Array, other: jax.Array, who: str, what: str) -> None:
    """Require equal shapes."""
    if input.shape != other.shape:
        raise ValueError(
            f"{who}: expected a {what} of the input's shape {tuple(input.shape)}, got shape "
            f"{tuple(other.shape)}."
        )
