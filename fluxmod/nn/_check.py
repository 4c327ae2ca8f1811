"""Checks at the door of layers and functions; all raise before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxmod._errors import LayoutError

__all__ = [
    "check_channels_last",
    "check_floating",
    "check_one_dtype",
    "tuple_of",
    "x64_enabled",
]


def x64_enabled() -> bool:
    """Whether JAX holds 64-bit types here; ``jax.enable_x64(True)`` is a context.

    >>> x64_enabled()
    False
    """
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def tuple_of(value: int | Sequence[int], length: int, who: str) -> tuple[int, ...]:
    """Spread one int over ``length`` axes, or check that a sequence has that length.

    >>> tuple_of(3, 2, "Conv2d: kernel_size")
    (3, 3)
    """
    if isinstance(value, int):
        return (value,) * length
    spread = tuple(int(v) for v in value)
    if len(spread) == 1:
        return spread * length
    if len(spread) != length:
        raise ValueError(f"{who} must be one int or {length} of them, got {value!r}.")
    return spread


def check_floating(x: Any, who: str) -> None:
    """Reject integer and bool inputs, which torch rejects and JAX would promote."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"{who}: expected a floating point input, got {x.dtype}. "
            "Convert it first: x.astype(jnp.float32)."
        )


def check_one_dtype(who: str, **arrays: Any) -> None:
    """Reject arrays of several dtypes, as torch does; None is left out.

    >>> check_one_dtype("conv2d", input=jnp.zeros(1), bias=jnp.zeros(1, int))
    Traceback (most recent call last):
    ...
    TypeError: conv2d: expected one dtype, got input float32, bias int32.
    """
    dtypes = {name: x.dtype for name, x in arrays.items() if x is not None}
    if len(set(dtypes.values())) > 1:
        shown = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"{who}: expected one dtype, got {shown}.")


def check_channels_last(x: Any, channels: int, spatial: int, who: str) -> None:
    """Check rank and channel count of a channels-last map; name the fix for a channels-first one.

    Raises:
        LayoutError: the rank does not fit or the last axis is not the channel axis.
    """
    if x.ndim not in (spatial + 1, spatial + 2):
        raise LayoutError(
            f"{who}: expected {spatial + 2} axes (batch, {spatial} spatial, channels) or "
            f"{spatial + 1} without the batch, got shape {tuple(x.shape)}."
        )
    if x.shape[-1] != channels:
        first = x.ndim - spatial - 1
        hint = (
            f" Axis {first} has that size: the input looks channels-first; "
            f"use jnp.moveaxis(x, {first}, -1)."
            if x.shape[first] == channels
            else ""
        )
        raise LayoutError(
            f"{who}: expected {channels} channels on the last axis, got shape "
            f"{tuple(x.shape)}.{hint}"
        )
