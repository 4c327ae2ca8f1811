"""Affine maps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fluxmod.nn._lowering import rows_times

from ._half import add_bias

__all__ = ["bilinear", "linear"]


def linear(
    input: jax.Array, kernel: jax.Array, bias: jax.Array | None = None, *, precision: Any = None
) -> jax.Array:
    """Compute ``input @ kernel + bias``; the twin of ``torch.nn.functional.linear``.

    Shape:
        input: (*, in_features); kernel: (in_features, out_features), the transpose of torch's
        weight; bias: (out_features,); returns (*, out_features).

    >>> linear(jnp.ones((5, 3)), jnp.ones((3, 2))).shape
    (5, 2)

    Source: torch.nn.functional.linear, PyTorch 2.13 documentation.
    """
    if input.ndim == 0 or input.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"linear: expected {kernel.shape[0]} features on the last axis, got shape "
            f"{tuple(input.shape)}."
        )
    product = rows_times(input, kernel, precision=precision)
    return add_bias(product, bias)


def bilinear(
    input1: jax.Array,
    input2: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    precision: Any = None,
) -> jax.Array:
    """Compute ``input1^T kernel[o] input2 + bias`` for every output ``o``.

    Shape:
        input1: (*, in1), input2: (*, in2) with equal leading axes; kernel: (out, in1, in2);
        returns (*, out).

    >>> bilinear(jnp.ones((5, 3)), jnp.ones((5, 4)), jnp.ones((2, 3, 4))).shape
    (5, 2)

    Source: torch.nn.functional.bilinear, PyTorch 2.13 documentation.
    """
    wanted = kernel.shape[1:]
    got = (input1.shape[-1], input2.shape[-1])
    if got != wanted or input1.shape[:-1] != input2.shape[:-1]:
        raise ValueError(
            f"bilinear: expected inputs (*, {wanted[0]}) and (*, {wanted[1]}) with equal leading "
            f"axes, got shapes {tuple(input1.shape)} and {tuple(input2.shape)}."
        )
    product = jnp.einsum("...i,oij,...j->...o", input1, kernel, input2, precision=precision)
    return add_bias(product, bias)
