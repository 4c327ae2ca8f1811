"""One matrix product for each group of rows or columns.

``torch.nn.functional.scaled_mm`` and ``scaled_grouped_mm`` have no twin: they multiply 8 and 4-bit
numbers in the formats and with the blocks of scales of particular GPU kernels, and XLA chooses
such kernels by itself for a product of scaled arrays.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fluxmod.nn._check import check_floating, check_one_dtype
from fluxmod.nn._checked import concrete

from ._half import compute_dtype

__all__ = ["grouped_mm"]

# G groups, M rows, K inner, N columns


def grouped_mm(
    mat_a: jax.Array,
    mat_b: jax.Array,
    *,
    offs: jax.Array | None = None,
    bias: None = None,
    out_dtype: Any = None,
    precision: Any = None,
) -> jax.Array:
    """Multiply group by group; the twin of ``torch.nn.functional.grouped_mm``.

    Shape:
        (M, K) x (G, K, N) -> (M, N): each group has its rows of ``mat_a``;
        (G, M, K) x (K, N) -> (M, N): each group has its columns of ``mat_b``;
        (M, K) x (K, N) -> (G, M, N): each group has its part of the inner axis;
        (G, M, K) x (G, K, N) -> (G, M, N), without ``offs``.

    Args:
        offs: (G), where each group ends, increasing; what follows the last end counts for nothing
            and gives zeros.
        bias: None; torch has none either so far.
        out_dtype: dtype of the result, and what is computed in; the operands' unless given.

    Raises:
        TypeError: operands that are not of floats, or of two dtypes; ends that are not integers.
        ValueError: shapes that do not fit; missing or surplus ``offs``; ends that decrease or
            exceed the axis, where they are known; a ``bias``.

    Takes every size, and float64 too, where torch's kernels ask for multiples of 16 bytes.

    >>> a, b = jnp.ones((5, 4)), jnp.ones((2, 4, 3))
    >>> grouped_mm(a, b, offs=jnp.array([2, 5])).shape
    (5, 3)

    Source: torch.nn.functional.grouped_mm, PyTorch 2.13 documentation.
    """
    who = "grouped_mm"
    _check(mat_a, mat_b, offs, bias)
    dtype = mat_a.dtype if out_dtype is None else out_dtype
    wide = compute_dtype(jnp.dtype(dtype))
    if offs is None:
        out = jnp.matmul(mat_a, mat_b, precision=precision, preferred_element_type=wide)
        return out.astype(dtype)
    length = mat_a.shape[0] if mat_b.ndim == 3 else mat_b.shape[int(mat_a.ndim == 3)]
    known = concrete(offs)
    if known is not None and known.size and ((known[1:] < known[:-1]).any() or known[-1] > length):
        raise ValueError(
            f"{who}: offs must increase and not exceed the {length} of the axis in groups, got "
            f"{known.tolist()}."
        )
    sizes = jnp.diff(offs, prepend=0).astype(jnp.int32)
    if mat_b.ndim == 3:
        out = _rows(mat_a, mat_b, sizes, precision, wide)
    elif mat_a.ndim == 3:
        out = _rows(mat_b.T, jnp.swapaxes(mat_a, 1, 2), sizes, precision, wide).T
    else:
        out = _inner(mat_a, mat_b, sizes, precision, wide)
    return out.astype(dtype)


def _rows(a: jax.Array, b: jax.Array, sizes: jax.Array, precision: Any, dtype: Any) -> jax.Array:
    return lax.ragged_dot(a, b, sizes, precision=precision, preferred_element_type=dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _inner(a: jax.Array, b: jax.Array, sizes: jax.Array, precision: Any, dtype: Any) -> jax.Array:
    return lax.ragged_dot_general(
        a, b, sizes, _INNER, precision=precision, preferred_element_type=dtype
    )


def _inner_forward(
    a: jax.Array, b: jax.Array, sizes: jax.Array, precision: Any, dtype: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    return _inner(a, b, sizes, precision, dtype), (a, b, sizes)


def _inner_backward(
    precision: Any, dtype: Any, kept: tuple[jax.Array, jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    """Both gradients are products by rows, which XLA has and this form's own rule lacks."""
    a, b, sizes = kept
    of_group = cotangent.astype(a.dtype)
    to_a = _rows(b, jnp.swapaxes(of_group, 1, 2), sizes, precision, dtype).T
    to_b = _rows(a.T, of_group, sizes, precision, dtype)
    return to_a.astype(a.dtype), to_b.astype(b.dtype), None


_inner.defvjp(_inner_forward, _inner_backward)

_INNER = lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((1,), (0,)), ((), ())),
    lhs_ragged_dimensions=(1,),
    rhs_group_dimensions=(),
)


def _check(a: jax.Array, b: jax.Array, offs: jax.Array | None, bias: Any) -> None:
    who = "grouped_mm"
    check_floating(a, who)
    check_one_dtype(who, mat_a=a, mat_b=b)
    shapes = f"mat_a {tuple(a.shape)}, mat_b {tuple(b.shape)}"
    problems = []
    if bias is not None:
        problems.append("a bias is not supported; add it to the result")
    if not {a.ndim, b.ndim} <= {2, 3}:
        problems.append("both operands must have 2 or 3 axes")
    else:
        if a.shape[-1] != b.shape[-2]:
            problems.append("the last axis of mat_a must have the size of mat_b's last but one")
        both = a.ndim == b.ndim == 3
        groups = a.shape[0] if a.ndim == 3 else b.shape[0] if b.ndim == 3 else None
        if both and a.shape[0] != b.shape[0]:
            problems.append("two operands of 3 axes must have equally many groups")
        if both != (offs is None):
            problems.append("offs are needed unless both operands have 3 axes")
        elif offs is not None and (offs.ndim != 1 or groups not in (None, offs.shape[0])):
            problems.append(f"offs must hold one end for each group, got {tuple(offs.shape)}")
    if problems:
        raise ValueError(f"{who}: {'; '.join(problems)}. Got {shapes}.")
    if offs is not None and not jnp.issubdtype(offs.dtype, jnp.integer):
        raise TypeError(f"{who}: offs must be integers, got {offs.dtype}.")
