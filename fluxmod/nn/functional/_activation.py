"""Activations made of straight pieces; values and gradients at the kinks are torch's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxmod.nn._check import check_floating

from ._half import compute_dtype

__all__ = [
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "prelu",
    "relu",
    "relu6",
    "softshrink",
    "threshold",
]

P = ParamSpec("P")
Activation = Callable[Concatenate[jax.Array, P], jax.Array]


def elementwise(integers: str = "refuse") -> Callable[[Activation[P]], Activation[P]]:
    """Compute half precision in float32 and cast back, as torch's kernels do.

    Args:
        integers: 'refuse' raises as torch does, 'keep' returns the input's integer dtype,
            'promote' returns float32.
    """

    def decorate(function: Activation[P]) -> Activation[P]:
        @functools.wraps(function)
        def wrapper(input: jax.Array, *args: P.args, **kwargs: P.kwargs) -> jax.Array:
            number = not jnp.issubdtype(input.dtype, jnp.bool_)
            if integers == "promote" and not jnp.issubdtype(input.dtype, jnp.inexact):
                input = input.astype(jnp.float32)
            elif integers == "keep" and number and jnp.issubdtype(input.dtype, jnp.integer):
                return function(input, *args, **kwargs).astype(input.dtype)
            check_floating(input, function.__name__)
            wide = input.astype(compute_dtype(input.dtype))
            return function(wide, *args, **kwargs).astype(input.dtype)

        return wrapper  # type: ignore[return-value]  # the same call

    return decorate


@elementwise(integers="keep")
def relu(input: jax.Array, inplace: bool = False) -> jax.Array:
    """Zero what is negative; the twin of ``torch.nn.functional.relu``.

    >>> relu(jnp.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]

    Source: torch.nn.functional.relu, PyTorch 2.13 documentation.
    """
    return jnp.where(input <= 0, 0, input)  # NaN passes, and so does its gradient


@elementwise(integers="keep")
def hardtanh(
    input: jax.Array, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> jax.Array:
    """Limit to [min_val, max_val]; the twin of ``torch.nn.functional.hardtanh``.

    The gradient is zero at both bounds.

    Raises:
        ValueError: ``min_val`` above ``max_val``.

    >>> hardtanh(jnp.array([-3.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]

    Source: torch.nn.functional.hardtanh, PyTorch 2.13 documentation.
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val={min_val} must not exceed max_val={max_val}.")
    return jnp.where(input <= min_val, min_val, jnp.where(input >= max_val, max_val, input))


def relu6(input: jax.Array, inplace: bool = False) -> jax.Array:
    """Limit to [0, 6]; the twin of ``torch.nn.functional.relu6``.

    >>> relu6(jnp.array([-3.0, 5.0, 7.0])).tolist()
    [0.0, 5.0, 6.0]

    Source: torch.nn.functional.relu6, PyTorch 2.13 documentation.
    """
    return hardtanh(input, 0.0, 6.0)


@elementwise()
def leaky_relu(input: jax.Array, negative_slope: float = 0.01, inplace: bool = False) -> jax.Array:
    """Scale what is not positive; the twin of ``torch.nn.functional.leaky_relu``.

    The gradient at 0 is ``negative_slope``.

    >>> leaky_relu(jnp.array([-2.0, 3.0]), 0.5).tolist()
    [-1.0, 3.0]

    Source: torch.nn.functional.leaky_relu, PyTorch 2.13 documentation.
    """
    return jnp.where(input > 0, input, input * negative_slope)


def prelu(input: jax.Array, weight: jax.Array, *, channels_last: bool | None = None) -> jax.Array:
    """Scale what is not positive by a learnt slope; the twin of ``torch.nn.functional.prelu``.

    Shape:
        weight: a scalar, (1,), or one slope per channel.

    Args:
        channels_last: the channels are on the last axis; False takes axis 1, as torch does. None
            means True for arrays of rank 4 and 5, which are feature maps, and False otherwise.

    Raises:
        ValueError: as many slopes as the channel axis has not.

    >>> prelu(jnp.array([[-2.0, -2.0]]), jnp.array([0.5, 0.25])).tolist()
    [[-1.0, -0.5]]

    Source: torch.nn.functional.prelu, PyTorch 2.13 documentation.
    """
    check_floating(input, "prelu")
    if channels_last is None:
        channels_last = input.ndim in (4, 5)
    axis = -1 if channels_last else 1
    channels = input.shape[axis] if input.ndim > 1 else 1
    if weight.ndim > 1 or (weight.size != 1 and (input.ndim == 0 or weight.size != channels)):
        raise ValueError(
            f"prelu: expected one slope or one per channel, got weight shape "
            f"{tuple(weight.shape)} for {channels} channels on axis {axis} of input shape "
            f"{tuple(input.shape)}."
        )
    shape = [1] * input.ndim
    if weight.size != 1:
        shape[axis] = channels
    wide = compute_dtype(input.dtype)
    x, slope = input.astype(wide), weight.astype(wide).reshape(shape)
    return jnp.where(x > 0, x, x * slope).astype(input.dtype)


@elementwise(integers="keep")
def threshold(input: jax.Array, threshold: float, value: float, inplace: bool = False) -> jax.Array:
    """Replace what is not above ``threshold``; the twin of ``torch.nn.functional.threshold``.

    >>> threshold(jnp.array([0.1, 0.2]), 0.1, 20.0).tolist()
    [20.0, 0.20000000298023224]

    Source: torch.nn.functional.threshold, PyTorch 2.13 documentation.
    """
    return jnp.where(input <= threshold, value, input)


@elementwise()
def hardswish(input: jax.Array, inplace: bool = False) -> jax.Array:
    """Compute ``x * relu6(x + 3) / 6``; the twin of ``torch.nn.functional.hardswish``.

    >>> hardswish(jnp.array([-3.0, 0.0, 3.0])).tolist()
    [-0.0, 0.0, 3.0]

    Source: torch.nn.functional.hardswish, PyTorch 2.13 documentation.
    """
    below, inside = input <= -3, (input > -3) & (input < 3)
    x = jnp.where(inside, input, 0)
    zero = lax.stop_gradient(input) * 0  # NaN for -inf, as in torch
    return jnp.where(inside, x * (x + 3) / 6, jnp.where(below, zero, input))


_SIXTH = float(np.float32(1) / np.float32(6))


@elementwise()
def hardsigmoid(input: jax.Array, inplace: bool = False) -> jax.Array:
    """Compute ``relu6(x + 3) / 6``; the twin of ``torch.nn.functional.hardsigmoid``.

    >>> hardsigmoid(jnp.array([-3.0, 0.0, 3.0])).tolist()
    [0.0, 0.5, 1.0]

    Source: torch.nn.functional.hardsigmoid, PyTorch 2.13 documentation.
    """
    # torch's gradient is the float32 value of 1/6 in every dtype
    fixed = lax.stop_gradient(input)
    inside = (input > -3) & (input < 3)
    step = jnp.where(inside, input, fixed) - fixed
    step = jnp.where(inside, step, 0) * _SIXTH
    return jnp.where(fixed <= -3, 0, jnp.where(fixed >= 3, 1, (fixed + 3) / 6)) + step


@elementwise()
def hardshrink(input: jax.Array, lambd: float = 0.5) -> jax.Array:
    """Zero [-lambd, lambd]; the twin of ``torch.nn.functional.hardshrink``.

    >>> hardshrink(jnp.array([-1.0, 0.5, 1.0])).tolist()
    [-1.0, 0.0, 1.0]

    Source: torch.nn.functional.hardshrink, PyTorch 2.13 documentation.
    """
    return jnp.where((input >= -lambd) & (input <= lambd), 0, input)


@elementwise()
def softshrink(input: jax.Array, lambd: float = 0.5) -> jax.Array:
    """Move towards zero by ``lambd``; the twin of ``torch.nn.functional.softshrink``.

    Raises:
        ValueError: a negative ``lambd``.

    >>> softshrink(jnp.array([-1.0, 0.5, 1.0])).tolist()
    [-0.5, 0.0, 0.5]

    Source: torch.nn.functional.softshrink, PyTorch 2.13 documentation.
    """
    if lambd < 0:
        raise ValueError(f"softshrink: lambd must not be negative, got {lambd}.")
    moved = jnp.where(input > 0, input - lambd, input + lambd)
    return jnp.where((input >= -lambd) & (input <= lambd), 0, moved)
