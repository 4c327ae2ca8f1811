"""Convolution over channels-last arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

__all__ = ["conv_general"]

_LETTERS = {1: "H", 2: "HW", 3: "DHW"}


def conv_general(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    precision: Any,
) -> jax.Array:
    """Cross-correlate (N, *spatial, I) with (*k, I/groups, O); explicit padding pairs.

    Shape:
        returns (N, *spatial', O).
    """
    space = _LETTERS[x.ndim - 2]
    return lax.conv_general_dilated(
        x,
        kernel,
        tuple(strides),
        tuple(padding),
        rhs_dilation=tuple(dilation),
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=groups,
        precision=precision,
    )
