"""Fillings by chance: torch's distributions."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import ndtri

from fluxmod.nn.functional._half import compute_dtype

from ._fans import Filled, calculate_gain, checked, fan_in_and_fan_out, places

__all__ = [
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
]

Source = nnx.Rngs | nnx.RngStream | jax.Array


def uniform_(variable: Filled, a: float = 0.0, b: float = 1.0, *, rngs: Source) -> Filled:
    """Fill from U(a, b) and return the Variable; the twin of ``torch.nn.init.uniform_``.

    Args:
        rngs: ``nnx.Rngs`` (its 'params' stream), an ``nnx.RngStream`` or a key; torch has a
            ``generator`` in this place. So in all functions that draw.

    Raises:
        ValueError: ``a`` above ``b``.

    >>> drawn = uniform_(nnx.Param(jnp.zeros(99)), 2.0, 3.0, rngs=nnx.Rngs(0))[...]
    >>> bool(2 <= drawn.min() < drawn.max() <= 3)
    True

    Source: torch.nn.init.uniform_, PyTorch 2.13 documentation.
    """
    array = checked(variable, "uniform_")
    if not a <= b:
        raise ValueError(f"uniform_: a={a} must not exceed b={b}.")
    dtype = compute_dtype(array.dtype)
    drawn = jax.random.uniform(_key(rngs), array.shape, dtype, a, b)
    variable[...] = drawn.astype(array.dtype)
    return variable


def normal_(variable: Filled, mean: float = 0.0, std: float = 1.0, *, rngs: Source) -> Filled:
    """Fill from N(mean, std^2); the twin of ``torch.nn.init.normal_``.

    Raises:
        ValueError: a negative ``std``.

    >>> normal_(nnx.Param(jnp.zeros(2)), 3.0, 0.0, rngs=nnx.Rngs(0))[...].tolist()
    [3.0, 3.0]

    Source: torch.nn.init.normal_, PyTorch 2.13 documentation.
    """
    array = checked(variable, "normal_")
    if not std >= 0:
        raise ValueError(f"normal_: std must not be negative, got {std}.")
    drawn = jax.random.normal(_key(rngs), array.shape, compute_dtype(array.dtype))
    variable[...] = (drawn * std + mean).astype(array.dtype)
    return variable


def trunc_normal_(
    variable: Filled,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    *,
    rngs: Source,
) -> Filled:
    """Fill from N(mean, std^2) between ``a`` and ``b``; twin of ``torch.nn.init.trunc_normal_``.

    The bounds are values, not multiples of ``std``: with ``std=0.02`` the defaults cut nothing.

    Raises:
        ValueError: ``a`` not below ``b``; ``std`` not above 0.

    >>> drawn = trunc_normal_(nnx.Param(jnp.zeros(99)), b=0.5, rngs=nnx.Rngs(0))[...]
    >>> bool(-2 <= drawn.min() < drawn.max() <= 0.5)
    True

    Source: torch.nn.init.trunc_normal_, PyTorch 2.13 documentation.
    """
    array = checked(variable, "trunc_normal_")
    if not (a < b and std > 0):
        raise ValueError(f"trunc_normal_: a={a} must be below b={b}, and std={std} above 0.")
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            f"trunc_normal_: mean={mean} is more than 2 std from [{a}, {b}].", stacklevel=2
        )
    dtype = compute_dtype(array.dtype)
    # mirrored where the interval lies above the mean: small probabilities are exact, those near
    # one are not
    side = -1.0 if a + b > 2 * mean else 1.0
    low, high = sorted(_below(side * (edge - mean) / std) for edge in (a, b))
    share = jax.random.uniform(_key(rngs), array.shape, dtype)
    drawn = side * ndtri(share * (high - low) + low) * std + mean
    variable[...] = jnp.clip(drawn, a, b).astype(array.dtype)
    return variable


def _below(x: float) -> float:
    """The normal distribution function, exact far below 0."""
    return math.erfc(-x / math.sqrt(2)) / 2


def xavier_uniform_(
    variable: Filled, gain: float = 1.0, *, in_axis: int = -2, out_axis: int = -1, rngs: Source
) -> Filled:
    """Fill from U(-b, b), b = gain * sqrt(6 / (fan_in + fan_out)); ``torch.nn.init``'s twin.

    Args:
        in_axis, out_axis: as in ``fan_in_and_fan_out``.

    Raises:
        ValueError: fewer than 2 axes.

    >>> drawn = xavier_uniform_(nnx.Param(jnp.zeros((3, 3))), rngs=nnx.Rngs(0))[...]
    >>> bool(jnp.abs(drawn).max() <= 1)
    True

    Source: torch.nn.init.xavier_uniform_, PyTorch 2.13 documentation; Glorot and Bengio, 2010.
    """
    bound = math.sqrt(3) * _xavier(variable, gain, in_axis, out_axis)
    return uniform_(variable, -bound, bound, rngs=rngs)


def xavier_normal_(
    variable: Filled, gain: float = 1.0, *, in_axis: int = -2, out_axis: int = -1, rngs: Source
) -> Filled:
    """Fill from N(0, std^2), std = gain * sqrt(2 / (fan_in + fan_out)); ``torch.nn.init``'s twin.

    Arguments and errors as in ``xavier_uniform_``. As in torch nothing is cut off, where
    ``jax.nn.initializers.glorot_normal`` cuts at two standard deviations.

    Source: torch.nn.init.xavier_normal_, PyTorch 2.13 documentation; Glorot and Bengio, 2010.
    """
    return normal_(variable, 0.0, _xavier(variable, gain, in_axis, out_axis), rngs=rngs)


def _xavier(variable: Filled, gain: float, in_axis: int, out_axis: int) -> float:
    fans = sum(fan_in_and_fan_out(variable, in_axis=in_axis, out_axis=out_axis))
    return gain * math.sqrt(2 / max(fans, 1))


Mode = Literal["fan_in", "fan_out"]


def kaiming_uniform_(
    variable: Filled,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    in_axis: int = -2,
    out_axis: int = -1,
    rngs: Source,
) -> Filled:
    """Fill from U(-b, b), b = gain * sqrt(3 / fan); the twin of ``torch.nn.init.kaiming_uniform_``.

    Args:
        a: the negative slope of 'leaky_relu'.
        mode: which fan: 'fan_in' keeps the variance going forward, 'fan_out' going back.
        nonlinearity: what follows the weight, as in ``calculate_gain``.
        in_axis, out_axis: as in ``fan_in_and_fan_out``.

    Raises:
        ValueError: fewer than 2 axes; an unknown mode or nonlinearity.

    >>> kernel = nnx.Param(jnp.zeros((6, 5)))
    >>> drawn = kaiming_uniform_(kernel, nonlinearity="relu", rngs=nnx.Rngs(0))[...]
    >>> bool(jnp.abs(drawn).max() <= 1)
    True

    Source: torch.nn.init.kaiming_uniform_, PyTorch 2.13 documentation; He et al., 2015.
    """
    std = _kaiming(variable, a, mode, nonlinearity, in_axis, out_axis)
    if std is None:
        return variable
    return uniform_(variable, -math.sqrt(3) * std, math.sqrt(3) * std, rngs=rngs)


def kaiming_normal_(
    variable: Filled,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    in_axis: int = -2,
    out_axis: int = -1,
    rngs: Source,
) -> Filled:
    """Fill from N(0, gain^2 / fan); the twin of ``torch.nn.init.kaiming_normal_``.

    Arguments and errors as in ``kaiming_uniform_``. As in torch nothing is cut off.

    Source: torch.nn.init.kaiming_normal_, PyTorch 2.13 documentation; He et al., 2015.
    """
    std = _kaiming(variable, a, mode, nonlinearity, in_axis, out_axis)
    return variable if std is None else normal_(variable, 0.0, std, rngs=rngs)


def _kaiming(
    variable: Filled, a: float, mode: str, nonlinearity: str, in_axis: int, out_axis: int
) -> float | None:
    """The standard deviation; None where there is nothing to fill, which torch warns of."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {mode!r}.")
    fans = fan_in_and_fan_out(variable, in_axis=in_axis, out_axis=out_axis)
    gain = calculate_gain(nonlinearity, a)
    if not variable[...].size:
        warnings.warn("kaiming: there is nothing to fill in an empty array.", stacklevel=3)
        return None
    return gain / math.sqrt(fans[mode == "fan_out"])


