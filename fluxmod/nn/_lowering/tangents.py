"""A convolution whose derivatives are written otherwise than the convolution itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["with_tangents"]

Convolution = Callable[[jax.Array, jax.Array, Any, Any], jax.Array]
"""``f(x, kernel, shape, precision)``, linear in ``x`` and in ``kernel``."""


def with_tangents(
    forward: Convolution, *, by_kernel: Convolution, by_input: Convolution | None = None
) -> Convolution:
    """Return ``forward``, differentiated as if it were the others, which give the same numbers.

    Gradients are the transposes of tangents: the kernel's that of ``by_kernel``, the input's that
    of ``by_input``, or of ``forward``.
    """

    @functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
    def convolution(x: jax.Array, kernel: jax.Array, shape: Any, precision: Any) -> jax.Array:
        return forward(x, kernel, shape, precision)

    @convolution.defjvp
    def tangent(shape: Any, precision: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
        x, kernel = primals
        dx, dkernel = tangents
        moved = (by_input or convolution)(dx, kernel, shape, precision)
        out = convolution(x, kernel, shape, precision)
        return out, moved + by_kernel(x, dkernel, shape, precision)

    return convolution