def orthogonal_(
    variable: Filled, gain: float = 1, *, in_axis: int = -2, out_axis: int = -1, rngs: Source
) -> Filled:
    """Fill with a matrix whose rows or columns are orthonormal; ``torch.nn.init.orthogonal_``.

    The matrix has a row for each output and a column for each number that goes into it.

    Args:
        gain: a factor for all.
        in_axis, out_axis: as in ``fan_in_and_fan_out``.

    Raises:
        ValueError: fewer than 2 axes.

    >>> kernel = orthogonal_(nnx.Param(jnp.zeros((4, 2))), rngs=nnx.Rngs(0))[...]
    >>> bool(jnp.allclose(kernel.T @ kernel, jnp.eye(2), atol=1e-6))
    True

    Source: torch.nn.init.orthogonal_, PyTorch 2.13 documentation; Saxe et al., 2013.
    """
    array = checked(variable, "orthogonal_", (2, 64))
    order = places(array, in_axis, out_axis, "orthogonal_")
    if not array.size:
        return variable
    shape = tuple(array.shape[i] for i in order)
    rows, columns = shape[0], math.prod(shape[1:])
    sizes = (max(rows, columns), min(rows, columns))
    q, r = jnp.linalg.qr(jax.random.normal(_key(rngs), sizes, compute_dtype(array.dtype)))
    q = q * jnp.sign(jnp.diag(r))[None]  # every orthogonal matrix is then equally likely
    filled = (q.T if rows < columns else q).reshape(shape) * gain
    variable[...] = filled.transpose(np.argsort(order)).astype(array.dtype)
    return variable


def sparse_(
    variable: Filled,
    sparsity: float,
    std: float = 0.01,
    *,
    in_axis: int = -2,
    out_axis: int = -1,
    rngs: Source,
) -> Filled:
    """Fill a matrix from N(0, std^2) with zeros in between; the twin of ``torch.nn.init.sparse_``.

    Args:
        sparsity: the fraction of each input's weights that is zero, rounded up.
        in_axis, out_axis: as in ``fan_in_and_fan_out``.

    Raises:
        ValueError: another number of axes than 2; ``sparsity`` outside [0, 1].

    >>> kernel = sparse_(nnx.Param(jnp.zeros((3, 4))), 0.5, rngs=nnx.Rngs(0))[...]
    >>> (kernel == 0).sum(1).tolist()
    [2, 2, 2]

    Source: torch.nn.init.sparse_, PyTorch 2.13 documentation; Martens, 2010.
    """
    array = checked(variable, "sparse_", (2, 2))
    order = places(array, in_axis, out_axis, "sparse_")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: sparsity must be between 0 and 1, got {sparsity}.")
    outputs, inputs = (array.shape[i] for i in order)
    which, values = jax.random.split(_key(rngs))
    rank = jnp.argsort(jax.random.uniform(which, (outputs, inputs)), axis=0)
    drawn = jax.random.normal(values, (outputs, inputs), compute_dtype(array.dtype)) * std
    filled = jnp.where(rank < math.ceil(sparsity * outputs), 0, drawn)
    variable[...] = filled.transpose(np.argsort(order)).astype(array.dtype)
    return variable


def _key(rngs: Any) -> jax.Array:
    source = rngs.params if isinstance(rngs, nnx.Rngs) else rngs
    return source() if isinstance(source, nnx.RngStream) else source
